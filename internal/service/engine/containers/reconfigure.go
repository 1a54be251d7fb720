package containers

import (
	"context"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/image"
	"longshore/internal/core/state"
	"longshore/internal/service/engine/containers/mounts"
)

// Reconfigure changes the host configuration of a container that does not run; change gets a copy to edit and may not
// edit what that points at. Clients of old API versions said at the start what others say at create.
func (s *Service) Reconfigure(ctx context.Context, ref string, change func(*container.HostConfig) error) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	return h.do(ctx, func(ctx context.Context) error {
		old := h.record()
		cfg, hc, nets := *old.Config, *old.HostConfig, &network.NetworkingConfig{}
		if old.State.Live() {
			return fault.ErrNotModified
		} else if err := change(&hc); err != nil {
			return err
		}
		if cfg.Hostname == old.ID[:12] {
			cfg.Hostname = "" // it was not asked for
		}
		if hc.NetworkMode == old.HostConfig.NetworkMode {
			nets.EndpointsConfig = old.Networks
		}
		next := *old
		img := image.Image{ID: old.Image.ID, Manifest: *old.Image.Manifest}
		if _, err := s.settle(ctx, &next, CreateRequest{Config: &cfg, HostConfig: &hc, Networking: nets}, img); err != nil {
			return err
		}
		if next.Mounts, err = mounts.Parse(next.Config, next.HostConfig, s.mountsOf, mounts.Rules{DataRoot: s.cfg.DataRoot, PlainReadOnly: true}); err != nil {
			return err
		}
		ctx = context.WithoutCancel(ctx)
		return s.mounts.Exchange(ctx, h.id, old.Mounts, next.Mounts, func() error {
			if mounts.NeedsCopy(next.Mounts) {
				if err := s.copyUp(ctx, &next); err != nil {
					return err
				}
			}
			return s.change(ctx, h, state.Durable, func(r *core.Record) { *r = next })
		})
	})
}
