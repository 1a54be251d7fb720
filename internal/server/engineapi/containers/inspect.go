package containers

import (
	"context"

	"github.com/moby/moby/api/types/container"

	"longshore/internal/core/fault"
	"longshore/internal/core/grant"
	"longshore/internal/server/route"
	"longshore/internal/service/engine/containers"
)

func (h *handlers) inspect(ctx context.Context, r *route.Request) (route.Response, error) {
	c, err := h.svc.Inspect(ctx, r.Var("id"), containers.InspectOptions{Size: r.Bool("size")})
	if err != nil {
		return nil, err
	}
	if grant.HidesEnv(ctx) && c.Config != nil {
		shown, cfg := *c, *c.Config
		cfg.Env = grant.Env(ctx, cfg.Env)
		shown.Config = &cfg
		c = &shown
	}
	return route.JSON{Body: inspection{c, h.svc}}, nil
}

// inspection is a container, with what clients of former versions are told besides.
type inspection struct {
	*container.InspectResponse
	svc *containers.Service
}

// AskedMAC is the MAC address that was asked for on the network of the network mode.
func (i inspection) AskedMAC() string { return i.svc.AskedMAC(i.ID) }

func (h *handlers) top(ctx context.Context, r *route.Request) (route.Response, error) {
	top, err := h.svc.Top(ctx, r.Var("id"), r.Query.Get("ps_args"))
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: top}, nil
}

func (h *handlers) stats(_ context.Context, r *route.Request) (route.Response, error) {
	req := containers.StatsRequest{Stream: r.BoolOr("stream", true), OneShot: r.Bool("one-shot")}
	if req.Stream && req.OneShot {
		return nil, fault.Invalid("cannot have stream=true and one-shot=true")
	}
	if _, _, err := h.svc.Lookup(r.Var("id")); err != nil {
		return nil, err
	}
	return route.Lines{Early: req.Stream, Run: func(ctx context.Context, emit func(any) error) error {
		return h.svc.Stats(ctx, r.Var("id"), req, func(s *container.StatsResponse) error { return emit(s) })
	}}, nil
}
