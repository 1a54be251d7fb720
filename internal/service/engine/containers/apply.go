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
	"longshore/internal/service/engine/containers/launch"
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

// restartDue starts a container by its policy, when those that it needs run, if they are to start too. On the actor.
func (s *Service) restartDue(actor context.Context, h *handle, in core.RestartDue) {
	begin := func(ctx context.Context) {
		if err := s.apply(ctx, h, in); err != nil && !errors.Is(err, fault.ErrNotModified) {
			s.log.Warn("restart by policy failed", "container", h.id, "error", err)
		}
	}
	needs := launch.Needs(h.record(), s.recordOf)
	if len(needs) == 0 {
		begin(actor)
		return
	}
	h.tasks.Go(func() {
		wait, cancel := context.WithTimeout(actor, needPatience)
		defer cancel()
		for _, id := range needs {
			if other, ok := s.index.Get(id); ok {
				_, _, _ = other.await(wait, func(r *core.Record) bool {
					lost := r.State.Live() && other.room.Process() == nil // at boot, before its end is noted
					return !lost && r.State.Phase != core.Starting && !core.StartsAtBoot(r.HostConfig.RestartPolicy, r.State)
				})
			}
		}
		_ = h.post(actor, begin)
	})
}

// needPatience is how long a restart waits for other containers.
const needPatience = 10 * time.Second

// launch brings the container up. On the actor, within the step that decided it.
func (s *Service) launch(actor context.Context, h *handle) error {
	ctx := context.WithoutCancel(actor)
	rec := h.record()
	patient, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(actor, func() { time.AfterFunc(startGrace, cancel) })()
	err := s.bringUp(ctx, patient, h, rec)
	if err == nil {
		l, _ := h.process()
		h.tasks.Go(func() { s.watch(actor, h, l) })
		s.tellParents(h)
		return s.apply(actor, h, core.Started{PID: l.PID(), At: s.deps.Now()})
	}
	if actor.Err() != nil && errors.Is(err, context.Canceled) {
		return err // as if the daemon had been killed: the next one undoes it
	}
	h.room.Dismiss()
	code := launch.ExitCode(err)
	s.log.Debug("start failed", "container", h.id, "code", code, "error", err)
	if serr := s.apply(actor, h, core.StartFailed{Code: code, Error: err.Error(), At: s.deps.Now()}); serr != nil {
		s.log.Error("record failed start", "container", h.id, "error", serr)
	}
	return launch.Fault(err)
}

// startGrace is how long an OCI runtime that is at work may hold up the end of the daemon.
const startGrace = 5 * time.Second

// bringUp starts a run; the runtime's work is waited for until patient ends.
func (s *Service) bringUp(ctx, patient context.Context, h *handle, rec *core.Record) error {
	joins, err := s.launcher.JoinsOf(rec, s.recordOf)
	if err != nil {
		return err
	}
	joins.Restore = h.restore
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
	if err := up.Process.Start(patient); err != nil {
		h.room.End()
		return err
	}
	s.log.Debug("launch started", "container", h.id, "took", time.Since(began))
	return nil
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

// signal sends a signal to the container's init. A shim that does not answer a SIGKILL is killed with its container.
func (s *Service) signal(ctx context.Context, h *handle, sig unix.Signal) error {
	l, err := h.process()
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	err = l.Signal(limit, sig)
	if sig == unix.SIGKILL && limit.Err() != nil && ctx.Err() == nil {
		s.log.Warn("shim does not answer: it is killed", "container", h.id)
		return s.launcher.Abandon(ctx, h.record())
	}
	return err
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
