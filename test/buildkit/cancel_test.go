package buildkit_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"

	"longshore/test/harness"
)

// waitFor starts a build in the background and waits until its step says that it runs.
func waitFor(ctx context.Context, t *testing.T, c *client.Client, opt client.SolveOpt, word string) (done <-chan error) {
	t.Helper()
	ch := make(chan *client.SolveStatus)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Solve(ctx, nil, opt, ch)
		ended <- err
	}()
	seen := make(chan struct{})
	go func() {
		var log strings.Builder
		said := false
		for s := range ch {
			for _, l := range s.Logs {
				log.Write(l.Data)
			}
			if !said && strings.Contains(log.String(), word) {
				said = true
				close(seen)
			}
		}
	}()
	select {
	case <-seen:
	case err := <-ended:
		t.Fatalf("the build ended early: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the step does not begin")
	}
	return ended
}

// steps are the containers of build steps that run.
func steps(d *harness.Daemon) []string {
	dirs, _ := filepath.Glob(filepath.Join(d.ExecRoot(), "buildkit", "*", "config.json"))
	return dirs
}

// inUse counts the cache records that something holds.
func inUse(t *testing.T, d *harness.Daemon) (n int) {
	t.Helper()
	resp, err := d.Client().Get("http://d/system/df?type=build-cache&verbose=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var df struct {
		BuildCacheUsage struct{ ActiveCount int }
	}
	if err := json.NewDecoder(resp.Body).Decode(&df); err != nil {
		t.Fatal(err)
	}
	return df.BuildCacheUsage.ActiveCount
}

func TestCancel(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	c := connect(t, d)
	slow := func() client.SolveOpt {
		return options(t, lines("FROM busybox", "RUN echo started; sleep 1000"), nil)
	}
	must(t, c, options(t, lines("FROM busybox", "RUN echo quick"), nil)) // the builder is open
	goroutines, descriptors := d.Footprint()
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		done := waitFor(ctx, t, c, slow(), "started")
		if len(steps(d)) == 0 {
			t.Error("no step runs")
		}
		cancel()
		if err := <-done; err == nil {
			t.Error("a cancelled build succeeded")
		}
	}
	// A client that just goes away.
	lost := connect(t, d)
	done := waitFor(t.Context(), t, lost, slow(), "started")
	_ = lost.Close()
	<-done
	harness.Eventually(t, 30*time.Second, "the steps end", func() bool { return len(steps(d)) == 0 })
	harness.Eventually(t, 30*time.Second, "nothing is held", func() bool { return inUse(t, d) == 0 })
	harness.Eventually(t, 30*time.Second, "goroutines and descriptors go", func() bool {
		g, f := d.Footprint()
		return g <= goroutines+5 && f <= descriptors+5
	})
	d.OK("builder", "prune", "-af")
	if out := d.OK("system", "df", "-v"); strings.Contains(out, "RUN echo started") {
		t.Errorf("cancelled steps are kept:\n%s", out)
	}
}

// TestKilled kills the daemon in the middle of a build, with and without user namespaces.
func TestKilled(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		d := harness.Start(t)
		d.Busybox()
		killed(t, d, d.DataRoot())
	})
	t.Run("remapped", func(t *testing.T) {
		d := harness.StartRemapped(t)
		killed(t, d, filepath.Join(d.DataRoot(), "300000.300000"))
	})
}

func killed(t *testing.T, d *harness.Daemon, root string) {
	c := connect(t, d)
	first := options(t, lines("FROM busybox", "RUN cat /proc/sys/kernel/random/uuid > /random", "RUN echo second"), nil)
	first.Exports = image("docker.io/library/before:1")
	before := must(t, c, first)
	opt := options(t, lines("FROM busybox", "RUN cat /proc/sys/kernel/random/uuid > /random",
		"RUN --mount=type=tmpfs,target=/t --mount=type=cache,target=/c echo started; sleep 1000"), nil)
	opt.Exports = image("docker.io/library/half:1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := waitFor(ctx, t, c, opt, "started")
	d.Kill()
	cancel()
	<-done
	if len(steps(d)) == 0 {
		t.Fatal("the step did not outlive the daemon: the test tests nothing")
	}
	d.Up()
	if left := steps(d); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if out := d.OK("images", "-a", "-q"); len(strings.Fields(out)) != 2 {
		t.Errorf("images: %q", out)
	}
	if got := d.OK("run", "--rm", "before:1", "cat", "/random"); len(got) != 36 {
		t.Errorf("the image from before wrote %q", got)
	}
	again := connect(t, d)
	s := must(t, again, first)
	if !strings.Contains(s.log, "CACHED") || s.resp.ExporterResponse["containerimage.digest"] != before.resp.ExporterResponse["containerimage.digest"] {
		t.Errorf("the cache was lost:\n%s", s.log)
	}
	if entries, err := os.ReadDir(filepath.Join(root, "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("temporary files: %v %v", entries, err)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), filepath.Join(d.ExecRoot(), "buildkit")) {
		t.Errorf("mounts of steps are left: %v\n%s", err, mounts)
	}
}

// TestStopped ends the daemon in the middle of a build.
func TestStopped(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	c := connect(t, d)
	done := waitFor(t.Context(), t, c, options(t, lines("FROM busybox", "RUN echo started; sleep 1000"), nil), "started")
	d.Stop()
	if err := <-done; err == nil {
		t.Error("the build succeeded")
	}
	if left := steps(d); len(left) > 0 {
		t.Errorf("steps run on: %q", left)
	}
	d.Up()
	again := connect(t, d)
	if s := must(t, again, options(t, lines("FROM busybox", "RUN echo works"), nil)); !strings.Contains(s.log, "works") {
		t.Errorf("log: %s", s.log)
	}
}
