package system

import (
	"context"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// noManager is docker's answer to everything that needs a swarm.
const noManager = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`

// swarmRoutes answer as an engine that is in no swarm.
func swarmRoutes() []route.Route {
	var routes []route.Route
	for _, o := range []struct{ method, pattern, since string }{
		{"GET", "/swarm", "1.24"}, {"POST", "/swarm/update", "1.24"}, {"POST", "/swarm/unlock", "1.25"}, {"GET", "/swarm/unlockkey", "1.25"},
		{"GET", "/nodes", "1.24"}, {"GET", "/nodes/{id}", "1.24"}, {"DELETE", "/nodes/{id}", "1.24"}, {"POST", "/nodes/{id}/update", "1.24"},
		{"GET", "/services", "1.24"}, {"POST", "/services/create", "1.24"}, {"GET", "/services/{id}", "1.24"},
		{"DELETE", "/services/{id}", "1.24"}, {"POST", "/services/{id}/update", "1.24"}, {"GET", "/services/{id}/logs", "1.25"},
		{"GET", "/tasks", "1.24"}, {"GET", "/tasks/{id}", "1.24"}, {"GET", "/tasks/{id}/logs", "1.29"},
		{"GET", "/secrets", "1.25"}, {"POST", "/secrets/create", "1.25"}, {"GET", "/secrets/{id}", "1.25"},
		{"DELETE", "/secrets/{id}", "1.25"}, {"POST", "/secrets/{id}/update", "1.25"},
		{"GET", "/configs", "1.30"}, {"POST", "/configs/create", "1.30"}, {"GET", "/configs/{id}", "1.30"},
		{"DELETE", "/configs/{id}", "1.30"}, {"POST", "/configs/{id}/update", "1.30"},
	} {
		routes = append(routes, route.Route{Method: o.method, Pattern: o.pattern, Since: o.since, Handle: unavailable(noManager)})
	}
	return append(routes,
		route.Route{Method: "POST", Pattern: "/swarm/leave", Since: "1.24", Handle: unavailable("This node is not part of a swarm")},
		route.Route{Method: "POST", Pattern: "/swarm/init", Since: "1.24", Handle: unavailable("This engine cannot form a swarm: it runs containers on this node only")},
		route.Route{Method: "POST", Pattern: "/swarm/join", Since: "1.24", Handle: unavailable("This engine cannot join a swarm: it runs containers on this node only")},
	)
}

func unavailable(text string) route.Handler {
	return func(context.Context, *route.Request) (route.Response, error) {
		return nil, fault.Unavailable("%s", text)
	}
}

// pluginRoutes answer as an engine that has no plugins and cannot take any.
func pluginRoutes() []route.Route {
	return []route.Route{
		{Method: "GET", Pattern: "/plugins", Since: "1.24", Handle: noPlugins},
		{Method: "GET", Pattern: "/plugins/privileges", Since: "1.25", Handle: pluginsUnsupported},
		{Method: "POST", Pattern: "/plugins/pull", Since: "1.24", Handle: pluginsUnsupported},
		{Method: "POST", Pattern: "/plugins/create", Since: "1.25", Handle: pluginsUnsupported},
		{Method: "GET", Pattern: "/plugins/{name...}", Since: "1.24", Until: "1.24", Handle: noPlugin},
		{Method: "GET", Pattern: "/plugins/{name...}/json", Since: "1.25", Handle: noPlugin},
		{Method: "DELETE", Pattern: "/plugins/{name...}", Since: "1.24", Handle: noPlugin},
		{Method: "POST", Pattern: "/plugins/{name...}/enable", Since: "1.24", Handle: noPlugin},
		{Method: "POST", Pattern: "/plugins/{name...}/disable", Since: "1.24", Handle: noPlugin},
		{Method: "POST", Pattern: "/plugins/{name...}/push", Since: "1.24", Handle: noPlugin},
		{Method: "POST", Pattern: "/plugins/{name...}/set", Since: "1.24", Handle: noPlugin},
		{Method: "POST", Pattern: "/plugins/{name...}/upgrade", Since: "1.26", Handle: noPlugin},
	}
}

func noPlugins(_ context.Context, r *route.Request) (route.Response, error) {
	if _, err := r.Filters(); err != nil {
		return nil, err
	}
	return route.JSON{Body: []struct{}{}}, nil
}

func noPlugin(_ context.Context, r *route.Request) (route.Response, error) {
	return nil, fault.NotFound("plugin %q not found", r.Var("name"))
}

func pluginsUnsupported(context.Context, *route.Request) (route.Response, error) {
	return nil, fault.NotImplemented("plugins are not supported on this platform")
}
