package blobs3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
	"longshore/internal/core/blob/blobtest"
	"longshore/internal/driver/blobs3"
	"longshore/internal/driver/blobs3/s3test"
)

func open(t testing.TB, c blobs3.Config) *blobs3.Store {
	t.Helper()
	s, err := blobs3.New(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	c := s3test.Start(t)
	client := s3test.Client(t, c)
	n := 0
	blobtest.Run(t, func(t *testing.T) blobtest.Rig {
		n++
		c := c
		c.Prefix = fmt.Sprintf("p%d/registry", n)
		return blobtest.Rig{
			Store:     open(t, c),
			Reopen:    func() blob.Store { return open(t, c) },
			Leftovers: func() int { return leftovers(t, client, c) },
			Big:       9 << 20,
		}
	})
}

func leftovers(t *testing.T, client *minio.Client, c blobs3.Config) (n int) {
	t.Helper()
	for o := range client.ListObjects(context.Background(), c.Bucket, minio.ListObjectsOptions{Prefix: c.Prefix + "/uploads/", Recursive: true}) {
		t.Log("left:", o.Key, o.Err)
		n++
	}
	for u := range client.ListIncompleteUploads(context.Background(), c.Bucket, c.Prefix, true) {
		t.Log("left:", u.Key, u.Err)
		n++
	}
	return n
}

// TestURL: anyone may GET the blob from the address.
func TestURL(t *testing.T) {
	s := open(t, s3test.Start(t))
	data := []byte("a public blob")
	d := digest.FromBytes(data)
	if _, err := s.Put(context.Background(), d, -1, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	url, err := s.URL(context.Background(), d, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, data) {
		t.Fatal(resp.Status, err)
	}
}

// TestNewRefuses a bucket that is not there, and configurations that lack something.
func TestNewRefuses(t *testing.T) {
	c := s3test.Start(t)
	c.Bucket = "absent"
	if _, err := blobs3.New(context.Background(), c); !errdefs.IsNotFound(err) {
		t.Fatalf("got %v", err)
	}
	for _, c := range []blobs3.Config{{}, {Bucket: "b"}, {Endpoint: "localhost"}} {
		if _, err := blobs3.New(context.Background(), c); err == nil {
			t.Fatalf("%+v was accepted", c)
		}
	}
}

// TestServerGone: an error of the service is not "not found".
func TestServerGone(t *testing.T) {
	c := s3test.Start(t)
	s := open(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Stat(ctx, digest.FromString("x")); err == nil || errdefs.IsNotFound(err) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// watched is a transport that shows every request to look.
type watched struct{ look func(*http.Request) }

// RoundTrip implements http.RoundTripper.
func (w watched) RoundTrip(r *http.Request) (*http.Response, error) {
	w.look(r)
	return http.DefaultTransport.RoundTrip(r)
}

// TestEmptyBlobHasNoBody: bytes behind "Content-Length: 0" would be taken for the connection's next request, and that
// request would fail.
func TestEmptyBlobHasNoBody(t *testing.T) {
	c := s3test.Start(t)
	c.Transport = watched{func(r *http.Request) {
		if r.Method == http.MethodPut && r.ContentLength == 0 && r.Body != nil && r.Body != http.NoBody {
			t.Errorf("%s %s has a body of no length", r.Method, r.URL)
		}
	}}
	s := open(t, c)
	ctx := context.Background()
	for _, d := range []digest.Digest{digest.FromBytes(nil), digest.SHA512.FromBytes(nil)} {
		for _, size := range []int64{0, -1} {
			if _, err := s.Put(ctx, d, size, bytes.NewReader(nil)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Begin(ctx, "empty", d.Algorithm()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Commit(ctx, "empty", d); err != nil {
			t.Fatal(err)
		}
	}
	// The connection is good for more.
	for i := range 50 {
		data := fmt.Appendf(nil, "%d", i)
		if _, err := s.Put(ctx, digest.FromBytes(data), -1, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(ctx, digest.FromBytes(nil), 0, bytes.NewReader(nil)); err != nil {
			t.Fatal(err)
		}
	}
}
