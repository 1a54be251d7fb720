package engineboot

import (
	"context"
	"slices"
	"time"

	"longshore/internal/driver/tracing"
	"longshore/internal/server/engineapi"
	archiveapi "longshore/internal/server/engineapi/archive"
	"longshore/internal/server/engineapi/authz"
	buildapi "longshore/internal/server/engineapi/build"
	buildkitapi "longshore/internal/server/engineapi/buildkit"
	containersapi "longshore/internal/server/engineapi/containers"
	debugapi "longshore/internal/server/engineapi/debug"
	imagesapi "longshore/internal/server/engineapi/images"
	"longshore/internal/server/engineapi/legacy"
	"longshore/internal/server/engineapi/metrics"
	networksapi "longshore/internal/server/engineapi/networks"
	systemapi "longshore/internal/server/engineapi/system"
	"longshore/internal/server/engineapi/version"
	volumesapi "longshore/internal/server/engineapi/volumes"
)

// Versions of the engine API that are served.
const (
	newestAPI = "1.55"
	oldestAPI = "1.0"
)

func (e *engine) makeServer(ctx context.Context, down *closers) error {
	ladder, err := version.New()
	if err != nil {
		return err
	}
	routes := slices.Concat(
		containersapi.Routes(e.containers, e.cfg.Experimental),
		imagesapi.Routes(e.images, e.containers),
		networksapi.Routes(e.networks, e.containers),
		volumesapi.Routes(e.volumes),
		archiveapi.Routes(e.archive),
		buildapi.Routes(e.classic),
		buildkitapi.Routes(e.builds),
		systemapi.Routes(e.system),
	)
	if e.cfg.Debug {
		routes = append(routes, debugapi.Routes()...)
	}
	g, err := e.makeGuard(down)
	if err != nil {
		return err
	}
	routes = g.Wrap(routes, false)
	routes = append(g.Wrap(legacy.Routes(routes, e.containers), true), routes...)
	var observe func(string, time.Duration, bool)
	if e.cfg.MetricsAddr != "" {
		m := metrics.New(e.system, e.containers, e.journal)
		e.metrics, observe = m.Handler(), m.Observe
		e.background(m.Run)
	}
	e.gate = &gate{Gate: authz.New(e.log)}
	e.handler, err = engineapi.New(engineapi.Config{
		Experimental: e.cfg.Experimental, Newest: newestAPI, Oldest: e.oldest(), RefuseNewer: e.cfg.RefuseNewerClients, Observe: observe, Gate: e.gate.Gate,
		ServerHeader: "Longshore/" + e.build.Version + " (linux)",
	}, routes, ladder, e.log)
	if err != nil {
		return err
	}
	return e.trace(ctx, down)
}

// trace has requests traced where the environment asks for it.
func (e *engine) trace(ctx context.Context, down *closers) error {
	t, err := tracing.Open(ctx, "longshore", e.build.Version)
	if err != nil || t == nil {
		return err
	}
	down.add(t.Close)
	e.handler = t.Handler(e.handler)
	return nil
}

// oldest is the oldest API version that is served.
func (e *engine) oldest() string {
	if v := e.cfg.MinAPIVersion; v != "" {
		return v
	}
	return oldestAPI
}

// ready tells systemd, where it asked, that the API answers.
func (e *engine) ready() { notify(e.notify, "READY=1", e.log) }
