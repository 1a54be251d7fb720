// Package networks holds the engine API's handlers for /networks, in the newest version's terms.
package networks

import (
	"context"
	"net/http"
	"strconv"

	"github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// Service is what the handlers need of networks. Filters are docker's: several values per name.
type Service interface {
	List(ctx context.Context, filters map[string][]string) ([]network.Inspect, error)
	Inspect(ctx context.Context, term, scope string) (network.Inspect, error)
	// Name is the name of the network that a name, an ID or the beginning of one means.
	Name(term string) (string, error)
	Create(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error)
	Remove(ctx context.Context, term string) error
	Prune(ctx context.Context, filters map[string][]string) (network.PruneReport, error)
}

// Connector puts containers, running or not, on networks, which it knows by their names, and takes them off.
type Connector interface {
	ConnectContainer(ctx context.Context, net, container string, e *network.EndpointSettings) error
	DisconnectContainer(ctx context.Context, net, container string, force bool) error
}

type handlers struct {
	networks   Service
	containers Connector
}

// Routes lists the operations.
func Routes(networks Service, containers Connector) []route.Route {
	h := handlers{networks, containers}
	return []route.Route{
		{Method: http.MethodGet, Pattern: "/networks", Since: "1.21", Handle: h.list},
		{Method: http.MethodPost, Pattern: "/networks/create", Since: "1.21", Handle: h.create},
		{Method: http.MethodPost, Pattern: "/networks/prune", Since: "1.25", Handle: h.prune},
		{Method: http.MethodGet, Pattern: "/networks/{id}", Since: "1.21", Handle: h.inspect},
		{Method: http.MethodDelete, Pattern: "/networks/{id}", Since: "1.21", Handle: h.remove},
		{Method: http.MethodPost, Pattern: "/networks/{id}/connect", Since: "1.21", Handle: h.connect},
		{Method: http.MethodPost, Pattern: "/networks/{id}/disconnect", Since: "1.21", Handle: h.disconnect},
	}
}

// list answers summaries that carry, for the version ladder, the containers that lists showed before 1.28.
func (h handlers) list(ctx context.Context, r *route.Request) (route.Response, error) {
	f, err := r.Filters()
	if err != nil {
		return nil, err
	}
	all, err := h.networks.List(ctx, f)
	if err != nil {
		return nil, err
	}
	out := make([]Summary, 0, len(all))
	for _, n := range all {
		out = append(out, Summary{Summary: network.Summary{Network: n.Network}, Containers: n.Containers})
	}
	return route.JSON{Body: out}, nil
}

// Summary is an element of the list: what the newest version shows and, for the ladder, what old ones do.
type Summary struct {
	network.Summary
	Containers map[string]network.EndpointResource `json:"-"`
}

func (h handlers) inspect(ctx context.Context, r *route.Request) (route.Response, error) {
	if v := r.Query.Get("verbose"); v != "" {
		// Verbose adds what swarm knows of services; a network of this engine alone has none.
		if _, err := strconv.ParseBool(v); err != nil {
			return nil, fault.Invalid("invalid value for verbose: %s: %s", v, err)
		}
	}
	n, err := h.networks.Inspect(ctx, r.Var("id"), r.Query.Get("scope"))
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: n}, nil
}

func (h handlers) create(ctx context.Context, r *route.Request) (route.Response, error) {
	var req network.CreateRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	out, err := h.networks.Create(ctx, req)
	if err != nil {
		return nil, err
	}
	return route.JSON{Status: http.StatusCreated, Body: out}, nil
}

func (h handlers) remove(ctx context.Context, r *route.Request) (route.Response, error) {
	return route.Empty{}, h.networks.Remove(ctx, r.Var("id"))
}

func (h handlers) prune(ctx context.Context, r *route.Request) (route.Response, error) {
	f, err := r.Filters()
	if err != nil {
		return nil, err
	}
	report, err := h.networks.Prune(ctx, f)
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: report}, nil
}

func (h handlers) connect(ctx context.Context, r *route.Request) (route.Response, error) {
	var req network.ConnectRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	name, err := h.networks.Name(r.Var("id"))
	if err != nil {
		return nil, err
	}
	return route.Empty{Status: http.StatusOK}, h.containers.ConnectContainer(ctx, name, req.Container, req.EndpointConfig)
}

func (h handlers) disconnect(ctx context.Context, r *route.Request) (route.Response, error) {
	var req network.DisconnectRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	name, err := h.networks.Name(r.Var("id"))
	if err != nil {
		return nil, err
	}
	return route.Empty{Status: http.StatusOK}, h.containers.DisconnectContainer(ctx, name, req.Container, req.Force)
}
