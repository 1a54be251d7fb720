// Package buildkit has the engine API's routes for BuildKit's own clients and for the build cache.
package buildkit

import (
	"context"
	"net"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/build"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
	service "longshore/internal/service/build"
)

// Service is what the routes need of the build service.
type Service interface {
	Cancel(ctx context.Context, id string) error
	Prune(ctx context.Context, r service.PruneRequest) (api.CachePruneReport, error)
	Session(ctx context.Context, conn net.Conn, meta map[string][]string) error
	Control(ctx context.Context, conn net.Conn) error
}

type handlers struct{ svc Service }

// Routes are /session, /grpc and what lies below /build.
func Routes(svc Service) []route.Route {
	h := handlers{svc}
	return []route.Route{
		{Method: "POST", Pattern: "/session", Since: "1.31", Handle: h.session},
		{Method: "POST", Pattern: "/grpc", Since: "1.40", Handle: h.control},
		{Method: "POST", Pattern: "/build/prune", Since: "1.31", Handle: h.prune},
		{Method: "POST", Pattern: "/build/cancel", Since: "1.39", Handle: h.cancel},
	}
}

// session hands a client's connection to the builder, which calls back through it.
func (h handlers) session(_ context.Context, r *route.Request) (route.Response, error) {
	if err := upgrade(r); err != nil {
		return nil, err
	}
	meta := r.HTTP.Header.Clone()
	if meta.Get("X-Docker-Expose-Session-Uuid") == "" {
		return nil, fault.Invalid("session ID is required")
	}
	return route.Hijack{Upgrade: "h2c", Run: func(ctx context.Context, conn route.Conn) error {
		return h.svc.Session(ctx, conn, meta)
	}}, nil
}

// control serves BuildKit's control API.
func (h handlers) control(_ context.Context, r *route.Request) (route.Response, error) {
	if err := upgrade(r); err != nil {
		return nil, err
	}
	return route.Hijack{Upgrade: "h2c", Run: func(ctx context.Context, conn route.Conn) error {
		return h.svc.Control(ctx, conn)
	}}, nil
}

func upgrade(r *route.Request) error {
	switch proto := r.HTTP.Header.Get("Upgrade"); {
	case proto == "":
		return fault.Invalid("no upgrade proto in request")
	case !strings.EqualFold(proto, "h2c"):
		return fault.Invalid("protocol %s not supported", proto)
	}
	return nil
}

func (h handlers) prune(ctx context.Context, r *route.Request) (route.Response, error) {
	filters, err := r.Filters()
	if err != nil {
		return nil, err
	}
	q := service.PruneRequest{All: r.Bool("all"), Filters: filters}
	for name, n := range map[string]*int64{
		"reserved-space": &q.ReservedSpace, "max-used-space": &q.MaxUsedSpace, "min-free-space": &q.MinFreeSpace,
	} {
		text := r.Query.Get(name)
		if text == "" {
			continue
		}
		if *n, err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, fault.Invalid("%s is in bytes and expects an integer, got %s", name, text)
		}
	}
	report, err := h.svc.Prune(ctx, q)
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: report}, nil
}

func (h handlers) cancel(ctx context.Context, r *route.Request) (route.Response, error) {
	id := r.Query.Get("id")
	if id == "" {
		return nil, fault.Invalid("build ID not provided")
	}
	if err := h.svc.Cancel(ctx, id); err != nil {
		return nil, err
	}
	return route.Empty{Status: 200}, nil
}
