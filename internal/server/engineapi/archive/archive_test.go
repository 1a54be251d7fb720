package archive_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"longshore/internal/core/fault"
	"longshore/internal/core/volume"
	"longshore/internal/driver/bolt"
	"longshore/internal/server/engineapi"
	"longshore/internal/server/engineapi/archive"
	service "longshore/internal/service/engine/archive"
	"longshore/internal/service/engine/volumes"
)

// box is one container: a root file system on the disk with a volume and a bind, running or not.
type box struct {
	root   string
	mounts []container.MountPoint
	facts  service.Facts

	mu     sync.Mutex
	pid    int
	events []string
}

func (b *box) Lookup(ref string) (id, name string, err error) {
	if ref != "c1" && ref != "web" {
		return "", "", fault.NotFound("No such container: %s", ref)
	}
	return "c1", "web", nil
}

func (b *box) WithRootFS(_ context.Context, ref string, f func(string, int, []container.MountPoint) error) error {
	if _, _, err := b.Lookup(ref); err != nil {
		return err
	}
	b.mu.Lock()
	pid := b.pid
	b.mu.Unlock()
	return f(b.root, pid, b.mounts)
}

func (b *box) Changes(context.Context, string) ([]container.FilesystemChange, error) { return nil, nil }

func (b *box) Publish(_ context.Context, m events.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, string(m.Action)+" "+m.Actor.ID+" "+m.Actor.Attributes["name"]+" "+m.Actor.Attributes["image"]+" "+m.Actor.Attributes["l"])
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func serve(t *testing.T) (*box, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	top := t.TempDir()
	store, err := bolt.Open(filepath.Join(top, "state.db"))
	must(t, err)
	t.Cleanup(func() { _ = store.Close() })
	b := &box{root: filepath.Join(top, "root"), facts: service.Facts{Image: "img", User: "app", Labels: map[string]string{"l": "v"}}}
	vols, err := volumes.New(top, store, b)
	must(t, err)
	v, _, err := vols.Ensure(t.Context(), volume.CreateOptions{Name: "data"}, "c1")
	must(t, err)
	for name, content := range map[string]string{
		"root/etc/passwd": "app:x:1000:1000::/:\n", "root/etc/hosts": "image", "root/dir/a": "1", "root/dir/sub/b": "2",
		"bind/inside": "bound", "fixed/f": "x", "outside": "secret",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(top, name), []byte(content), 0o644))
	}
	must(t, os.Symlink("/dir", filepath.Join(b.root, "link")))
	must(t, os.Symlink("../../../../outside", filepath.Join(b.root, "up")))
	b.mounts = []container.MountPoint{
		{Type: "volume", Name: "data", Source: v.Mountpoint, Destination: "/data", RW: true},
		{Type: "bind", Source: filepath.Join(top, "bind"), Destination: "/mnt/bind", RW: true},
		{Type: "bind", Source: filepath.Join(top, "fixed"), Destination: "/fixed"},
		{Type: "tmpfs", Destination: "/ram", RW: true},
	}
	svc := service.New(service.Deps{
		Containers: b, Changes: b, Volumes: vols, Events: b,
		Describe: func(context.Context, string) (service.Facts, error) { return b.facts, nil },
	})
	api, err := engineapi.New(engineapi.Config{Newest: "1.55", Oldest: "1.0"}, archive.Routes(svc), nil, slog.New(slog.DiscardHandler))
	must(t, err)
	s := httptest.NewServer(api)
	t.Cleanup(s.Close)
	return b, s.URL
}

func do(t *testing.T, method, url string, body io.Reader) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, data
}

// packed is an archive made by GNU tar.
func packed(t *testing.T, files map[string]string) io.Reader {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	out, err := exec.Command("tar", "-C", dir, "-cf", "-", ".").Output()
	must(t, err)
	return bytes.NewReader(out)
}

func TestStatuses(t *testing.T) {
	b, url := serve(t)
	for _, c := range []struct {
		request, body string
		status        int
		answer        string
	}{
		{"HEAD /containers/c1/archive?path=/dir", "", 200, ""},
		{"HEAD /containers/c1/archive?path=/none", "", 404, ""},
		{"GET /containers/c1/archive", "", 400, `{"message":"bad parameter: path cannot be empty"}`},
		{"GET /containers/c1/archive?path=/none", "", 404, `{"message":"Could not find the file /none in container c1"}`},
		{"GET /containers/web/archive?path=none/", "", 404, `{"message":"Could not find the file none/ in container web"}`},
		{"GET /containers/c1/archive?path=/up/", "", 404, ""},
		{"GET /containers/c1/archive?path=/etc/hosts/", "", 400, ""},
		{"GET /containers/gone/archive?path=/", "", 404, `{"message":"No such container: gone"}`},
		{"GET /containers/gone/export", "", 404, `{"message":"No such container: gone"}`},
		{"GET /containers/gone/changes", "", 404, ""},
		{"GET /containers/c1/changes", "", 200, "[]"},
		{"PUT /containers/c1/archive?path=/none", "", 404, `{"message":"Could not find the file /none in container c1"}`},
		{"PUT /containers/c1/archive?path=/etc/hosts", "", 400, `{"message":"extraction point is not a directory"}`},
		{"PUT /containers/c1/archive?path=/fixed", "", 403, `{"message":"mounted volume is marked read-only"}`},
		{"PUT /containers/c1/archive?path=/etc", "garbage, not a tar archive", 400, ""},
		{"POST /v1.23/containers/c1/copy", `{"Resource":""}`, 400, ""},
		{"POST /v1.24/containers/c1/copy", `{"Resource":"/etc"}`, 404, ""},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(c.body))
		must(t, err)
		if method == "POST" {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		data, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || (c.answer != "" && strings.TrimSpace(string(data)) != c.answer) {
			t.Errorf("%s: %d %s", c.request, resp.StatusCode, data)
		}
	}
	b.facts.ReadOnlyRoot = true
	if resp, data := do(t, "PUT", url+"/containers/c1/archive?path=/dir", packed(t, nil)); resp.StatusCode != 403 || !strings.Contains(string(data), "container rootfs is marked read-only") {
		t.Error(resp.StatusCode, string(data))
	}
	if resp, data := do(t, "PUT", url+"/containers/c1/archive?path=/data", packed(t, map[string]string{"f": "1"})); resp.StatusCode != 200 {
		t.Error("a volume of a read-only container:", resp.StatusCode, string(data))
	}
	if len(b.events) == 0 || b.events[len(b.events)-1] != "extract-to-dir c1 web img v" {
		t.Error(b.events)
	}
}

