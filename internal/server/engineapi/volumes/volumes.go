// Package volumes has the engine API's volume routes.
package volumes

import (
	"context"
	"time"

	api "github.com/moby/moby/api/types/volume"

	"longshore/internal/core/fault"
	"longshore/internal/core/volume"
	"longshore/internal/server/route"
	service "longshore/internal/service/engine/volumes"
)

// Service is what the routes need of the volume service.
type Service interface {
	Create(ctx context.Context, o volume.CreateOptions) (volume.Volume, error)
	Inspect(ctx context.Context, name string) (api.Volume, error)
	List(ctx context.Context, filters map[string][]string) ([]api.Volume, error)
	Prune(ctx context.Context, filters map[string][]string) (api.PruneReport, error)
	Remove(ctx context.Context, name string, o service.RemoveOptions) error
}

type handlers struct{ svc Service }

// Routes are the operations below /volumes.
func Routes(svc Service) []route.Route {
	h := handlers{svc}
	return []route.Route{
		{Method: "GET", Pattern: "/volumes", Since: "1.21", Handle: h.list},
		{Method: "GET", Pattern: "/volumes/{name...}", Since: "1.21", Handle: h.inspect},
		{Method: "POST", Pattern: "/volumes/create", Since: "1.21", Handle: h.create},
		{Method: "POST", Pattern: "/volumes/prune", Since: "1.25", Handle: h.prune},
		{Method: "PUT", Pattern: "/volumes/{name...}", Since: "1.42", Handle: h.update},
		{Method: "DELETE", Pattern: "/volumes/{name...}", Since: "1.21", Handle: h.remove},
	}
}

func (h handlers) list(ctx context.Context, r *route.Request) (route.Response, error) {
	filters, err := r.Filters()
	if err != nil {
		return nil, err
	}
	list, err := h.svc.List(ctx, filters)
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: api.ListResponse{Volumes: list, Warnings: []string{}}}, nil
}

func (h handlers) inspect(ctx context.Context, r *route.Request) (route.Response, error) {
	v, err := h.svc.Inspect(ctx, r.Var("name"))
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: v}, nil
}

func (h handlers) create(ctx context.Context, r *route.Request) (route.Response, error) {
	var q api.CreateRequest
	if err := r.Decode(&q); err != nil {
		return nil, err
	}
	if q.ClusterVolumeSpec != nil {
		return nil, fault.Unavailable(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	}
	v, err := h.svc.Create(ctx, volume.CreateOptions{Name: q.Name, Driver: q.Driver, Labels: q.Labels, Options: q.DriverOpts})
	if err != nil {
		return nil, err
	}
	return route.JSON{Status: 201, Body: api.Volume{
		Name: v.Name, Driver: v.Driver, Mountpoint: v.Mountpoint, Labels: v.Labels, Options: v.Options,
		Scope: "local", CreatedAt: v.CreatedAt.Format(time.RFC3339),
	}}, nil
}

func (h handlers) prune(ctx context.Context, r *route.Request) (route.Response, error) {
	filters, err := r.Filters()
	if err != nil {
		return nil, err
	}
	report, err := h.svc.Prune(ctx, filters)
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: report}, nil
}

// update is for cluster volumes only, which need a swarm.
func (h handlers) update(context.Context, *route.Request) (route.Response, error) {
	return nil, fault.Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")
}

func (h handlers) remove(ctx context.Context, r *route.Request) (route.Response, error) {
	if err := h.svc.Remove(ctx, r.Var("name"), service.RemoveOptions{Force: r.Bool("force")}); err != nil {
		return nil, err
	}
	return route.Empty{}, nil
}
