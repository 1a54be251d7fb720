package containers

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	core "longshore/internal/core/container"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/containers/names"
)

// startProbing begins the health checks of a run. On the actor.
func (s *Service) startProbing(actor context.Context, h *handle) {
	if h.probing != nil {
		h.probing()
	}
	ctx, cancel := context.WithCancel(actor)
	h.probing = cancel
	h.tasks.Go(func() { s.probe(ctx, h) })
}

// probe runs the check again and again until ctx ends.
func (s *Service) probe(ctx context.Context, h *handle) {
	rec := h.record()
	p := core.ProbingOf(rec.Config.Healthcheck)
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		rec = h.record()
		status := container.Starting
		if rec.State.Health != nil {
			status = rec.State.Health.Status
		}
		timer.Reset(p.Wait(status, s.deps.Now().Sub(rec.State.StartedAt)))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if rec = h.record(); rec.State.Phase != core.Running {
			continue
		}
		in := core.Probed{Retries: p.Retries, Result: s.check(ctx, h, rec, p.Timeout)}
		if ctx.Err() != nil {
			return
		}
		in.Grace = p.Grace(in.Result.Start.Sub(rec.State.StartedAt))
		_ = h.post(ctx, func(actor context.Context) {
			if ctx.Err() == nil {
				_ = s.apply(actor, h, in)
			}
		})
	}
}

// check runs one probe.
func (s *Service) check(ctx context.Context, h *handle, rec *core.Record, timeout time.Duration) container.HealthcheckResult {
	r := container.HealthcheckResult{Start: s.deps.Now()}
	r.ExitCode, r.Output = s.runProbe(ctx, h, rec, timeout)
	r.End = s.deps.Now()
	s.probes.made.Add(1)
	if r.ExitCode != 0 {
		s.probes.failed.Add(1)
	}
	return r
}

// probeCount counts the health checks of all containers.
type probeCount struct{ made, failed atomic.Uint64 }

// Probes tells how many health checks have been made, and how many of them failed.
func (s *Service) Probes() (made, failed uint64) { return s.probes.made.Load(), s.probes.failed.Load() }

func (s *Service) runProbe(ctx context.Context, h *handle, rec *core.Record, timeout time.Duration) (code int, output string) {
	l, err := h.process()
	if err != nil {
		return -1, err.Error()
	}
	e := &execution{id: names.NewID(), h: h, req: container.ExecCreateRequest{Cmd: core.ProbeCommand(rec.Config), AttachStdout: true, AttachStderr: true}}
	proc := l.probe.Load()
	if proc == nil {
		if proc, err = s.execProcess(h, l, &e.req); err != nil {
			return -1, err.Error()
		}
		l.probe.Store(proc)
	}
	check := launch.Check{
		ID: e.id, In: l.Process, Process: proc, Timeout: timeout,
		Tell:  func(what events.Action) { e.tell(ctx, s, what) },
		Ended: func(code int) { s.event(ctx, h, events.ActionExecDie, e.attrs(&code)) },
	}
	return check.Run(ctx)
}