func TestPutOwner(t *testing.T) {
	b, url := serve(t)
	if resp, data := do(t, "PUT", url+"/containers/c1/archive?path=/dir&copyUIDGID=1", packed(t, map[string]string{"new": "1"})); resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode, string(data))
	}
	out, err := exec.Command("stat", "-c", "%u:%g", filepath.Join(b.root, "dir/new")).Output()
	if err != nil || string(out) != "1000:1000\n" {
		t.Error(string(out), err)
	}
}

// TestExport leaves volumes and binds out.
func TestExport(t *testing.T) {
	_, url := serve(t)
	resp, data := do(t, "GET", url+"/containers/c1/export", nil)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/octet-stream" {
		t.Fatal(resp.StatusCode, resp.Header)
	}
	cmd := exec.Command("tar", "-tf", "-")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	must(t, err)
	if got := string(out); !strings.Contains(got, "dir/sub/b\n") || strings.Contains(got, "inside") {
		t.Error(got)
	}
}

// TestDockerCP lets the real client copy, first with the container stopped, then running in its own mount namespace.
func TestDockerCP(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("needs the docker CLI")
	}
	b, url := serve(t)
	work := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(work, "up/deep"), 0o755))
	must(t, os.WriteFile(filepath.Join(work, "up/deep/f"), []byte("up"), 0o640))
	cp := func(want, from, to string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), docker, "cp", "-q", from, to)
		cmd.Env = append(os.Environ(), "DOCKER_HOST=tcp://"+strings.TrimPrefix(url, "http://"), "HOME="+work)
		if out, err := cmd.CombinedOutput(); (err == nil) != (want == "") || !strings.Contains(string(out), want) {
			t.Errorf("docker cp %s %s: %v %s", from, to, err, out)
		}
	}
	content := func(name string) string { data, _ := os.ReadFile(name); return string(data) }
	for _, state := range []string{"stopped", "running"} {
		if state == "running" {
			pid := start(t, b.root, b.mounts)
			b.mu.Lock()
			b.pid = pid
			b.mu.Unlock()
		}
		out := filepath.Join(work, state)
		must(t, os.Mkdir(out, 0o755))
		cp("", "web:/dir", out)
		cp("", "web:/dir/.", out+"/flat")
		cp("", "web:/link", out)
		cp("", "web:/mnt/bind/inside", out+"/renamed")
		cp("", filepath.Join(work, "up"), "web:/data")
		cp("", filepath.Join(work, "up")+"/.", "web:/dir/sub")
		cp("", filepath.Join(work, "up/deep/f"), "web:/link/sub/name")
		cp("", "web:/data/up/deep/f", out+"/back")
		cp("Could not find the file /up/x in container web", "web:/up/x", out)
		cp("read-only", filepath.Join(work, "up"), "web:/fixed/")
		for name, want := range map[string]string{
			out + "/dir/a": "1", out + "/dir/sub/b": "2", out + "/flat/sub/b": "2", out + "/renamed": "bound", out + "/back": "up",
			b.mounts[0].Source + "/up/deep/f": "up", b.root + "/dir/sub/deep/f": "up", b.root + "/dir/sub/name": "up",
		} {
			if got := content(name); got != want {
				t.Errorf("%s: %s holds %q, want %q", state, name, got, want)
			}
		}
		if target, err := os.Readlink(out + "/link"); err != nil || target != "/dir" {
			t.Error(target, err)
		}
		must(t, os.RemoveAll(b.mounts[0].Source+"/up"))
	}
	if entries, _ := os.ReadDir(filepath.Join(b.root, "data")); len(entries) != 0 {
		t.Error("what belongs to the volume is in the root:", entries)
	}
}

// start runs a process with the mounts of the container in a mount namespace of its own.
func start(t *testing.T, root string, mounts []container.MountPoint) int {
	t.Helper()
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs a static busybox")
	}
	must(t, os.WriteFile(filepath.Join(root, "busybox"), data, 0o755))
	script := "set -e\n"
	for _, m := range mounts {
		if m.Source != "" {
			script += "mkdir -p " + root + m.Destination + "; mount --bind " + m.Source + " " + root + m.Destination + "\n"
		}
	}
	cmd := exec.Command("unshare", "-m", "sh", "-c", script+"exec chroot "+root+" /busybox sh -c 'echo ready; read x'")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}
