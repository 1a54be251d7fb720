// Package images has the engine API's routes of images, commits and registries' images.
package images

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/core/grant"
	"longshore/internal/server/route"
	service "longshore/internal/service/engine/images"
)

type handlers struct {
	svc        *service.Service
	containers service.CommitSource
}

// Routes are the operations below /images, and /commit and /distribution.
func Routes(svc *service.Service, containers service.CommitSource) []route.Route {
	h := handlers{svc, containers}
	return []route.Route{
		{Method: "GET", Pattern: "/images/json", Since: "1.0", Handle: h.list},
		{Method: "GET", Pattern: "/images/get", Since: "1.15", Handle: h.saveMany},
		{Method: "GET", Pattern: "/images/search", Since: "1.0", Handle: h.search},
		{Method: "POST", Pattern: "/images/create", Since: "1.0", Handle: h.create},
		{Method: "POST", Pattern: "/images/load", Since: "1.7", Handle: h.load},
		{Method: "POST", Pattern: "/images/prune", Since: "1.25", Handle: h.prune},
		{Method: "GET", Pattern: "/images/{name...}/json", Since: "1.0", Handle: h.inspect},
		{Method: "GET", Pattern: "/images/{name...}/history", Since: "1.0", Handle: h.history},
		{Method: "GET", Pattern: "/images/{name...}/attestations", Since: "1.55", Handle: h.attestations},
		{Method: "GET", Pattern: "/images/{name...}/get", Since: "1.7", Handle: h.save},
		{Method: "POST", Pattern: "/images/{name...}/push", Since: "1.0", Handle: h.push},
		{Method: "POST", Pattern: "/images/{name...}/tag", Since: "1.0", Handle: h.tag},
		{Method: "DELETE", Pattern: "/images/{name...}", Since: "1.0", Handle: h.remove},
		{Method: "POST", Pattern: "/commit", Since: "1.0", Handle: h.commit},
		{Method: "GET", Pattern: "/distribution/{name...}/json", Since: "1.30", Handle: h.distribution},
	}
}

func (h handlers) list(ctx context.Context, r *route.Request) (route.Response, error) {
	filters, err := r.Filters()
	if err != nil {
		return nil, err
	}
	if r.Bool("identity") && !r.Bool("manifests") {
		return nil, fault.Invalid("conflicting options: identity requires manifests=1")
	}
	list, err := h.svc.List(ctx, service.ListOptions{
		All: r.Bool("all"), Filters: filters, SharedSize: r.Bool("shared-size"), Manifests: r.Bool("manifests"), Identity: r.Bool("identity"),
	})
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: list}, nil
}

func (h handlers) inspect(ctx context.Context, r *route.Request) (route.Response, error) {
	p, err := platform(r)
	if err != nil {
		return nil, err
	}
	out, err := h.svc.Inspect(ctx, r.Var("name"), service.InspectOptions{Manifests: r.Bool("manifests"), Platform: p})
	if err != nil {
		return nil, err
	}
	if grant.HidesEnv(ctx) && out.Config != nil {
		shown, cfg := *out, *out.Config
		cfg.Env = grant.Env(ctx, cfg.Env)
		shown.Config = &cfg
		out = &shown
	}
	return route.JSON{Body: out}, nil
}

func (h handlers) history(ctx context.Context, r *route.Request) (route.Response, error) {
	p, err := platform(r)
	if err != nil {
		return nil, err
	}
	out, err := h.svc.History(ctx, r.Var("name"), p)
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: out}, nil
}

func (h handlers) attestations(ctx context.Context, r *route.Request) (route.Response, error) {
	p, err := platform(r)
	if err != nil {
		return nil, err
	}
	out, err := h.svc.Attestations(ctx, r.Var("name"), service.AttestationOptions{
		Platform: p, Types: r.Query["type"], Statement: r.Bool("statement"),
	})
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: out}, nil
}

func (h handlers) tag(ctx context.Context, r *route.Request) (route.Response, error) {
	if err := h.svc.Tag(ctx, r.Var("name"), r.Query.Get("repo"), r.Query.Get("tag")); err != nil {
		return nil, err
	}
	return route.Empty{Status: 201}, nil
}

func (h handlers) remove(ctx context.Context, r *route.Request) (route.Response, error) {
	if strings.TrimSpace(r.Var("name")) == "" {
		return nil, fault.Invalid("image name cannot be blank")
	}
	list, err := platformList(r, "platforms")
	if err != nil {
		return nil, err
	}
	out, err := h.svc.RemoveImage(ctx, r.Var("name"), service.RemoveOptions{Force: r.Bool("force"), KeepParents: r.Bool("noprune"), Platforms: list})
	if err != nil {
		return nil, err
	}
	if out == nil {
		out = []image.DeleteResponse{}
	}
	return route.JSON{Body: out}, nil
}

func (h handlers) prune(ctx context.Context, r *route.Request) (route.Response, error) {
	filters, err := r.Filters()
	if err != nil {
		return nil, err
	}
	out, err := h.svc.Prune(ctx, filters)
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: out}, nil
}

func (h handlers) search(ctx context.Context, r *route.Request) (route.Response, error) {
	filters, err := r.Filters()
	if err != nil {
		return nil, err
	}
	limit, err := r.Int("limit", 0)
	if err != nil {
		return nil, err
	}
	out, err := h.svc.Search(ctx, service.SearchOptions{Term: r.Query.Get("term"), Limit: limit, Filters: filters, Auth: credentials(r)})
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: out}, nil
}

func (h handlers) commit(ctx context.Context, r *route.Request) (route.Response, error) {
	var config *container.Config
	if err := r.DecodeOptional(&config); err != nil {
		return nil, err
	}
	id, err := h.svc.CommitContainer(ctx, h.containers, service.CommitRequest{
		Container: r.Query.Get("container"), Repo: r.Query.Get("repo"), Tag: r.Query.Get("tag"), Comment: r.Query.Get("comment"),
		Author: r.Query.Get("author"), Pause: r.BoolOr("pause", true), Changes: r.Query["changes"], Config: config,
	})
	if err != nil {
		return nil, err
	}
	return route.JSON{Status: 201, Body: container.CommitResponse{ID: id.String()}}, nil
}

func (h handlers) distribution(ctx context.Context, r *route.Request) (route.Response, error) {
	out, err := h.svc.Distribution(ctx, r.Var("name"), credentials(r))
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: out}, nil
}

// credentials reads X-Registry-Auth: JSON in base64, in whichever alphabet and padding clients use. What cannot be read
// counts as none, as docker has it.
func credentials(r *route.Request) *registry.AuthConfig {
	plain := strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(r.HTTP.Header.Get(registry.AuthHeader))
	b, err := base64.RawURLEncoding.DecodeString(plain)
	if err != nil {
		return nil
	}
	var auth registry.AuthConfig
	if json.Unmarshal(b, &auth) != nil || auth == (registry.AuthConfig{}) {
		return nil
	}
	return &auth
}

// platform reads the "platform" parameter in its JSON form; nil without.
func platform(r *route.Request) (*ocispec.Platform, error) {
	list, err := platformList(r, "platform")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if len(list) > 1 {
		return nil, fault.Invalid("multiple platform parameters not supported")
	}
	return &list[0], nil
}

func platformList(r *route.Request, name string) ([]ocispec.Platform, error) {
	var out []ocispec.Platform
	for _, s := range r.Query[name] {
		if s == "" {
			continue
		}
		p, err := service.DecodePlatform(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
