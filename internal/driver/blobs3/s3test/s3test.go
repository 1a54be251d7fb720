// Package s3test runs a real S3 server for tests: versitygw on loopback, over a temporary directory.
package s3test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"longshore/internal/driver/blobs3"
)

// Start runs a server until the test ends and makes a bucket, or skips the test. versitygw v1.8.0 is looked for in PATH
// and in bin below the temporary directory:
//
//	GOBIN=/tmp/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
func Start(t testing.TB) blobs3.Config {
	t.Helper()
	bin, err := exec.LookPath("versitygw")
	if err != nil {
		bin = filepath.Join(os.TempDir(), "bin", "versitygw")
		if _, err := os.Stat(bin); err != nil {
			bin = "/tmp/bin/versitygw"
		}
	}
	if _, err := os.Stat(bin); err != nil {
		t.Skip("versitygw is not installed (see s3test.Start)")
	}
	dir, err := os.MkdirTemp("", "lss3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, sub := range []string{"root", "meta"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	address := freeAddress(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(bin, "--port", address, "--access", "registry", "--secret", "registry-secret", "--quiet", "--keep-alive",
		"posix", "--sidecar", filepath.Join(dir, "meta"), filepath.Join(dir, "root"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	c := blobs3.Config{Endpoint: address, Region: "us-east-1", Bucket: "registry", AccessKey: "registry",
		SecretKey: "registry-secret", Insecure: true, PathStyle: true}
	makeBucket(t, c, log.Name())
	return c
}

// Client is a plain client of the server.
func Client(t testing.TB, c blobs3.Config) *minio.Client {
	t.Helper()
	client, err := minio.New(c.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Region: c.Region})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func makeBucket(t testing.TB, c blobs3.Config, log string) {
	t.Helper()
	client := Client(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := client.MakeBucket(ctx, c.Bucket, minio.MakeBucketOptions{Region: c.Region})
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(log)
			t.Fatalf("versitygw does not answer: %v\n%s", err, text)
		case <-tick.C:
		}
	}
}
