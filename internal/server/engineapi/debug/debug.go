// Package debug has the routes of the Go runtime's profiles and variables, which a daemon in debug mode serves. Below a
// version prefix they stand since 1.48; without one, always.
package debug

import (
	"context"
	"expvar"
	"net/http"
	"net/http/pprof"

	"longshore/internal/server/route"
)

// Routes are the operations of a daemon in debug mode.
func Routes() []route.Route {
	serve := func(pattern string, h http.HandlerFunc) route.Route {
		return route.Route{Method: "GET", Pattern: pattern, Since: "1.48", Handle: func(context.Context, *route.Request) (route.Response, error) {
			return route.HTTP{Handler: h}, nil
		}}
	}
	return []route.Route{
		serve("/debug/vars", expvar.Handler().ServeHTTP),
		serve("/debug/pprof", index),
		serve("/debug/pprof/cmdline", pprof.Cmdline),
		serve("/debug/pprof/profile", pprof.Profile),
		serve("/debug/pprof/symbol", pprof.Symbol),
		serve("/debug/pprof/trace", pprof.Trace),
		{Method: "GET", Pattern: "/debug/pprof/{name}", Since: "1.48", Handle: func(_ context.Context, r *route.Request) (route.Response, error) {
			return route.HTTP{Handler: pprof.Handler(r.Var("name"))}, nil
		}},
	}
}

// index hides the version prefix from the list of profiles, which looks at the path.
func index(w http.ResponseWriter, r *http.Request) {
	clone := r.Clone(r.Context())
	clone.URL.Path = "/debug/pprof/"
	pprof.Index(w, clone)
}
