package buildkit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"longshore/test/harness"
)

// registry is the address of the registry that runs in the daemon's process.
const registry = "127.0.0.1:5000"

// credentials are what the client's session says when it is asked for some.
type credentials struct {
	auth.UnimplementedAuthServer
	user, secret string
}

func (c credentials) Register(s *grpc.Server) { auth.RegisterAuthServer(s, c) }

func (c credentials) Credentials(_ context.Context, r *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	if r.Host != registry {
		return &auth.CredentialsResponse{}, nil
	}
	return &auth.CredentialsResponse{Username: c.user, Secret: c.secret}, nil
}

func (c credentials) GetTokenAuthority(context.Context, *auth.GetTokenAuthorityRequest) (*auth.GetTokenAuthorityResponse, error) {
	return nil, status.Error(codes.Unavailable, "none")
}

func (c credentials) VerifyTokenAuthority(context.Context, *auth.VerifyTokenAuthorityRequest) (*auth.VerifyTokenAuthorityResponse, error) {
	return nil, status.Error(codes.Unavailable, "none")
}

// startWithRegistry runs engine and registry in one process; only alice may use the registry.
func startWithRegistry(t *testing.T) *harness.Daemon {
	t.Helper()
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.json")
	d := harness.New(t, "--registry-config", config)
	for path, text := range map[string]string{
		filepath.Join(dir, "htpasswd"): fmt.Sprintf("alice:%s\n", hash),
		config: fmt.Sprintf(`{"storage": {"rootDirectory": %q}, "http": {"address": "127.0.0.1", "port": "5000", "auth": {"htpasswd": {"path": %q}, "failDelay": 0},
			"accessControl": {"repositories": {"**": {"policies": [{"users": ["alice"], "actions": ["read", "create", "update", "delete"]}]}}}},
			"log": {"level": "error", "output": %q}}`, filepath.Join(d.Dir, "registry"), filepath.Join(dir, "htpasswd"), filepath.Join(d.Dir, "registry.log")),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.Command = "serve"
	d.Up()
	d.Busybox()
	return d
}

func TestRegistry(t *testing.T) {
	d := startWithRegistry(t)
	c := connect(t, d)
	alice := []session.Attachable{credentials{user: "alice", secret: "secret"}}
	r := d.DockerIn(strings.NewReader("secret"), "login", "-u", "alice", "--password-stdin", registry)
	if r.Code != 0 {
		t.Fatal(r.Err)
	}
	random := lines("FROM busybox", "RUN cat /proc/sys/kernel/random/uuid > /random", `CMD ["cat","/random"]`)
	var value string
	t.Run("push", func(t *testing.T) {
		name := registry + "/team/app:1"
		opt := options(t, random, nil)
		opt.Session = alice
		opt.Exports = []client.ExportEntry{{Type: "image", Attrs: map[string]string{"name": name, "push": "true"}}}
		s := must(t, c, opt)
		digest := s.resp.ExporterResponse["containerimage.digest"]
		value = d.OK("run", "--rm", name)
		if out := d.OK("push", name); !strings.Contains(out, digest) {
			t.Errorf("docker push says %s, the build %s", out, digest)
		}
		d.OK("rmi", "-f", name)
		if out := d.OK("pull", name); !strings.Contains(out, digest) {
			t.Errorf("docker pull says %s, the build %s", out, digest)
		}
		if got := d.OK("run", "--rm", name); got != value {
			t.Errorf("the pulled image says %q, the built one %q", got, value)
		}
		opt.Session = nil
		opt.Exports[0].Attrs["name"] = registry + "/team/app:2"
		if s := solve(t.Context(), t, c, opt); s.err == nil {
			t.Error("pushed without credentials")
		}
	})
	t.Run("base", func(t *testing.T) {
		d.OK("rmi", "-f", registry+"/team/app:1")
		d.OK("builder", "prune", "-af")
		opt := options(t, lines("FROM "+registry+"/team/app:1", "RUN echo base says $(cat /random)"), nil)
		opt.Session = alice
		if s := must(t, c, opt); !strings.Contains(s.log, "base says "+value) {
			t.Errorf("log: %s", s.log)
		}
		d.OK("builder", "prune", "-af")
		opt.Session = nil
		if s := solve(t.Context(), t, c, opt); s.err == nil {
			t.Error("a private base was read without credentials")
		}
	})
	for kind, export := range map[string]client.CacheOptionsEntry{
		"registry": {Type: "registry", Attrs: map[string]string{"ref": registry + "/team/cache:1", "mode": "max"}},
		"inline":   {Type: "inline"},
	} {
		t.Run(kind+" cache", func(t *testing.T) { testRegistryCache(t, d, c, alice, export) })
	}
}

// testRegistryCache writes a cache, loses the local one, and builds from what was written.
func testRegistryCache(t *testing.T, d *harness.Daemon, c *client.Client, who []session.Attachable, export client.CacheOptionsEntry) {
	name := registry + "/team/cached-" + export.Type + ":1"
	opt := options(t, lines("FROM busybox", "RUN echo "+export.Type+"; cat /proc/sys/kernel/random/uuid > /random", `CMD ["cat","/random"]`), nil)
	opt.Session = who
	opt.Exports = []client.ExportEntry{{Type: "image", Attrs: map[string]string{"name": name, "push": "true"}}}
	opt.CacheExports = []client.CacheOptionsEntry{export}
	first := must(t, c, opt)
	want := d.OK("run", "--rm", name)
	d.OK("rmi", "-f", name)
	d.OK("builder", "prune", "-af")
	from := export.Attrs["ref"]
	if from == "" {
		from = name
	}
	opt.CacheExports = nil
	opt.CacheImports = []client.CacheOptionsEntry{{Type: "registry", Attrs: map[string]string{"ref": from}}}
	opt.Exports = image("docker.io/library/again:" + export.Type)
	s := must(t, c, opt)
	if got := d.OK("run", "--rm", "again:"+export.Type); got != want || !strings.Contains(s.log, "CACHED") {
		t.Errorf("built again: %q instead of %q\n%s%s", got, want, first.log, s.log)
	}
}
