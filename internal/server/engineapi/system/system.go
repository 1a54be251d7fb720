// Package system has the engine API's routes about the engine as a whole, and the answers of an engine without swarm
// and plugins.
package system

import (
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	api "github.com/moby/moby/api/types/system"

	"longshore/internal/server/route"
	service "longshore/internal/service/engine/system"
)

// Service is what the routes need of the system service.
type Service interface {
	Ping() service.Ping
	Version() api.VersionResponse
	Info(ctx context.Context) api.Info
	Events(o service.EventsOptions) (func(context.Context, func(events.Message) error) error, error)
	DiskUsage(ctx context.Context, o service.UsageOptions) (*api.DiskUsage, error)
	Login(ctx context.Context, auth registry.AuthConfig) (registry.AuthResponse, error)
}

type handlers struct{ svc Service }

// Routes are the operations on the engine as a whole, swarm and plugins included.
func Routes(svc Service) []route.Route {
	h := handlers{svc}
	own := []route.Route{
		{Method: "GET", Pattern: "/_ping", Since: "1.0", Handle: h.ping},
		{Method: "HEAD", Pattern: "/_ping", Since: "1.0", Handle: h.ping},
		{Method: "GET", Pattern: "/version", Since: "1.0", Handle: h.version},
		{Method: "GET", Pattern: "/info", Since: "1.0", Handle: h.info},
		{Method: "GET", Pattern: "/events", Since: "1.3", Handle: h.events},
		{Method: "GET", Pattern: "/system/df", Since: "1.25", Handle: h.usage},
		{Method: "POST", Pattern: "/auth", Since: "1.0", Handle: h.login},
	}
	return append(append(own, pluginRoutes()...), swarmRoutes()...)
}

// ping answers under every version prefix: clients ask before they know which one to use.
func (h handlers) ping(_ context.Context, r *route.Request) (route.Response, error) {
	p := h.svc.Ping()
	header := http.Header{
		"Builder-Version": {p.BuilderVersion}, "Swarm": {p.Swarm},
		"Cache-Control": {"no-cache, no-store, must-revalidate"}, "Pragma": {"no-cache"},
	}
	if r.HTTP.Method == http.MethodHead {
		header.Set("Content-Type", "text/plain; charset=utf-8")
		header.Set("Content-Length", "0")
		return route.Empty{Status: http.StatusOK, Header: header}, nil
	}
	header.Set("Content-Length", "2")
	return route.Raw{ContentType: "text/plain; charset=utf-8", Header: header, Run: func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "OK")
		return err
	}}, nil
}

func (h handlers) version(context.Context, *route.Request) (route.Response, error) {
	return route.JSON{Body: h.svc.Version()}, nil
}

func (h handlers) info(ctx context.Context, _ *route.Request) (route.Response, error) {
	return route.JSON{Body: h.svc.Info(ctx)}, nil
}

func (h handlers) events(_ context.Context, r *route.Request) (route.Response, error) {
	filters, err := r.Filters()
	if err != nil {
		return nil, err
	}
	run, err := h.svc.Events(service.EventsOptions{Since: r.Query.Get("since"), Until: r.Query.Get("until"), Filters: filters})
	if err != nil {
		return nil, err
	}
	media := negotiate(r.HTTP.Header.Values("Accept"))
	return route.Lines{Early: true, Header: http.Header{"Content-Type": {media}}, Run: func(ctx context.Context, emit func(any) error) error {
		return run(ctx, func(m events.Message) error {
			if media != types.MediaTypeJSONSequence {
				return emit(m)
			}
			// RFC 7464: a record separator before each text.
			doc, err := json.Marshal(m)
			if err != nil {
				return err
			}
			return emit(route.Encoded("\x1e" + string(doc)))
		})
	}}, nil
}

// negotiate picks the first form of the stream that the client names and we have.
func negotiate(accept []string) string {
	for _, element := range strings.Split(strings.Join(accept, ","), ",") {
		media, _, err := mime.ParseMediaType(element)
		if err != nil {
			continue
		}
		switch media {
		case types.MediaTypeJSONLines, types.MediaTypeNDJSON, types.MediaTypeJSONSequence, types.MediaTypeJSON:
			return media
		}
	}
	return types.MediaTypeJSONLines
}

func (h handlers) usage(ctx context.Context, r *route.Request) (route.Response, error) {
	u, err := h.svc.DiskUsage(ctx, service.UsageOptions{Types: r.Query["type"], Verbose: r.Bool("verbose")})
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: u}, nil
}

func (h handlers) login(ctx context.Context, r *route.Request) (route.Response, error) {
	var auth registry.AuthConfig
	if err := r.Decode(&auth); err != nil {
		return nil, err
	}
	answer, err := h.svc.Login(ctx, auth)
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: answer}, nil
}
