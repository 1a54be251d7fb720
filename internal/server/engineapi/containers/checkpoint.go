package containers

import (
	"context"

	"github.com/moby/moby/api/types/checkpoint"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// trial serves what only a daemon in experimental mode offers.
func (h *handlers) trial(f route.Handler) route.Handler {
	if h.experimental {
		return f
	}
	return func(context.Context, *route.Request) (route.Response, error) {
		return nil, fault.NotImplemented("This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.")
	}
}

func (h *handlers) createCheckpoint(ctx context.Context, r *route.Request) (route.Response, error) {
	var body checkpoint.CreateRequest
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	return route.Empty{Status: 201}, h.svc.Checkpoint(ctx, r.Var("id"), body)
}

func (h *handlers) checkpoints(_ context.Context, r *route.Request) (route.Response, error) {
	list, err := h.svc.Checkpoints(r.Var("id"), r.Query.Get("dir"))
	return route.JSON{Body: list}, err
}

func (h *handlers) removeCheckpoint(_ context.Context, r *route.Request) (route.Response, error) {
	return route.Empty{}, h.svc.RemoveCheckpoint(r.Var("id"), r.Query.Get("dir"), r.Var("checkpoint"))
}

// startFrom continues a container from a checkpoint.
func (h *handlers) startFrom(ctx context.Context, r *route.Request, name string) (route.Response, error) {
	switch {
	case !h.experimental:
		return nil, fault.Invalid("checkpoint is only supported in experimental mode")
	case r.Query.Get("checkpoint-dir") != "":
		return nil, fault.Forbidden("custom checkpointdir is not supported")
	}
	return route.Empty{}, h.svc.StartFrom(ctx, r.Var("id"), name)
}
