package engine

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

func TestImages(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()

	t.Run("tag, list, inspect, history", func(t *testing.T) {
		d.OK("tag", "busybox", "other/name:v1")
		defer d.OK("rmi", "other/name:v1")
		if out := d.OK("images", "--format", "{{.Repository}}:{{.Tag}}"); !strings.Contains(out, "busybox:latest") || !strings.Contains(out, "other/name:v1") {
			t.Errorf("images: %q", out)
		}
		if out := d.OK("images", "-q", "--filter", "reference=other/*"); out == "" || strings.Contains(out, "\n") {
			t.Errorf("reference filter: %q", out)
		}
		a, b := d.OK("inspect", "-f", "{{.Id}}", "busybox"), d.OK("inspect", "-f", "{{.Id}}", "other/name:v1")
		if a != b || !strings.HasPrefix(a, "sha256:") {
			t.Errorf("IDs %s and %s", a, b)
		}
		if out := d.OK("history", "-q", "busybox"); out == "" {
			t.Error("no history")
		}
		d.Fails("invalid reference format", "tag", "busybox", "Bad:Name:x")
		d.Fails("No such image: gone:1", "rmi", "gone:1")
	})
	t.Run("save and load", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "i.tar")
		id := d.OK("inspect", "-f", "{{.Id}}", "busybox")
		d.OK("tag", "busybox", "keep:1")
		d.OK("save", "-o", file, "keep:1")
		d.OK("rmi", "keep:1")
		for _, how := range [][]string{nil, {"gzip", "-k", "-f"}, {"xz", "-k", "-f"}, {"bzip2", "-k", "-f"}, {"zstd", "-q", "-k", "-f"}} {
			path := file
			if how != nil {
				if _, err := exec.LookPath(how[0]); err != nil {
					continue
				}
				if out, err := exec.Command(how[0], append(how[1:], file)...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", how, out)
				}
				path = file + map[string]string{"gzip": ".gz", "xz": ".xz", "bzip2": ".bz2", "zstd": ".zst"}[how[0]]
			}
			if out := d.OK("load", "-i", path); !strings.Contains(out, "Loaded image: keep:1") {
				t.Errorf("load said %q", out)
			}
			if again := d.OK("inspect", "-f", "{{.Id}}", "keep:1"); again != id {
				t.Errorf("ID %s became %s", id, again)
			}
			d.OK("rmi", "keep:1")
		}
		d.Fails("", "load", "-i", "/etc/passwd")
	})
	t.Run("removal rules", func(t *testing.T) {
		c := d.OK("create", "busybox")
		defer d.OK("rm", c)
		d.OK("tag", "busybox", "second:1")
		if out := d.OK("rmi", "second:1"); out != "Untagged: second:1" {
			t.Errorf("rmi said %q", out)
		}
		id := d.OK("inspect", "-f", "{{.Id}}", "busybox")
		d.Fails("conflict: unable to", "rmi", id)
	})
	t.Run("prune", func(t *testing.T) {
		c := d.OK("run", "-d", "busybox", "sh", "-c", "echo 1 >/x")
		d.OK("wait", c)
		d.OK("commit", c)
		d.OK("rm", c)
		if out := d.OK("image", "prune", "-f"); !strings.Contains(out, "Deleted Images") {
			t.Errorf("got %q", out)
		}
	})
}

// registryInNet starts Debian's docker-registry inside the daemon's network namespace.
func registryInNet(t *testing.T, d *harness.Daemon) string {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed: make test installs it")
	}
	cfg := filepath.Join(t.TempDir(), "config.yml")
	text := "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: " + t.TempDir() + "\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:5000\n"
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, "nsenter", "--net=/run/netns/"+d.NetNS, bin, "serve", cfg)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = c.Wait()
	})
	harness.Eventually(t, 10*time.Second, "the registry answers", func() bool {
		return d.InNet("curl", "-sf", "-m", "2", "http://127.0.0.1:5000/v2/").Code == 0
	})
	return net.JoinHostPort("localhost", "5000")
}

func TestRegistryRoundTrip(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	host := registryInNet(t, d)
	name := host + "/some/where:v1"
	d.OK("tag", "busybox", name)
	pushed := d.OK("push", name)
	i := strings.Index(pushed, "sha256:")
	if i < 0 {
		t.Fatalf("push said %q", pushed)
	}
	digest := strings.Fields(pushed[i:])[0]
	if id := d.OK("inspect", "-f", "{{.Id}}", "busybox"); id != digest {
		t.Errorf("pushed %s, the image is %s", digest, id)
	}
	d.OK("tag", "busybox", host+"/else/where:v1")
	tells(t, d, []string{": Mounted from some/where", "digest: " + digest}, "push", host+"/else/where:v1")
	d.OK("rmi", name)
	pulled := d.OK("pull", name)
	if !strings.Contains(pulled, "Digest: "+digest) {
		t.Errorf("pull said %q", pulled)
	}
	if out := d.OK("run", "--rm", name, "echo", "pulled"); out != "pulled" {
		t.Errorf("got %q", out)
	}
	d.OK("pull", host+"/some/where@"+digest)
	d.Fails("not found", "pull", host+"/some/where:none")
	d.Fails("", "pull", "localhost:1/nothing/listens")
}
