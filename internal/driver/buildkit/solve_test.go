package buildkit_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/tonistiigi/fsutil"

	"longshore/internal/core/build"
)

// plain is a request for a Dockerfile with files, named "name", "content" in pairs.
func plain(t testing.TB, text string, more ...string) build.Request {
	t.Helper()
	all := map[string]string{"Dockerfile": text}
	for i := 0; i+1 < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return build.Request{Source: build.Source{Context: files(t, all)}}
}

func TestBuildOnLocalBase(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := plain(t, dockerfile("FROM busybox", "COPY a.txt /a.txt", "RUN cat /a.txt && echo made > /b.txt", `CMD ["cat","/b.txt"]`), "a.txt", "from the context\n")
	req.Output.Names = []string{"first:1"}
	out := r.solve(req)
	if out.err != nil {
		t.Fatalf("build: %v\n%s", out.err, out.log)
	}
	if !strings.Contains(out.log, "from the context") {
		t.Errorf("log: %q", out.log)
	}
	img, err := r.images.Resolve(t.Context(), "first:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.ID != out.ID || out.Target.Digest != out.ID {
		t.Errorf("image is %s, the build said %s, %s", img.ID, out.ID, out.Target.Digest)
	}
	if !r.store.Unpacked(t.Context(), img.ChainID) {
		t.Error("the image is not unpacked")
	}
	if name := r.store.SnapshotName(t.Context(), img.ChainID.String()); name == img.ChainID.String() {
		t.Error("the image was unpacked once more instead of being adopted")
	}
	again := r.solve(req)
	if again.err != nil || again.ID != out.ID {
		t.Errorf("second build: %v %s", again.err, again.ID)
	}
	// The image keeps its layers when the cache is gone, and the next engine finds them.
	if _, err := r.Prune(t.Context(), build.PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if err := r.store.GarbageCollect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !r.store.Unpacked(t.Context(), img.ChainID) {
		t.Error("the image lost its layers with the cache")
	}
	if err := r.images.Prepare(t.Context(), "container", img); err != nil {
		t.Fatal(err)
	}
	if err := r.images.Remove(t.Context(), "container"); err != nil {
		t.Fatal(err)
	}
}

func TestSquash(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := plain(t, dockerfile("FROM busybox", "RUN echo 1 > /one", "RUN echo 2 > /two && rm /one", "COPY Dockerfile /", "LABEL a=b"))
	req.Output = build.Output{Names: []string{"squashed"}, Squash: true}
	out := r.solve(req)
	if out.err != nil {
		t.Fatalf("build: %v\n%s", out.err, out.log)
	}
	img, err := r.images.Resolve(t.Context(), "squashed", nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.ID != out.ID || len(img.Config.RootFS.DiffIDs) != 2 || img.Config.Config.Labels["a"] != "b" {
		t.Errorf("image %s (build said %s) has layers %q", img.ID, out.ID, img.Config.RootFS.DiffIDs)
	}
	if !r.store.Unpacked(t.Context(), img.ChainID) {
		t.Error("the image is not unpacked")
	}
	req = plain(t, dockerfile("FROM squashed", "RUN cat /two; test ! -e /one; ls /"))
	if out := r.solve(req); out.err != nil || !strings.Contains(out.log, "Dockerfile") {
		t.Errorf("on top: %v %s", out.err, out.log)
	}
}

func TestNetworkOfSteps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.nets.resolv = "nameserver 192.0.2.7\n"
	req := plain(t, dockerfile("FROM busybox", "RUN cat /etc/resolv.conf; cat /etc/hosts"))
	req.Run.Network, req.Run.ExtraHosts = "Mine", []string{"other:192.0.2.9"}
	out := r.solve(req)
	if out.err != nil || !strings.Contains(out.log, "192.0.2.7") || !strings.Contains(out.log, "192.0.2.9") || strings.Contains(out.log, "longshore") {
		t.Errorf("%v %s", out.err, out.log)
	}
	eventually(t, "the network is given back", func() bool {
		r.nets.mu.Lock()
		defer r.nets.mu.Unlock()
		return len(r.nets.open) == 0
	})
	if len(r.nets.asked) != 1 || r.nets.asked[0] != "Mine" {
		t.Errorf("asked for %q", r.nets.asked)
	}
	req.Run.ExtraHosts = []string{"other:host-gateway"}
	if out := r.solve(req); !errdefs.IsInvalidArgument(out.err) {
		t.Errorf("no host gateway: %v", out.err)
	}
}

func TestErrorsTellWhere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range []struct {
		text       string
		line, exit int
	}{
		{dockerfile("FROM busybox", "", "RUN echo before; exit 7"), 3, 7},
		{dockerfile("FROM busybox", "NONSENSE x"), 2, 0},
		{dockerfile("FROM busybox", "COPY nothing /"), 2, 0},
		{dockerfile("FROM busybox", "RUN --mount=type=none x"), 2, 0},
	} {
		out := r.solve(plain(t, c.text))
		var step *build.StepError
		if !errors.As(out.err, &step) {
			t.Errorf("%q: %v", c.text, out.err)
			continue
		}
		if step.Line != c.line || step.ExitCode != c.exit || step.File != "Dockerfile" {
			t.Errorf("%q: line %d exit %d file %q", c.text, step.Line, step.ExitCode, step.File)
		}
	}
}

