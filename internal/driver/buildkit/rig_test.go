package buildkit_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/events"
	"github.com/tonistiigi/fsutil"

	"longshore/internal/core/build"
	"longshore/internal/core/network"
	"longshore/internal/driver/buildkit"
	"longshore/internal/driver/ctdstore"
	"longshore/internal/driver/registryclient"
	"longshore/internal/service/engine/images"
)

// silence takes events.
type silence struct{}

func (silence) Publish(context.Context, events.Message) {}

// loopback gives each step an empty network namespace and keeps what was asked for.
type loopback struct {
	mu     sync.Mutex
	open   map[string]bool
	asked  []string
	resolv string
}

func (l *loopback) Open(_ context.Context, r network.Request) (network.Sandbox, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[r.ContainerID] = true
	l.asked = append(l.asked, r.Mode)
	return network.Sandbox{Resolv: []byte(l.resolv)}, nil
}

func (l *loopback) Close(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, id)
	return nil
}

// rig is a builder on real stores with a busybox image.
type rig struct {
	*buildkit.Builder
	t      testing.TB
	store  *ctdstore.Store
	images *images.Service
	nets   *loopback
	root   string
}

func newRig(t testing.TB, change ...func(*buildkit.Config)) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: overlayfs, containers")
	}
	root, err := os.MkdirTemp("/var/tmp", "lsb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	r := openRig(t, root, change...)
	r.busybox()
	return r
}

func openRig(t testing.TB, root string, change ...func(*buildkit.Config)) *rig {
	t.Helper()
	store, err := ctdstore.Open(t.Context(), root, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	remote, err := registryclient.New(registryclient.Config{})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := images.New(store, remote, silence{}, images.Config{})
	if err != nil {
		t.Fatal(err)
	}
	nets := &loopback{open: map[string]bool{}}
	cfg := buildkit.Config{
		Root: filepath.Join(root, "buildkit"), ExecRoot: filepath.Join(root, "run"), Runtime: "runc", CgroupParent: filepath.Base(root),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	b := buildkit.New(cfg, buildkit.Deps{Store: store, Images: svc.ForBuilds(), Networks: nets})
	r := &rig{Builder: b, t: t, store: store, images: svc, nets: nets, root: root}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) busybox() {
	r.t.Helper()
	cmd := exec.Command("../../../scripts/busybox-image.sh")
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	err = r.images.Import(r.t.Context(), out, images.ImportOptions{Source: "-", Repo: "busybox", Changes: []string{"ENV PATH=/bin", "CMD sh"}}, func(any) error { return nil })
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		r.t.Fatal(err)
	}
}

// files is a build context.
func files(t testing.TB, contents map[string]string) fsutil.FS {
	t.Helper()
	dir := t.TempDir()
	for name, text := range contents {
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

// outcome is what a build said.
type outcome struct {
	build.Result
	err    error
	log    string
	cached int
	names  []string
}

// solve builds a Dockerfile with further files, named as "name", "content" pairs.
func (r *rig) solve(req build.Request) outcome {
	r.t.Helper()
	ch := make(chan *client.SolveStatus)
	var out outcome
	done := make(chan struct{})
	go func() {
		defer close(done)
		var log strings.Builder
		cached, names := map[string]bool{}, map[string]bool{}
		for s := range ch {
			for _, v := range s.Vertexes {
				if !names[v.Name] {
					names[v.Name] = true
					out.names = append(out.names, v.Name)
				}
				if v.Cached {
					cached[v.Digest.String()] = true
				}
			}
			for _, l := range s.Logs {
				log.Write(l.Data)
			}
		}
		out.log, out.cached = log.String(), len(cached)
	}()
	out.Result, out.err = r.Solve(r.t.Context(), req, ch)
	<-done
	return out
}

func dockerfile(lines ...string) string { return strings.Join(lines, "\n") + "\n" }
