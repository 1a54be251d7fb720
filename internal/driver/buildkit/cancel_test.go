package buildkit_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"

	"longshore/internal/core/build"
)

// inUse are the cache records that something holds.
func (r *rig) inUse() (out []string) {
	r.t.Helper()
	records, err := r.DiskUsage(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, rec := range records {
		if rec.InUse {
			out = append(out, rec.ID+" "+rec.Description)
		}
	}
	return out
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	t.Errorf("not within 30s: %s", what)
}

func TestCancelFreesEverything(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ch := make(chan *client.SolveStatus)
	done := make(chan error, 1)
	go func() {
		_, err := r.Solve(ctx, build.Request{ID: "mine", Source: build.Source{
			Context: files(t, map[string]string{"Dockerfile": dockerfile("FROM busybox", "RUN echo started; sleep 1000")}),
		}}, ch)
		done <- err
	}()
	var log strings.Builder
	for s := range ch {
		for _, l := range s.Logs {
			log.Write(l.Data)
		}
		if strings.Contains(log.String(), "started") {
			cancel()
		}
	}
	if err := <-done; err == nil {
		t.Error("a cancelled build succeeded")
	}
	eventually(t, "nothing is held", func() bool { runtime.GC(); return len(r.inUse()) == 0 })
	for _, u := range r.inUse() {
		t.Log(u)
	}
}
