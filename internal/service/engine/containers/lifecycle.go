package containers

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/service/engine/containers/request"
)

// Start starts a container from any state; one that runs is ErrNotModified.
func (s *Service) Start(ctx context.Context, ref string) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	return h.do(ctx, func(ctx context.Context) error {
		return s.apply(ctx, h, core.StartAsked{})
	})
}

// StopOptions override what the container says about its end.
type StopOptions struct {
	Signal string
	// Timeout in seconds before the kill; nil takes the container's; negative waits for ever.
	Timeout *int
}

// Stop ends a container: stop signal, time-out, kill. One that does not run is ErrNotModified.
func (s *Service) Stop(ctx context.Context, ref string, o StopOptions) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	return s.stop(ctx, h, o, core.Stopping{})
}

func (s *Service) stop(ctx context.Context, h *handle, o StopOptions, in core.Stopping) error {
	rec := h.record()
	sig, timeout := rec.StopSignal(), rec.StopTimeout()
	if o.Signal != "" {
		var err error
		if sig, err = core.ParseSignal(o.Signal); err != nil {
			return err
		}
	}
	if o.Timeout != nil {
		timeout = *o.Timeout
	}
	if err := h.do(ctx, func(ctx context.Context) error { return s.apply(ctx, h, in) }); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // a client that goes must not leave a half-stopped container
	rec = h.record()
	if rec.State.Live() {
		if err := s.end(ctx, h, sig, timeout); err != nil {
			return err
		}
	}
	s.event(ctx, h, events.ActionStop, nil)
	return nil
}

// end signals, waits and kills.
func (s *Service) end(ctx context.Context, h *handle, sig unix.Signal, timeout int) error {
	exits := h.record().State.Exits
	ended := func(r *core.Record) bool { return r.State.Exits != exits || !r.State.Live() }
	s.tellKill(ctx, h, sig)
	if err := s.signal(ctx, h, sig); err == nil {
		s.thaw(ctx, h)
		wait, cancel := ctx, context.CancelFunc(func() {})
		if timeout >= 0 {
			wait, cancel = context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
		}
		_, _, err := h.await(wait, ended)
		cancel()
		if err == nil {
			return nil
		}
	}
	if err := s.killHard(ctx, h); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	if _, _, err := h.await(wait, ended); err != nil {
		return fault.Internal("cannot stop container: %s: tried to kill container, but did not receive an exit event", h.id)
	}
	return nil
}

// killPatience is how long a killed container may take to be gone.
const killPatience = 10 * time.Second

func (s *Service) killHard(ctx context.Context, h *handle) error {
	s.tellKill(ctx, h, unix.SIGKILL)
	err := s.signal(ctx, h, unix.SIGKILL)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, errdefs.ErrConflict) {
		return err
	}
	s.thaw(ctx, h)
	return nil
}

func (s *Service) tellKill(ctx context.Context, h *handle, sig unix.Signal) {
	s.event(ctx, h, events.ActionKill, map[string]string{"signal": strconv.Itoa(int(sig))})
}

// thaw lets a paused container see the signal it was sent.
func (s *Service) thaw(ctx context.Context, h *handle) {
	rec := h.record()
	if rec.State.Phase != core.Paused {
		return
	}
	if g, err := s.launcher.Group(ctx, rec); err == nil {
		_ = g.Thaw(ctx)
	}
}

// Restart stops a container that runs and starts it again.
func (s *Service) Restart(ctx context.Context, ref string, o StopOptions) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	err = s.stop(ctx, h, o, core.Stopping{Restart: true})
	if err != nil && !errors.Is(err, fault.ErrNotModified) {
		return err
	}
	err = h.do(context.WithoutCancel(ctx), func(ctx context.Context) error {
		return s.apply(ctx, h, core.StartAsked{})
	})
	if err != nil && !errors.Is(err, fault.ErrNotModified) {
		return fault.New(request.ClassOf(err), "Cannot restart container %s: %w", ref, err)
	}
	s.event(ctx, h, events.ActionRestart, nil)
	return nil
}

// Kill sends a signal; empty is SIGKILL. A container that does not run is a conflict.
func (s *Service) Kill(ctx context.Context, ref, name string) error {
	sig := unix.SIGKILL
	if name != "" {
		var err error
		if sig, err = core.ParseSignal(name); err != nil {
			return err
		}
	}
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	rec := h.record()
	fatal := sig == unix.SIGKILL || rec.Config.StopSignal == "" || sig == rec.StopSignal()
	refused := func(err error) error {
		return request.About(err, "cannot kill container: "+ref+": container %s ", rec.ID)
	}
	exits := rec.State.Exits
	err = h.do(ctx, func(ctx context.Context) error {
		if err := s.apply(ctx, h, core.Killing{Signal: int(sig), Fatal: fatal}); err != nil {
			return refused(err)
		}
		return nil
	})
	if err != nil || !rec.State.Live() {
		return err
	}
	if err := s.signal(ctx, h, sig); err != nil {
		return refused(fault.Conflict("is not running"))
	}
	if fatal {
		s.thaw(ctx, h)
	}
	if sig != unix.SIGKILL {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	_, _, err = h.await(wait, func(r *core.Record) bool { return r.State.Exits != exits })
	if err != nil {
		return fault.Internal("cannot kill container: %s: tried to kill container, but did not receive an exit event", ref)
	}
	return nil
}

// Pause freezes all processes of a container.
func (s *Service) Pause(ctx context.Context, ref string) error {
	return s.freeze(ctx, ref, core.Frozen{})
}

// Unpause lets them go on.
func (s *Service) Unpause(ctx context.Context, ref string) error {
	return s.freeze(ctx, ref, core.Thawed{})
}

func (s *Service) freeze(ctx context.Context, ref string, in core.Input) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	return h.do(ctx, func(ctx context.Context) error {
		rec := h.record()
		if _, _, err := core.Step(rec.Spec(), rec.State, in); err != nil {
			return request.About(err, "Container %s ", rec.ID)
		}
		g, err := s.launcher.Group(ctx, rec)
		if err != nil {
			return err
		}
		verb := g.Freeze
		if _, ok := in.(core.Thawed); ok {
			verb = g.Thaw
		}
		if err := verb(ctx); err != nil {
			return fault.Internal("cannot pause or unpause container %s: %v", rec.ID, err)
		}
		return s.apply(ctx, h, in)
	})
}
