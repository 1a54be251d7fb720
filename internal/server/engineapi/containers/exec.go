package containers

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

func (h *handlers) execCreate(ctx context.Context, r *route.Request) (route.Response, error) {
	var body container.ExecCreateRequest
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	id, err := h.svc.ExecCreate(ctx, r.Var("id"), body)
	if err != nil {
		return nil, err
	}
	return route.JSON{Status: http.StatusCreated, Body: container.ExecCreateResponse{ID: id}}, nil
}

func (h *handlers) execInspect(_ context.Context, r *route.Request) (route.Response, error) {
	e, err := h.svc.ExecInspect(r.Var("id"))
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: e}, nil
}

func (h *handlers) execStart(ctx context.Context, r *route.Request) (route.Response, error) {
	var body container.ExecStartRequest
	if err := r.DecodeOptional(&body); err != nil {
		return nil, err
	}
	x, err := h.svc.ExecPrepare(r.Var("id"), body)
	if err != nil {
		return nil, err
	}
	if body.Detach {
		return route.Empty{Status: http.StatusOK}, x.Detach(ctx)
	}
	return route.Hijack{ContentType: contentType(x.Raw()), Run: func(ctx context.Context, c route.Conn) error {
		return x.Serve(ctx, c)
	}}, nil
}

func (h *handlers) execResize(ctx context.Context, r *route.Request) (route.Response, error) {
	height, width, err := size(r)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	return route.Empty{Status: http.StatusOK}, h.svc.ExecResize(ctx, r.Var("id"), height, width)
}