// TestStepsAreShared builds the same four times at once: the step runs once.
func TestStepsAreShared(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := plain(t, dockerfile("FROM busybox", "RUN cat /proc/sys/kernel/random/uuid > /random; sleep 1"))
	ids := make(chan string, 4)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			out := r.solve(req)
			if out.err != nil {
				t.Error(out.err)
			}
			ids <- out.ID.String()
		})
	}
	wait.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first {
			t.Errorf("images %s and %s", first, id)
		}
	}
	if n := len(r.nets.asked); n != 1 {
		t.Errorf("the step ran %d times", n)
	}
}

func TestCancelByID(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.Cancel(t.Context(), "mine"); !errdefs.IsNotFound(err) {
		t.Errorf("unknown: %v", err)
	}
	req := plain(t, dockerfile("FROM busybox", "RUN sleep 1000"))
	req.ID = "mine"
	done := make(chan error, 1)
	go func() {
		_, err := r.Solve(t.Context(), req, nil)
		done <- err
	}()
	eventually(t, "the build is known", func() bool { return r.Cancel(t.Context(), "mine") == nil })
	if err := <-done; err == nil {
		t.Error("a cancelled build succeeded")
	}
}

// TestFilesWithTheSameTimes builds from contexts whose files differ in nothing but content.
func TestFilesWithTheSameTimes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, content := range []string{"one", "two", "one"} {
		dir := t.TempDir()
		for name, text := range map[string]string{"Dockerfile": dockerfile("FROM busybox", "COPY f /", "RUN echo says $(cat /f)"), "f": content} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}
		src, err := fsutil.NewFS(dir)
		if err != nil {
			t.Fatal(err)
		}
		req := build.Request{Source: build.Source{Context: src}}
		req.Cache.None = true
		if out := r.mustSolve(req); !strings.Contains(out.log, "says "+content) {
			t.Errorf("built from %q: %s", content, out.log)
		}
	}
}

// TestAdoptedLayersOutliveTheEngine opens the stores again: images and cache are as they were.
func TestAdoptedLayersOutliveTheEngine(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := plain(t, dockerfile("FROM busybox", "RUN cat /proc/sys/kernel/random/uuid > /random"))
	req.Output.Names = []string{"kept"}
	out := r.mustSolve(req)
	// BuildKit remembers sources' hashes for the whole process, with the database that they came from.
	if _, err := r.Prune(t.Context(), build.PruneOptions{Filters: []string{"type==source.local"}}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), r.store.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Solve(t.Context(), req, nil); err == nil {
		t.Error("a closed builder builds")
	}
	again := openRig(t, r.root)
	if err := again.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := again.store.GarbageCollect(t.Context()); err != nil {
		t.Fatal(err)
	}
	img, err := again.images.Resolve(t.Context(), "kept", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !again.store.Unpacked(t.Context(), img.ChainID) {
		t.Error("the image is not unpacked any more")
	}
	if same := again.mustSolve(req); same.ID != out.ID {
		t.Errorf("the cache was lost: %s instead of %s", same.ID, out.ID)
	}
}
