// Package build has the engine API's POST /build, for classic clients and for BuildKit's (version=2).
package build

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"mime"
	"mime/multipart"
	"strings"

	"github.com/moby/moby/api/types/registry"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
	"longshore/internal/service/build/buildcontext"
	"longshore/internal/service/build/classic"
)

// Service is what the route needs of the build service.
type Service interface {
	Build(ctx context.Context, r classic.Request, emit classic.Emit) error
	Trace(ctx context.Context, r classic.Request, emit classic.Emit) error
}

type handlers struct{ svc Service }

// Routes is POST /build.
func Routes(svc Service) []route.Route {
	h := handlers{svc}
	return []route.Route{{Method: "POST", Pattern: "/build", Since: "1.0", Handle: h.build}}
}

func (h handlers) build(_ context.Context, r *route.Request) (route.Response, error) {
	q, err := request(r)
	if err != nil {
		return nil, err
	}
	carry := h.svc.Build
	switch v := r.Query.Get("version"); v {
	case "", "1":
	case "2":
		carry = h.svc.Trace
	default:
		return nil, fault.Invalid("invalid version %q", v)
	}
	if err := source(r, &q.Source); err != nil {
		return nil, err
	}
	return route.Lines{ErrorLine: true, Duplex: true, Run: func(ctx context.Context, emit func(any) error) error {
		return carry(ctx, q, emit)
	}}, nil
}

// source finds where the context comes from.
func source(r *route.Request, s *buildcontext.Source) error {
	s.Remote, s.Dockerfile, s.Body = r.Query.Get("remote"), r.Query.Get("dockerfile"), r.Payload()
	kind, params, err := mime.ParseMediaType(r.HTTP.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || !r.Dialect.MultipartBuild {
		return nil
	}
	if params["boundary"] == "" {
		return fault.Invalid("no multipart boundary param in Content-Type")
	}
	s.Form = multipart.NewReader(s.Body, params["boundary"])
	return nil
}

// credentials reads X-Registry-Config: registries' credentials as JSON in base64, in whichever alphabet and padding
// clients use. What cannot be read counts as none, as docker has it.
func credentials(r *route.Request) map[string]registry.AuthConfig {
	plain := strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(r.HTTP.Header.Get("X-Registry-Config"))
	doc, err := base64.RawURLEncoding.DecodeString(plain)
	if err != nil {
		return nil
	}
	var all map[string]registry.AuthConfig
	if json.Unmarshal(doc, &all) != nil {
		return nil
	}
	for key, a := range all {
		if a.Auth != "" && a.Username == "" && a.Password == "" {
			if pair, err := base64.StdEncoding.DecodeString(a.Auth); err == nil {
				a.Username, a.Password, _ = strings.Cut(string(pair), ":")
				a.Auth = ""
				all[key] = a
			}
		}
	}
	return all
}
