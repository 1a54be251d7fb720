// Package archive has the engine API's routes for files in containers: docker cp, export and diff.
package archive

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
	service "longshore/internal/service/engine/archive"
)

// Service is what the routes need of the archive service.
type Service interface {
	Check(ref string) error
	Stat(ctx context.Context, ref, path string) (container.PathStat, error)
	Get(ctx context.Context, ref, path string, told events.Action, w io.Writer) error
	Put(ctx context.Context, ref, path string, content io.Reader, o service.PutOptions) error
	Export(ctx context.Context, ref string, w io.Writer) error
	Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error)
}

type handlers struct{ svc Service }

// Routes are the operations on files in containers.
func Routes(svc Service) []route.Route {
	h := handlers{svc}
	return []route.Route{
		{Method: "HEAD", Pattern: "/containers/{id}/archive", Since: "1.20", Handle: h.stat},
		{Method: "GET", Pattern: "/containers/{id}/archive", Since: "1.20", Handle: h.get},
		{Method: "PUT", Pattern: "/containers/{id}/archive", Since: "1.20", Handle: h.put},
		{Method: "POST", Pattern: "/containers/{id}/copy", Since: "1.4", Until: "1.23", Handle: h.copy},
		{Method: "GET", Pattern: "/containers/{id}/export", Since: "1.0", Handle: h.export},
		{Method: "GET", Pattern: "/containers/{id}/changes", Since: "1.0", Handle: h.changes},
	}
}

// header carries what lies at the path, so that HEAD needs no body and GET's client knows before the archive.
func header(st container.PathStat) (http.Header, error) {
	doc, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	return http.Header{"X-Docker-Container-Path-Stat": {base64.StdEncoding.EncodeToString(doc)}}, nil
}

func path(r *route.Request) (string, error) {
	p := r.Query.Get("path")
	if p == "" {
		return "", fault.Invalid("bad parameter: path cannot be empty")
	}
	return p, nil
}

func (h handlers) stat(ctx context.Context, r *route.Request) (route.Response, error) {
	p, err := path(r)
	if err != nil {
		return nil, err
	}
	st, err := h.svc.Stat(ctx, r.Var("id"), p)
	if err != nil {
		return nil, err
	}
	hd, err := header(st)
	if err != nil {
		return nil, err
	}
	return route.Empty{Status: 200, Header: hd}, nil
}

func (h handlers) get(ctx context.Context, r *route.Request) (route.Response, error) {
	p, err := path(r)
	if err != nil {
		return nil, err
	}
	return h.tar(ctx, r.Var("id"), p, events.ActionArchivePath)
}

// copy is how archives were asked for before 1.20.
func (h handlers) copy(ctx context.Context, r *route.Request) (route.Response, error) {
	var q struct{ Resource string }
	if err := r.Decode(&q); err != nil {
		return nil, err
	}
	if q.Resource == "" {
		return nil, fault.Invalid("Path cannot be empty")
	}
	return h.tar(ctx, r.Var("id"), q.Resource, events.ActionCopy)
}

func (h handlers) tar(ctx context.Context, id, p string, told events.Action) (route.Response, error) {
	st, err := h.svc.Stat(ctx, id, p)
	if err != nil {
		return nil, err
	}
	hd, err := header(st)
	if err != nil {
		return nil, err
	}
	return route.Raw{ContentType: "application/x-tar", Header: hd, Run: func(ctx context.Context, w io.Writer) error {
		return h.svc.Get(ctx, id, p, told, w)
	}}, nil
}

func (h handlers) put(ctx context.Context, r *route.Request) (route.Response, error) {
	p, err := path(r)
	if err != nil {
		return nil, err
	}
	o := service.PutOptions{NoOverwriteDirNonDir: r.Bool("noOverwriteDirNonDir"), CopyUIDGID: r.Bool("copyUIDGID")}
	if err := h.svc.Put(ctx, r.Var("id"), p, r.Payload(), o); err != nil {
		return nil, err
	}
	return route.Empty{Status: 200}, nil
}

func (h handlers) export(_ context.Context, r *route.Request) (route.Response, error) {
	id := r.Var("id")
	if err := h.svc.Check(id); err != nil {
		return nil, err
	}
	return route.Raw{ContentType: "application/octet-stream", Run: func(ctx context.Context, w io.Writer) error {
		return h.svc.Export(ctx, id, w)
	}}, nil
}

func (h handlers) changes(ctx context.Context, r *route.Request) (route.Response, error) {
	list, err := h.svc.Changes(ctx, r.Var("id"))
	if err != nil {
		return nil, err
	}
	return route.JSON{Body: list}, nil
}
