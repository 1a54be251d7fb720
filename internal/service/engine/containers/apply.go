package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/runtime"
	"longshore/internal/core/state"
)

// Buckets of the store. The trash names containers whose files are still to be removed.
const (
	bucket = "containers"
	trash  = "containers-trash"
)

// save writes a record down.
func (s *Service) save(ctx context.Context, rec *core.Record, d state.Durability) error {
	doc, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode container %s: %w", rec.ID, err)
	}
	if err := s.deps.Store.Put(ctx, bucket, rec.ID, doc, d); err != nil {
		return fmt.Errorf("store container %s: %w", rec.ID, err)
	}
	return nil
}

// change stores and publishes a record that f changed. On the actor only.
func (s *Service) change(ctx context.Context, h *handle, d state.Durability, f func(*core.Record)) error {
	next := *h.record()
	f(&next)
	if err := s.save(ctx, &next, d); err != nil {
		return err
	}
	h.publish(&next)
	return nil
}

// apply feeds an input to the life cycle: step, store, tell, perform. On the actor only, with the actor's ctx, which ends
// with the daemon: a step that has begun is finished then, what it started in the background is not. The error is the
// step's, or that of a launch.
func (s *Service) apply(actor context.Context, h *handle, in core.Input) error {
	ctx := context.WithoutCancel(actor)
	rec := h.record()
	st, effects, err := core.Step(rec.Spec(), rec.State, in)
	if err != nil {
		return err
	}
	next := *rec
	next.State = st
	destroyed := false
	for _, e := range effects {
		_, is := e.(core.Destroy)
		destroyed = destroyed || is
	}
	if !destroyed {
		// What has happened has happened: a full disk must not hide it.
		if err := s.save(ctx, &next, state.Volatile); err != nil {
			s.log.Error("store container", "container", h.id, "error", err)
		}
	}
	for _, e := range effects {
		if emit, ok := e.(core.Emit); ok {
			s.emit(ctx, &next, emit.Action, emit.Attrs)
		}
	}
	h.publish(&next)
	for _, e := range effects {
		if err := s.perform(actor, h, e); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) perform(ctx context.Context, h *handle, e core.Effect) error {
	switch e := e.(type) {
	case core.Launch:
		return s.launch(ctx, h)
	case core.Release:
		h.later(func(ctx context.Context) { s.release(context.WithoutCancel(ctx), h) })
	case core.Destroy:
		return s.destroy(context.WithoutCancel(ctx), h, true)
	case core.Schedule:
		h.restart = time.AfterFunc(e.After, func() {
			_ = h.post(ctx, func(ctx context.Context) { s.restartDue(ctx, h, core.RestartDue{}) })
		})
	case core.Unschedule:
		if h.restart != nil {
			h.restart.Stop()
		}
	case core.Probe:
		s.startProbing(ctx, h)
	case core.StopProbe:
		if h.probing != nil {
			h.probing()
			h.probing = nil
		}
	}
	return nil
}

func (s *Service) restartDue(ctx context.Context, h *handle, in core.RestartDue) {
	err := s.apply(ctx, h, in)
	if err != nil && !errors.Is(err, fault.ErrNotModified) {
		s.log.Warn("restart by policy failed", "container", h.id, "error", err)
	}
}

// launch brings the container up. On the actor, within the step that decided it.
func (s *Service) launch(actor context.Context, h *handle) error {
	ctx := context.WithoutCancel(actor)
	rec := h.record()
	err := s.bringUp(ctx, h, rec)
	if err == nil {
		l, _ := h.process()
		h.tasks.Go(func() { s.watch(actor, h, l) })
		return s.apply(actor, h, core.Started{PID: l.PID(), At: s.deps.Now()})
	}
	h.room.Dismiss()
	code := exitCodeOf(err)
	s.log.Debug("start failed", "container", h.id, "code", code, "error", err)
	if serr := s.apply(actor, h, core.StartFailed{Code: code, Error: err.Error(), At: s.deps.Now()}); serr != nil {
		s.log.Error("record failed start", "container", h.id, "error", serr)
	}
	return startFault(err)
}

func (s *Service) bringUp(ctx context.Context, h *handle, rec *core.Record) error {
	joins, err := s.joins(rec)
	if err != nil {
		return err
	}
	s.holdRoot(h)
	up, err := s.launcher.Up(ctx, rec, joins)
	if err != nil {
		return err
	}
	next := *rec
	next.Run = up.Run
	h.snap.Store(&next) // nobody needs to wake up for it
	l := &live{Process: up.Process}
	l.spec.Store(up.Spec)
	if err := s.save(ctx, &next, state.Volatile); err != nil {
		return err
	}
	h.room.Begin(ctx, l)
	began := time.Now()
	if err := up.Process.Start(ctx); err != nil {
		h.room.End()
		return err
	}
	s.log.Debug("launch started", "container", h.id, "took", time.Since(began))
	return nil
}

// exitCodeOf is docker's exit code of a container that did not start.
func exitCodeOf(err error) int {
	var se *runtime.StartError
	if errors.As(err, &se) && se.Code != 0 {
		return se.Code
	}
	return 128
}

// startFault gives a failed start docker's class: what the user can mend is invalid, the rest is internal.
func startFault(err error) error {
	var se *runtime.StartError
	if errors.As(err, &se) {
		if se.Code == 126 || se.Code == 127 {
			return fault.Invalid("%w", err)
		}
		return fault.Internal("%w", err)
	}
	return err
}

// watch waits for the end of a run and reports it.
func (s *Service) watch(ctx context.Context, h *handle, l *live) {
	exit, err := l.Wait(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return // the daemon goes, the container stays
		}
		exit = runtime.Exit{Code: 255, At: s.deps.Now(), Error: err.Error()}
	}
	_ = h.post(ctx, func(ctx context.Context) { s.ended(ctx, h, exit) })
}

// ended records the end of a run. Names, addresses and ports are free before anybody learns of it.
func (s *Service) ended(ctx context.Context, h *handle, exit runtime.Exit) {
	s.launcher.Free(context.WithoutCancel(ctx), h.record())
	h.room.End()
	in := core.Ended{Code: exit.Code, OOMKilled: exit.OOMKilled, Error: exit.Error, At: exit.At, Shutdown: s.isDown()}
	if err := s.apply(ctx, h, in); err != nil && !errors.Is(err, fault.ErrNotModified) {
		s.log.Error("record end of run", "container", h.id, "error", err)
	}
}

// release takes the run down and forgets it.
func (s *Service) release(ctx context.Context, h *handle) {
	rec := h.record()
	s.takeDown(ctx, h, rec)
	if rec.Run == nil {
		return
	}
	err := s.change(ctx, h, state.Volatile, func(r *core.Record) { r.Run = nil })
	if err != nil {
		s.log.Error("store container", "container", h.id, "error", err)
	}
}

// signal sends a signal to the container's init and thaws it when it would not see the signal otherwise.
func (s *Service) signal(ctx context.Context, h *handle, sig unix.Signal) error {
	l, err := h.process()
	if err != nil {
		return err
	}
	if err := l.Signal(ctx, sig); err != nil {
		return err
	}
	return nil
}

// event is emit for the present snapshot.
func (s *Service) event(ctx context.Context, h *handle, action events.Action, extra map[string]string) {
	s.emit(context.WithoutCancel(ctx), h.record(), action, extra)
}

func (s *Service) isDown() bool {
	select {
	case <-s.down:
		return true
	default:
		return false
	}
}
