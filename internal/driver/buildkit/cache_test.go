package buildkit_test

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"

	"longshore/internal/core/build"
	"longshore/internal/driver/buildkit"
)

// descriptions of the cache's records.
func (r *rig) descriptions() string {
	r.t.Helper()
	records, err := r.DiskUsage(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, rec := range records {
		out = append(out, rec.Type+" "+rec.Description)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func (r *rig) mustSolve(req build.Request) outcome {
	r.t.Helper()
	out := r.solve(req)
	if out.err != nil {
		r.t.Fatalf("build: %v\n%s", out.err, out.log)
	}
	return out
}

func TestPruneTakesNothingThatIsUsed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if report, err := r.Prune(t.Context(), build.PruneOptions{All: true}); err != nil || len(report.IDs) > 0 {
		t.Errorf("before the first build: %v %v", report, err)
	}
	r.mustSolve(plain(t, dockerfile("FROM busybox", "RUN echo old > /old")))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ch, done := make(chan *client.SolveStatus), make(chan error, 1)
	go func() {
		_, err := r.Solve(ctx, plain(t, dockerfile("FROM busybox", "RUN echo kept > /kept", "RUN while ! test -e /go; do sleep 0.1; done", "RUN cat /kept")), ch)
		done <- err
	}()
	began := make(chan struct{})
	go func() {
		said := false
		for s := range ch {
			for _, v := range s.Vertexes {
				if !said && v.Started != nil && v.Completed == nil && strings.Contains(v.Name, "while") {
					said = true
					close(began)
				}
			}
		}
	}()
	<-began
	report, err := r.Prune(t.Context(), build.PruneOptions{All: true})
	if err != nil || len(report.IDs) == 0 || report.Space <= 0 {
		t.Errorf("report %+v %v", report, err)
	}
	left := r.descriptions()
	if strings.Contains(left, "old") || !strings.Contains(left, "kept") {
		t.Errorf("left:\n%s", left)
	}
	cancel()
	<-done
}

func TestPruneFilters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustSolve(plain(t, dockerfile("FROM busybox", "RUN --mount=type=cache,target=/c echo 1", "COPY Dockerfile /")))
	if _, err := r.Prune(t.Context(), build.PruneOptions{KeepDuration: time.Hour, All: true}); err != nil {
		t.Fatal(err)
	}
	if left := r.descriptions(); !strings.Contains(left, "echo 1") || !strings.Contains(left, "source.local") {
		t.Errorf("what was used just now went:\n%s", left)
	}
	if _, err := r.Prune(t.Context(), build.PruneOptions{Filters: []string{"type==source.local"}}); err != nil {
		t.Fatal(err)
	}
	left := r.descriptions()
	if strings.Contains(left, "source.local") || !strings.Contains(left, "exec.cachemount") || !strings.Contains(left, "echo 1") {
		t.Errorf("left:\n%s", left)
	}
}

// TestBudget shrinks the cache to a size, the least recently used first.
func TestBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *buildkit.Config) {
		c.GC = buildkit.GC{Enabled: true, Policies: []build.PruneOptions{{All: true, MaxUsedSpace: 5 << 20}}}
	})
	big := func(n string) build.Request {
		req := plain(t, dockerfile("FROM busybox", "RUN head -c 3000000 /dev/urandom > /big"+n))
		req.Output.Exporters = []build.Exporter{{Type: "cacheonly"}} // what an image shares with the cache would stay
		return req
	}
	for _, n := range []string{"1", "2", "3"} {
		r.mustSolve(big(n))
	}
	r.mustSolve(big("1")) // used again
	r.Shrink(t.Context())
	left := r.descriptions()
	if strings.Contains(left, "/big2") || !strings.Contains(left, "/big1") {
		t.Errorf("left:\n%s", left)
	}
}

// TestNothingRunsOn closes a builder and counts goroutines.
func TestNothingRunsOn(t *testing.T) {
	count := func() int {
		runtime.GC()
		return runtime.NumGoroutine()
	}
	run := func(t *testing.T) {
		r := newRig(t)
		r.mustSolve(plain(t, dockerfile("FROM busybox", "RUN echo 1")))
		r.solve(plain(t, dockerfile("FROM busybox", "RUN exit 1")))
	}
	t.Run("first", run) // what a process starts once
	before := count()
	t.Run("second", run)
	eventually(t, "the goroutines end", func() bool { return count() <= before+1 })
	if n := count(); n > before+1 {
		buf := make([]byte, 1<<20)
		t.Logf("%d goroutines instead of %d:\n%s", n, before, buf[:runtime.Stack(buf, true)])
	}
}
