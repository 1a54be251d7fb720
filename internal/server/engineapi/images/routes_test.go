package images_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/moby/moby/api/types/events"
	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"longshore/internal/core/image"
	"longshore/internal/driver/ctdstore"
	"longshore/internal/driver/registryclient"
	"longshore/internal/server/engineapi"
	handlers "longshore/internal/server/engineapi/images"
	"longshore/internal/server/route"
	"longshore/internal/service/engine/images"
)

type silent struct{}

func (silent) Publish(context.Context, events.Message) {}

// containers plays the containers' side of a commit.
type containers struct{ svc *images.Service }

func (c containers) CommitSource(ctx context.Context, ref string, _ bool, f func(image.CommitOptions) error) error {
	img, err := c.svc.Resolve(ctx, "app:1", nil)
	if err != nil {
		return err
	}
	if err := c.svc.Prepare(ctx, ref, img); err != nil {
		return err
	}
	return f(image.CommitOptions{Key: ref, Parent: img.ID, ParentManifest: img.Manifest})
}

func (containers) Committed(context.Context, string, string, string, string) {}

// serve starts the API of the images alone on a unix socket.
func serve(t *testing.T) (host string, svc *images.Service) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: overlayfs, device files and owners")
	}
	dir, err := os.MkdirTemp("/tmp", "ls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	quiet := slog.New(slog.DiscardHandler)
	store, err := ctdstore.Open(t.Context(), filepath.Join(dir, "root"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	client, err := registryclient.New(registryclient.Config{})
	if err != nil {
		t.Fatal(err)
	}
	svc, err = images.New(store, client, silent{}, images.Config{})
	if err != nil {
		t.Fatal(err)
	}
	routes := append(handlers.Routes(svc, containers{svc}), route.Route{
		Method: "GET", Pattern: "/_ping", Since: "1.0",
		Handle: func(context.Context, *route.Request) (route.Response, error) { return route.Empty{Status: 200}, nil },
	})
	api, err := engineapi.New(engineapi.Config{Newest: "1.55", Oldest: "1.0"}, routes, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: api, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "unix://" + filepath.Join(dir, "s"), svc
}

// rootfs is a small root filesystem as a tar archive.
func rootfs(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct{ name, body string }{{"hello", "world"}, {"etc/passwd", "root:x:0:0::/:/bin/sh\n"}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.body)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestDockerCLI drives the routes with the real client through the life of an image.
func TestDockerCLI(t *testing.T) {
	cli, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("no docker CLI")
	}
	host, _ := serve(t)
	reg := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer reg.Close()
	repo := strings.TrimPrefix(reg.URL, "http://") + "/team/app"
	dir := t.TempDir()
	file := filepath.Join(dir, "x.tar")
	steps := []struct {
		args  []string
		stdin []byte
		want  string // part of the output; a leading "!" means that the command fails
	}{
		{args: []string{"import", "--change", "CMD [\"/hello\"]", "--change", "LABEL a=b", "-", "app:1"}, stdin: rootfs(t), want: "sha256:"},
		{args: []string{"images", "--format", "{{.Repository}}:{{.Tag}}"}, want: "app:1"},
		{args: []string{"images", "--filter", "label=a=c", "-q"}, want: ""},
		{args: []string{"image", "inspect", "--format", "{{.Config.Cmd}} {{.RootFS.Type}} {{.Os}}", "app:1"}, want: "[/hello] layers linux"},
		{args: []string{"history", "--format", "{{.Comment}}", "app:1"}, want: "Imported from -"},
		{args: []string{"tag", "app:1", repo + ":v1"}},
		{args: []string{"push", repo + ":v1"}, want: "v1: digest: sha256:"},
		{args: []string{"rmi", repo + ":v1"}, want: "Untagged: " + repo + ":v1"},
		{args: []string{"save", "-o", file, "app:1"}},
		{args: []string{"rmi", "app:1"}, want: "Deleted: sha256:"},
		{args: []string{"load", "-i", file}, want: "Loaded image: app:1"},
		{args: []string{"pull", repo + ":v1"}, want: "Status: Downloaded newer image for " + repo + ":v1"},
		{args: []string{"pull", repo + ":v1"}, want: "Status: Image is up to date for " + repo + ":v1\n" + repo + ":v1"},
		{args: []string{"commit", "-m", "why", "-c", "ENV X=y", "c1", "made:1"}, want: "sha256:"},
		{args: []string{"image", "inspect", "--format", "{{.Config.Env}} {{.Comment}}", "made:1"}, want: "[X=y] why"},
		{args: []string{"image", "prune", "-af"}, want: "Total reclaimed space: "},
		{args: []string{"pull", repo + ":v1"}, want: "Status: Downloaded newer image for " + repo + ":v1"},
		{args: []string{"inspect", "--type", "image", "nope"}, want: "!No such image: nope"},
		{args: []string{"rmi", "nope"}, want: "!No such image: nope:latest"},
		{args: []string{"pull", repo + ":nope"}, want: "!manifest for " + repo + ":nope not found: manifest unknown"},
		{args: []string{"push", "127.0.0.1:1/x:y"}, want: "!An image does not exist locally with the tag: 127.0.0.1:1/x"},
		{args: []string{"load"}, stdin: []byte("no archive"), want: "!failed to read archive"},
		{args: []string{"import", "-", "A:b"}, stdin: rootfs(t), want: "!invalid reference format"},
		{args: []string{"search", "127.0.0.1:1/x"}, want: "!connection refused"},
	}
	for _, s := range steps {
		cmd := exec.CommandContext(t.Context(), cli, append([]string{"-H", host}, s.args...)...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "DOCKER_CONFIG="+dir, "DOCKER_CONTENT_TRUST=0")
		cmd.Stdin = bytes.NewReader(s.stdin)
		out, err := cmd.CombinedOutput()
		want, fails := strings.CutPrefix(s.want, "!")
		if (err != nil) != fails || !strings.Contains(string(out), want) {
			t.Errorf("docker %s: %v\n%s\nwant %s", strings.Join(s.args, " "), err, out, s.want)
		}
	}
}

// TestMobyClient checks shapes with docker's own client library.
func TestMobyClient(t *testing.T) {
	host, svc := serve(t)
	ctx := t.Context()
	if err := svc.Import(ctx, bytes.NewReader(rootfs(t)), images.ImportOptions{Source: "-", Repo: "app", Tag: "1"}, func(any) error { return nil }); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	list, err := c.ImageList(ctx, client.ImageListOptions{Manifests: true, SharedSize: true})
	if err != nil || len(list.Items) != 1 || len(list.Items[0].Manifests) != 1 || list.Items[0].Manifests[0].Kind != imagetypes.ManifestKindImage || !list.Items[0].Manifests[0].Available {
		t.Fatalf("%+v %v", list, err)
	}
	ins, err := c.ImageInspect(ctx, "app:1", client.ImageInspectWithManifests(true))
	if err != nil || ins.Descriptor == nil || len(ins.Manifests) != 1 || ins.Size != list.Items[0].Size {
		t.Fatalf("%+v %v", ins, err)
	}
	hist, err := c.ImageHistory(ctx, ins.ID)
	if err != nil || len(hist.Items) != 1 || hist.Items[0].ID != ins.ID || hist.Items[0].Size == 0 {
		t.Errorf("%+v %v", hist, err)
	}
}

// TestBadRequests checks classes and docker's words on the wire.
func TestBadRequests(t *testing.T) {
	host, _ := serve(t)
	path := strings.TrimPrefix(host, "unix://")
	web := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	for _, c := range []struct {
		method, path string
		status       int
		text         string
	}{
		{"GET", "/images/json?filters=%7B%22x%22:%5B%221%22%5D%7D", 400, "invalid filter 'x'"},
		{"GET", "/images/json?filters=nonsense", 400, "invalid filter"},
		{"GET", "/images/json?identity=1", 400, "conflicting options"},
		{"GET", "/images/none/json", 404, "No such image: none:latest"},
		{"GET", "/images/Bad/json", 400, "invalid reference format: repository name (library/Bad) must be lowercase"},
		{"GET", "/images/none/history?platform=x", 400, "failed to parse platform"},
		{"GET", `/images/none/json?platform=%7B%22os%22:%22linux%22%7D`, 400, "both OS and Architecture must be provided"},
		{"GET", "/images/none/get", 404, "No such image: none"},
		{"GET", "/images/none/attestations", 404, "No such image"},
		{"POST", "/images/none/tag?repo=a&tag=b", 404, "No such image: none:latest"},
		{"POST", "/images/create?fromImage=A", 400, "invalid reference format"},
		{"POST", "/images/create?fromImage=scratch", 403, "'scratch' is a reserved name"},
		{"POST", "/images/create?fromSrc=-&changes=RUN+x", 400, "run is not a valid change command"},
		{"POST", "/images/create?fromImage=127.0.0.1:1/x&tag=y", 500, `Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused`},
		{"POST", "/images/a/push?tag=b", 404, "An image does not exist locally with the tag: a"},
		{"POST", "/images/prune?filters=%7B%22dangling%22:%5B%22perhaps%22%5D%7D", 400, "invalid filter 'dangling=[perhaps]'"},
		{"DELETE", "/images/none", 404, "No such image: none:latest"},
		{"GET", "/images/search?term=x&limit=200", 400, "limit 200 is outside the range of [1, 100]"},
		{"GET", "/distribution/sha256:" + strings.Repeat("a", 64) + "/json", 500, "no manifest found for full image ID"},
		{"POST", "/commit?container=c&repo=B", 400, "invalid reference format"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://d/v1.55"+c.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body struct{ Message string }
		err = json.NewDecoder(resp.Body).Decode(&body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(body.Message, c.text) {
			t.Errorf("%s %s: %d %q %v, want %d %q", c.method, c.path, resp.StatusCode, body.Message, err, c.status, c.text)
		}
	}
}
