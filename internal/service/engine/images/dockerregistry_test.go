package images

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/registry"
	"golang.org/x/crypto/bcrypt"
)

// dockerRegistry starts Debian's docker-registry with Basic authentication on a loopback port.
func dockerRegistry(t *testing.T, user, password string) (host string) {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("no docker-registry (Debian package docker-registry)")
	}
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "htpasswd"), []byte(user+":"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = l.Addr().String()
	_ = l.Close()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: %s}\nauth: {htpasswd: {realm: test, path: %s/htpasswd}}\n", dir, host, dir)
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "serve", file)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; {
		resp, err := http.Get("http://" + host + "/v2/") //nolint:noctx // a probe
		if err == nil {
			_ = resp.Body.Close()
			return host
		}
		if time.Now().After(deadline) {
			t.Fatalf("docker-registry did not start: %v\n%s", err, said.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestDockerRegistry pushes to and pulls from the registry that others use: real uploads, mounts and authentication.
func TestDockerRegistry(t *testing.T) {
	needRoot(t)
	host := dockerRegistry(t, "ann", "secret")
	auth := &registry.AuthConfig{Username: "ann", Password: "secret"}
	a, b := newRig(t, Config{}), newRig(t, Config{})
	ref := pushed(t, a, host, auth)
	if err := b.Pull(t.Context(), PullOptions{Image: ref, Auth: auth}, func(any) error { return nil }); err != nil {
		t.Fatal(err)
	}
	x, _ := a.Resolve(t.Context(), ref, nil)
	y, err := b.Resolve(t.Context(), ref, nil)
	if err != nil || x.ID != y.ID {
		t.Fatalf("%s became %s: %v", x.ID, y.ID, err)
	}
	if err := b.Tag(t.Context(), ref, host+"/other/name", "v1"); err != nil {
		t.Fatal(err)
	}
	var out []string
	if err := b.Push(t.Context(), PushOptions{Image: host + "/other/name", Tag: "v1", Auth: auth}, collect(t, &out)); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(out, "\n"); !strings.Contains(text, "Mounted from team/app") || strings.Contains(text, `"Pushed"`) {
		t.Errorf("layers were sent again:\n%s", text)
	}
	if err := b.Pull(t.Context(), PullOptions{Image: ref}, func(any) error { return nil }); err == nil || !strings.Contains(err.Error(), "no basic auth credentials") {
		t.Errorf("pull without credentials: %v", err)
	}
	if err := b.Pull(t.Context(), PullOptions{Image: host + "/team/app", Tag: "none", Auth: auth}, func(any) error { return nil }); err == nil || err.Error() != "manifest for "+host+"/team/app:none not found: manifest unknown: manifest unknown" {
		t.Errorf("%v", err)
	}
	if _, _, err := a.CheckAuth(t.Context(), registry.AuthConfig{Username: "ann", Password: "bad", ServerAddress: host}); err == nil || !strings.HasPrefix(err.Error(), `Get "http://`+host+`/v2/": unauthorized: authentication required`) {
		t.Errorf("%v", err)
	}
	if sk, err := exec.LookPath("skopeo"); err == nil {
		raw, err := exec.CommandContext(t.Context(), sk, "inspect", "--tls-verify=false", "--creds", "ann:secret", "--format", "{{.Digest}}", "docker://"+ref).CombinedOutput()
		if err != nil || strings.TrimSpace(string(raw)) != x.ID.String() {
			t.Errorf("skopeo: %s %v, want %s", raw, err, x.ID)
		}
	}
}
