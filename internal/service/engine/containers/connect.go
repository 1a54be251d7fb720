package containers

import (
	"context"
	"maps"

	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/state"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/containers/request"
)

// ConnectContainer joins a container to a network, live when it runs; net must be the network's name.
func (s *Service) ConnectContainer(ctx context.Context, net, ref string, e *network.EndpointSettings) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	if e == nil {
		e = &network.EndpointSettings{}
	}
	return h.do(ctx, func(ctx context.Context) error {
		return s.connect(context.WithoutCancel(ctx), h, net, request.Blank(e))
	})
}

func (s *Service) connect(ctx context.Context, h *handle, net string, e *network.EndpointSettings) error {
	rec := h.record()
	if rec.HostConfig.NetworkMode.IsContainer() {
		return fault.Invalid("container sharing network namespace with another container or host cannot be connected to any other network")
	}
	if rec.State.Phase == core.Removing || rec.State.Phase == core.Dead {
		return fault.Conflict("container is marked for removal and cannot be connected to network")
	}
	if _, on := rec.Networks[net]; on && !rec.State.Live() {
		return fault.Forbidden("endpoint with name %s already exists in network %s", rec.Name, net)
	}
	asked := maps.Clone(rec.Networks)
	if asked == nil {
		asked = map[string]*network.EndpointSettings{}
	}
	asked[net] = e
	if !rec.State.Live() {
		probe := *rec
		probe.Networks = map[string]*network.EndpointSettings{net: e}
		if err := s.deps.Launch.Networks.Validate(ctx, launch.SandboxRequest(&probe)); err != nil {
			return err
		}
		return s.change(ctx, h, state.Durable, func(r *core.Record) { r.Networks = asked })
	}
	return s.rewire(ctx, h, asked, func() (launch.Sandbox, error) {
		return s.deps.Launch.Networks.Connect(ctx, h.id, net, e)
	})
}

// rewire changes the networks of a running container and notes what it has then.
func (s *Service) rewire(ctx context.Context, h *handle, asked map[string]*network.EndpointSettings, change func() (launch.Sandbox, error)) error {
	sb, err := change()
	if err != nil {
		return err
	}
	if err := s.launcher.WriteNames(h.id, sb); err != nil {
		return err
	}
	s.tellParents(h)
	return s.change(ctx, h, state.Durable, func(r *core.Record) {
		run := *r.Run
		launch.Fill(&run, sb)
		r.Networks, r.Run = asked, &run
	})
}

// DisconnectContainer takes a container off a network; net must be the network's name.
func (s *Service) DisconnectContainer(ctx context.Context, net, ref string, force bool) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	return h.do(ctx, func(ctx context.Context) error {
		return s.disconnect(context.WithoutCancel(ctx), h, net, force)
	})
}

func (s *Service) disconnect(ctx context.Context, h *handle, net string, force bool) error {
	rec := h.record()
	if _, on := rec.Networks[net]; !on {
		return fault.Forbidden("container %s is not connected to network %s", rec.ID, net)
	}
	asked := maps.Clone(rec.Networks)
	delete(asked, net)
	if !rec.State.Live() {
		return s.change(ctx, h, state.Durable, func(r *core.Record) { r.Networks = asked })
	}
	return s.rewire(ctx, h, asked, func() (launch.Sandbox, error) {
		return s.deps.Launch.Networks.Disconnect(ctx, h.id, net, force)
	})
}
