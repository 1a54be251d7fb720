package containers

import (
	"context"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// StatsRequest says how statistics are sent.
type StatsRequest struct{ Stream, OneShot bool }

// Stats emits samples: one, two for a delta (only the second is sent), or one per second until ctx or the container end.
func (s *Service) Stats(ctx context.Context, ref string, r StatsRequest, emit func(*container.StatsResponse) error) error {
	if r.Stream && r.OneShot {
		return fault.Invalid("cannot have stream=1 and one-shot=1")
	}
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	if r.OneShot {
		return emit(s.sample(ctx, h))
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last *container.StatsResponse
	for {
		now := s.sample(ctx, h)
		if last != nil {
			now.PreRead, now.PreCPUStats = last.Read, last.CPUStats
		}
		idle := !h.record().State.Live()
		if r.Stream || last != nil || idle {
			if err := emit(now); err != nil {
				return err
			}
			if !r.Stream {
				return nil
			}
		}
		last = now
		select {
		case <-tick.C:
		case <-h.gone:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// sample reads the counters; those of a container that does not run are zero.
func (s *Service) sample(ctx context.Context, h *handle) *container.StatsResponse {
	rec := h.record()
	st := &container.StatsResponse{}
	if rec.State.Live() {
		if g, err := s.launcher.Group(ctx, rec); err == nil {
			if got, err := g.Stats(ctx); err == nil {
				st = got
			}
		}
		if nets, err := s.deps.Processes.NetStats(rec.State.PID); err == nil && !rec.HostConfig.NetworkMode.IsHost() {
			st.Networks = nets
		}
		st.Read = s.deps.Now().UTC()
	}
	st.ID, st.Name, st.OSType = rec.ID, "/"+rec.Name, "linux"
	return st
}

// Top lists the processes of a running container by the host's ps.
func (s *Service) Top(ctx context.Context, ref, psArgs string) (*container.TopResponse, error) {
	h, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	rec := h.record()
	if rec.State.Phase == core.Restarting {
		return nil, fault.Conflict("container %s is restarting, wait until the container is running", rec.ID)
	}
	if !rec.State.Live() {
		return nil, fault.Conflict("container %s is not running", rec.ID)
	}
	g, err := s.launcher.Group(ctx, rec)
	if err != nil {
		return nil, err
	}
	pids, err := g.PIDs(ctx)
	if err != nil {
		return nil, err
	}
	slices.Sort(pids)
	top, err := s.deps.Processes.Top(ctx, psArgs, pids)
	if err != nil {
		return nil, err
	}
	s.event(ctx, h, events.ActionTop, nil)
	return top, nil
}
