package containers

import (
	"context"
	"slices"

	"github.com/moby/moby/api/types/container"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/state"
	"longshore/internal/service/engine/containers/mounts"
	"longshore/internal/service/engine/containers/request"
)

// Reconfigure gives a container that does not run another host configuration; change must not modify what it is given.
// Clients of old API versions said at the start what others say at create.
func (s *Service) Reconfigure(ctx context.Context, ref string, change func(container.HostConfig) (*container.HostConfig, error)) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	return h.do(ctx, func(ctx context.Context) (err error) {
		rec := *h.record()
		if rec.State.Live() {
			return fault.ErrNotModified
		}
		mode := rec.HostConfig.NetworkMode
		if rec.HostConfig, err = change(*rec.HostConfig); err != nil {
			return err
		}
		if err := s.settleHost(&rec); err != nil {
			return err
		}
		if _, err := s.deps.Validator.Validate(rec.Config, rec.HostConfig); err != nil {
			return err
		}
		if err := s.checkJoins(&rec); err != nil {
			return err
		}
		if rec.HostConfig.NetworkMode != mode {
			if rec.Networks, err = request.Endpoints(&rec, nil); err != nil {
				return err
			}
		}
		return s.remount(context.WithoutCancel(ctx), h, &rec)
	})
}

// remount takes the volumes that the new configuration names and gives back those that it no longer does.
func (s *Service) remount(ctx context.Context, h *handle, rec *core.Record) (err error) {
	old := rec.Mounts
	if rec.Mounts, err = mounts.Parse(rec.Config, rec.HostConfig, s.mountsOf); err != nil {
		return err
	}
	at := func(list []core.Mount, m core.Mount) int {
		return slices.IndexFunc(list, func(o core.Mount) bool { return o.Destination == m.Destination && o.Anonymous == m.Anonymous })
	}
	for i, m := range rec.Mounts {
		if j := at(old, m); j >= 0 && m.Anonymous {
			rec.Mounts[i] = old[j]
		}
	}
	if err := s.mounts.Hold(ctx, h.id, rec.Mounts); err != nil {
		_ = s.mounts.Hold(ctx, h.id, old)
		return err
	}
	if mounts.NeedsCopy(rec.Mounts) {
		if err := s.copyUp(ctx, rec); err != nil {
			return err
		}
	}
	gone := slices.DeleteFunc(slices.Clone(old), func(m core.Mount) bool { return at(rec.Mounts, m) >= 0 })
	s.mounts.Drop(ctx, h.id, gone, true)
	return s.change(ctx, h, state.Durable, func(r *core.Record) { *r = *rec })
}
