// Package buildkit_test drives a real daemon with BuildKit's own Go client, the way buildx's docker driver does: the
// control API through POST /grpc, the session through POST /session.
package buildkit_test

import (
	"bufio"
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

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"

	"longshore/test/harness"
)

// hijack upgrades a request to a raw connection.
func hijack(ctx context.Context, socket, path string, header map[string][]string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://d"+path, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "h2c")
	if err := req.Write(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	return &early{conn, r}, nil
}

// early is a connection of which the first bytes may have been read already.
type early struct {
	net.Conn
	r *bufio.Reader
}

func (e *early) Read(p []byte) (int, error) { return e.r.Read(p) }

// connect gives a BuildKit client.
func connect(t testing.TB, d *harness.Daemon) *client.Client {
	t.Helper()
	c, err := client.New(t.Context(), "",
		client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return hijack(ctx, d.Socket, "/grpc", nil) }),
		client.WithSessionDialer(func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			return hijack(ctx, d.Socket, "/session", meta)
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// tree writes files and gives them as a source.
func tree(t testing.TB, files map[string]string) fsutil.FS {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fs, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// lines joins a Dockerfile.
func lines(l ...string) string { return strings.Join(l, "\n") + "\n" }

// options of a Dockerfile build with files beside the Dockerfile.
func options(t testing.TB, dockerfile string, files map[string]string) client.SolveOpt {
	t.Helper()
	all := map[string]string{"Dockerfile": dockerfile}
	for k, v := range files {
		all[k] = v
	}
	src := tree(t, all)
	return client.SolveOpt{
		Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"image-resolve-mode": "local"},
		LocalMounts: map[string]fsutil.FS{"context": src, "dockerfile": src},
	}
}

// solved is what a build left.
type solved struct {
	resp *client.SolveResponse
	log  string
	err  error
}

// solve builds and waits.
func solve(ctx context.Context, t testing.TB, c *client.Client, opt client.SolveOpt) solved {
	t.Helper()
	return solveGraph(ctx, t, c, nil, opt)
}

// solveGraph builds a graph, or with none what a frontend makes of the options.
func solveGraph(ctx context.Context, t testing.TB, c *client.Client, graph *llb.Definition, opt client.SolveOpt) solved {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	ch := make(chan *client.SolveStatus)
	var out solved
	var log strings.Builder
	var g errgroup.Group
	g.Go(func() (err error) {
		out.resp, out.err = c.Solve(ctx, graph, opt, ch)
		return nil
	})
	g.Go(func() error {
		write(&log, ch)
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	out.log = log.String()
	return out
}

// write puts progress into words: the steps' output, and which of them came from the cache.
func write(log *strings.Builder, ch <-chan *client.SolveStatus) {
	for s := range ch {
		for _, v := range s.Vertexes {
			switch {
			case v.Cached:
				fmt.Fprintf(log, "CACHED %s\n", v.Name)
			case v.Completed != nil:
				fmt.Fprintf(log, "DONE %s %s\n", v.Name, v.Error)
			}
		}
		for _, l := range s.Logs {
			log.Write(l.Data)
		}
	}
}

// must solves and fails the test when that does not work.
func must(t testing.TB, c *client.Client, opt client.SolveOpt) solved {
	t.Helper()
	s := solve(t.Context(), t, c, opt)
	if s.err != nil {
		t.Fatalf("build: %v\n%s", s.err, s.log)
	}
	return s
}

// image exports to the engine's image store.
func image(names ...string) []client.ExportEntry {
	return []client.ExportEntry{{Type: "moby", Attrs: map[string]string{"name": strings.Join(names, ",")}}}
}

// serve gives a directory's files over HTTP in the daemon's network, and the address.
func serve(t testing.TB, d *harness.Daemon, dir string) string {
	t.Helper()
	l := d.Listen()
	srv := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + l.Addr().String()
}

func git(t testing.TB, dir string, args ...string) {
	t.Helper()
	c := exec.Command("git", args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}
