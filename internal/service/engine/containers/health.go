package containers

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	core "longshore/internal/core/container"
	"longshore/internal/core/runtime"
	"longshore/internal/service/engine/containers/names"
	"longshore/internal/service/engine/containers/streams"
)

// maxProbeOutput is how much of a probe's output is kept, in bytes.
const maxProbeOutput = 4096

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
	req := &container.ExecCreateRequest{Cmd: core.ProbeCommand(rec.Config), AttachStdout: true, AttachStderr: true}
	l, err := h.process()
	if err != nil {
		return -1, err.Error()
	}
	proc, err := s.execProcess(h, l, req)
	if err != nil {
		return -1, err.Error()
	}
	e := &execution{id: names.NewID(), h: h, req: *req}
	e.tell(ctx, s, events.ActionExecCreate)
	p, err := l.Exec(ctx, runtime.ExecLaunch{ID: e.id, Process: proc, Stdout: true, Stderr: true})
	if err != nil {
		return startCode(err), err.Error()
	}
	e.tell(ctx, s, events.ActionExecStart)
	limit, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	text := make(chan string, 1)
	go func() { text <- streams.Text(p.Stream(), maxProbeOutput) }()
	exit, err := p.Wait(limit)
	if err != nil {
		killExec(ctx, p)
		_ = p.Stream().Close()
		out := <-text
		if errors.Is(err, context.DeadlineExceeded) {
			return -1, fmt.Sprintf("Health check exceeded timeout (%v): %s", timeout, out)
		}
		return -1, err.Error()
	}
	// A grandchild may hold the output open; what the probe itself wrote has arrived.
	stop := context.AfterFunc(limit, func() { _ = p.Stream().Close() })
	defer stop()
	out := <-text
	_ = p.Stream().Close()
	s.event(ctx, h, events.ActionExecDie, e.attrs(&exit.Code))
	return exit.Code, out
}
