package containers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"longshore/internal/core/fault"
	"longshore/internal/core/runtime"
)

func create(t *testing.T, s *Service, name string, f func(*container.HostConfig)) string {
	t.Helper()
	hc := &container.HostConfig{}
	if f != nil {
		f(hc)
	}
	r, err := s.Create(context.Background(), CreateRequest{Name: name, Config: &container.Config{Image: "busybox", Cmd: []string{"true"}}, HostConfig: hc})
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// within fails a test whose step hangs.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func wait(t *testing.T, s *Service, id string, cond container.WaitCondition) func() int64 {
	t.Helper()
	w, err := s.Wait(id, cond)
	if err != nil {
		t.Fatal(err)
	}
	return func() int64 {
		t.Helper()
		r, err := w.Result(within(t))
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode
	}
}

func status(t *testing.T, s *Service, id string) string {
	t.Helper()
	c, err := s.Inspect(context.Background(), id, InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %d", c.State.Status, c.State.ExitCode)
}

// until polls a condition that is reached in the background.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("did not happen: " + what)
}

func TestLife(t *testing.T) {
	w := newWorld(t)
	s, _ := w.boot()
	ctx := within(t)
	id := create(t, s, "web", nil)
	if got := status(t, s, "web"); got != "created 0" {
		t.Error(got)
	}
	if wait(t, s, id, "")() != 0 {
		t.Error("a container that was never started is not running")
	}
	next := wait(t, s, id, container.WaitConditionNextExit)
	if err := s.Start(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx, "web"); !errors.Is(err, fault.ErrNotModified) {
		t.Errorf("second start: %v", err)
	}
	if err := s.Remove(ctx, "web", RemoveOptions{}); err == nil || err.Error() != `cannot remove container "/web": container is running: stop the container before removing or force remove` {
		t.Errorf("remove: %v", err)
	}
	w.shims.of(id).end(3)
	if code := next(); code != 3 {
		t.Errorf("exit code %d", code)
	}
	if err := s.Stop(ctx, "web", StopOptions{}); !errors.Is(err, fault.ErrNotModified) {
		t.Errorf("stop of a stopped one: %v", err)
	}
	if err := s.Kill(ctx, "web", "TERM"); err == nil || !strings.HasPrefix(err.Error(), "cannot kill container: web: container "+id+" is not running") {
		t.Errorf("kill: %v", err)
	}
	removed := wait(t, s, id, container.WaitConditionRemoved)
	if err := s.Remove(ctx, "web", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if removed() != 3 {
		t.Error("exit code of a removed container")
	}
	if _, err := s.Inspect(ctx, id, InspectOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("after removal: %v", err)
	}
	if got := strings.Join(w.diary.take(), " "); got != "create start die destroy" {
		t.Errorf("events: %s", got)
	}
	until(t, "nothing is left in the store", func() bool {
		w.store.mu.Lock()
		defer w.store.mu.Unlock()
		return len(w.store.m) == 0
	})
}

// TestLookingNeverWaits: while one container hangs in its start, everything else answers.
func TestLookingNeverWaits(t *testing.T) {
	w := newWorld(t)
	s, _ := w.boot()
	ctx := within(t)
	hang := make(chan struct{})
	w.shims.next = func() *process { return &process{hang: hang} }
	id := create(t, s, "stuck", nil)
	started := make(chan error, 1)
	go func() { started <- s.Start(ctx, id) }()
	until(t, "the shim is spawned", func() bool { return w.shims.of(id) != nil })
	if list, err := s.List(ctx, ListRequest{All: true}); err != nil || len(list) != 1 {
		t.Errorf("ps: %v %v", list, err)
	}
	if got := status(t, s, id); got != "created 0" {
		t.Errorf("inspect: %s", got)
	}
	create(t, s, "other", nil)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := s.Stop(short, id, StopOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stop waits for the start: %v", err)
	}
	close(hang)
	if err := <-started; err != nil {
		t.Error(err)
	}
	w.shims.of(id).end(0)
}

func TestStopKillsTheDeaf(t *testing.T) {
	w := newWorld(t)
	s, _ := w.boot()
	w.shims.next = func() *process { return &process{deaf: true} }
	id := create(t, s, "deaf", nil)
	if err := s.Start(within(t), id); err != nil {
		t.Fatal(err)
	}
	p, zero := w.shims.of(id), 0
	if err := s.Stop(within(t), id, StopOptions{Timeout: &zero, Signal: "INT"}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.signal); got != "[interrupt killed]" {
		t.Errorf("signals %s", got)
	}
	if got := status(t, s, id); got != "exited 137" {
		t.Error(got)
	}
	if got := strings.Join(w.diary.take(), " "); got != "create start kill kill die stop" {
		t.Errorf("events: %s", got)
	}
}

func TestFailedStart(t *testing.T) {
	w := newWorld(t)
	s, _ := w.boot()
	w.shims.next = func() *process { return &process{fail: &runtime.StartError{Code: 127, Message: "not found"}} }
	id := create(t, s, "bad", nil)
	err := s.Start(within(t), id)
	if !errors.Is(err, errdefs.ErrInvalidArgument) || err.Error() != "not found" {
		t.Errorf("%v", err)
	}
	if got := status(t, s, id); got != "created 127" {
		t.Error(got)
	}
	auto := create(t, s, "auto", func(hc *container.HostConfig) { hc.AutoRemove = true })
	gone := wait(t, s, auto, container.WaitConditionRemoved)
	if err := s.Start(within(t), auto); err == nil {
		t.Error("started")
	}
	if gone() != 127 {
		t.Error("a container with auto-remove goes when its start fails, with its code")
	}
}

func TestRestartPolicy(t *testing.T) {
	w := newWorld(t)
	s, _ := w.boot()
	id := create(t, s, "again", func(hc *container.HostConfig) { hc.RestartPolicy.Name = container.RestartPolicyAlways })
	if err := s.Start(within(t), id); err != nil {
		t.Fatal(err)
	}
	first := w.shims.of(id)
	first.end(1)
	until(t, "the policy brings it back", func() bool { p := w.shims.of(id); return p != nil && p != first && status(t, s, id) == "running 0" })
	c, _ := s.Inspect(context.Background(), id, InspectOptions{})
	if c.RestartCount != 1 {
		t.Errorf("restart count %d", c.RestartCount)
	}
	if err := s.Stop(within(t), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := status(t, s, id); got != "exited 143" {
		t.Errorf("after a stop: %s", got)
	}
}

// TestOneName: of many who create the same name at once, one succeeds and the others read docker's words.
func TestOneName(t *testing.T) {
	s, _ := newWorld(t).boot()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var refused, made int
	for range 20 {
		wg.Go(func() {
			_, err := s.Create(context.Background(), CreateRequest{Name: "same", Config: &container.Config{Image: "busybox", Cmd: []string{"true"}}})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if strings.HasPrefix(err.Error(), `Conflict. The container name "/same" is already in use by container "`) {
				refused++
			}
		})
	}
	wg.Wait()
	if made != 1 || refused != 19 {
		t.Errorf("%d made, %d refused", made, refused)
	}
}

// TestDaemonDies: what the next daemon finds in each case.
func TestDaemonDies(t *testing.T) {
	w := newWorld(t)
	s, crash := w.boot()
	ctx := within(t)
	runs, ended, lost, unless, rm := create(t, s, "runs", nil), create(t, s, "ended", nil), create(t, s, "lost", nil),
		create(t, s, "unless", func(hc *container.HostConfig) { hc.RestartPolicy.Name = container.RestartPolicyUnlessStopped }),
		create(t, s, "gone", func(hc *container.HostConfig) { hc.AutoRemove = true })
	for _, id := range []string{runs, ended, lost, unless, rm} {
		if err := s.Start(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	crash()
	at := time.Now().Add(-time.Hour).UTC()
	w.shims.mu.Lock()
	for _, id := range []string{ended, unless, rm} {
		w.shims.exits[id] = &runtime.Exit{Code: 9, At: at}
		delete(w.shims.alive, id)
	}
	delete(w.shims.alive, lost)
	w.shims.mu.Unlock()

	s, _ = w.boot()
	until(t, "all is settled", func() bool {
		_, err := s.Inspect(ctx, rm, InspectOptions{})
		return err != nil && status(t, s, ended) == "exited 9" && status(t, s, lost) == "exited 255" && status(t, s, unless) == "running 0"
	})
	if got := status(t, s, runs); got != "running 0" {
		t.Errorf("the one that runs: %s", got)
	}
	c, _ := s.Inspect(ctx, ended, InspectOptions{})
	if c.State.FinishedAt != at.Format(time.RFC3339Nano) {
		t.Errorf("ended at %s, want %s", c.State.FinishedAt, at)
	}
	w.shims.of(runs).end(0)
	if wait(t, s, runs, "")() != 0 {
		t.Error("the adopted container's end")
	}
}
