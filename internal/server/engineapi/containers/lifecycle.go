package containers

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
	"longshore/internal/service/engine/containers"
	"longshore/internal/service/engine/containers/request"
)

func (h *handlers) create(ctx context.Context, r *route.Request) (route.Response, error) {
	var body struct {
		container.CreateRequest
		MacAddress string // once the container's
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if body.MacAddress != "" {
		return nil, fault.Invalid("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")
	}
	req := containers.CreateRequest{
		Name: r.Query.Get("name"), Config: body.Config, HostConfig: body.HostConfig, Networking: body.NetworkingConfig,
		Habits: request.Habits{PlainReadOnly: r.Noted(route.PlainReadOnly), HostCgroupns: r.Noted(route.HostCgroupns)},
	}
	var err error
	if req.Platform, err = platform(r.Query.Get("platform")); err != nil {
		return nil, err
	}
	resp, err := h.svc.Create(ctx, req)
	if err != nil {
		return nil, err
	}
	return route.JSON{Status: http.StatusCreated, Body: resp}, nil
}

func platform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, fault.Invalid("%v", err)
	}
	return &p, nil
}

func (h *handlers) start(ctx context.Context, r *route.Request) (route.Response, error) {
	if r.HTTP.ContentLength > 7 || r.HTTP.ContentLength == -1 {
		return nil, fault.Invalid("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if name := r.Query.Get("checkpoint"); name != "" {
		return h.startFrom(ctx, r, name)
	}
	return route.Empty{}, h.svc.Start(ctx, r.Var("id"))
}

func (h *handlers) stop(ctx context.Context, r *route.Request) (route.Response, error) {
	o, err := stopOptions(r)
	if err != nil {
		return nil, err
	}
	return route.Empty{}, h.svc.Stop(ctx, r.Var("id"), o)
}

func (h *handlers) restart(ctx context.Context, r *route.Request) (route.Response, error) {
	o, err := stopOptions(r)
	if err != nil {
		return nil, err
	}
	return route.Empty{}, h.svc.Restart(ctx, r.Var("id"), o)
}

func stopOptions(r *route.Request) (containers.StopOptions, error) {
	o := containers.StopOptions{Signal: r.Query.Get("signal")}
	if r.Query.Get("t") == "" {
		return o, nil
	}
	t, err := r.Int("t", 0)
	o.Timeout = &t
	return o, err
}

func (h *handlers) kill(ctx context.Context, r *route.Request) (route.Response, error) {
	return route.Empty{}, h.svc.Kill(ctx, r.Var("id"), r.Query.Get("signal"))
}

func (h *handlers) pause(ctx context.Context, r *route.Request) (route.Response, error) {
	return route.Empty{}, h.svc.Pause(ctx, r.Var("id"))
}

func (h *handlers) unpause(ctx context.Context, r *route.Request) (route.Response, error) {
	return route.Empty{}, h.svc.Unpause(ctx, r.Var("id"))
}

func (h *handlers) rename(ctx context.Context, r *route.Request) (route.Response, error) {
	return route.Empty{}, h.svc.Rename(ctx, r.Var("id"), r.Query.Get("name"))
}

func (h *handlers) update(ctx context.Context, r *route.Request) (route.Response, error) {
	var body container.UpdateConfig
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	resp, err := h.svc.Update(ctx, r.Var("id"), &body)
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: resp}, nil
}

func (h *handlers) remove(ctx context.Context, r *route.Request) (route.Response, error) {
	o := containers.RemoveOptions{Force: r.Bool("force"), Volumes: r.Bool("v"), Link: r.Bool("link")}
	name := r.Var("id")
	if alias := r.Var("alias"); alias != "" {
		name += "/" + alias
	}
	return route.Empty{}, h.svc.Remove(ctx, name, o)
}

func (h *handlers) prune(ctx context.Context, r *route.Request) (route.Response, error) {
	f, err := r.Filters()
	if err != nil {
		return nil, err
	}
	report, err := h.svc.Prune(ctx, f)
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: report}, nil
}

// wait answers its headers at once, so that a client knows that an exit from now on is not missed.
func (h *handlers) wait(_ context.Context, r *route.Request) (route.Response, error) {
	w, err := h.svc.Wait(r.Var("id"), container.WaitCondition(r.Query.Get("condition")))
	if err != nil {
		return nil, err
	}
	return route.Lines{Early: !r.Dialect.LateWaitHeaders, Run: func(ctx context.Context, emit func(any) error) error {
		res, err := w.Result(ctx)
		if err != nil {
			return err
		}
		return emit(res)
	}}, nil
}

func (h *handlers) resize(ctx context.Context, r *route.Request) (route.Response, error) {
	height, width, err := size(r)
	if err != nil {
		return nil, err
	}
	return route.Empty{Status: http.StatusOK}, h.svc.Resize(ctx, r.Var("id"), height, width)
}

func size(r *route.Request) (height, width uint, err error) {
	for _, d := range []struct {
		key, name string
		out       *uint
	}{{"h", "height", &height}, {"w", "width", &width}} {
		text := r.Query.Get(d.key)
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case errors.Is(err, strconv.ErrSyntax) || strings.HasPrefix(text, "+"):
			return 0, 0, fault.Invalid("invalid resize %s %q: invalid syntax", d.name, text)
		case err != nil || n < 0 || n > math.MaxUint32:
			return 0, 0, fault.Invalid("invalid resize %s %q: value out of range", d.name, text)
		}
		*d.out = uint(min(n, math.MaxUint16)) // which is all that a terminal knows
	}
	return height, width, nil
}
