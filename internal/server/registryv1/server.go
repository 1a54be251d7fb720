// Package registryv1 is registry API v1 over HTTP, after docker's registry_api document of version 1 and the reference
// implementation where that says nothing. It translates: service/registryv1 knows the images, service/hub the tokens and
// sessions, service/auth the rights.
package registryv1

import (
	"errors"
	"net/http"
	"strings"

	"longshore/internal/core/distribution"
	"longshore/internal/core/imagev1"
	"longshore/internal/server/wirev1"
	"longshore/internal/service/auth"
	"longshore/internal/service/hub"
	service "longshore/internal/service/registryv1"
)

// Paths are where the handler answers; what is below /v1/ and not the index's comes here.
var Paths = []string{"/v1/", "/_ping"}

// Handler answers requests. It is an http.Handler.
type Handler struct {
	gate *wirev1.Gate
	svc  *service.Service
	hub  *hub.Service
}

// New makes a handler.
func New(g *wirev1.Gate, s *service.Service, h *hub.Service) *Handler {
	return &Handler{gate: g, svc: s, hub: h}
}

// exchange is one request and its answer.
type exchange struct {
	http.ResponseWriter
	r *http.Request
	*Handler
	target wirev1.Target
	repo   distribution.RepoName
	id     imagev1.ID
	visit  visit
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, r: r, Handler: h}
	if err := x.serve(); err != nil {
		if errors.Is(err, errCut) {
			panic(http.ErrAbortHandler) // net/http closes the connection and says nothing
		}
		h.gate.Fail(w, r, err, "Token")
	}
}

// action answers an exchange, or returns what is to be told instead.
type action func(*exchange) error

// methods maps HTTP methods to actions; HEAD is GET where nothing else is said.
type methods map[string]action

func (x *exchange) serve() error {
	path := x.r.URL.Path
	if path == "/v1/_ping" || path == "/_ping" || path == "/v1/_ping/" {
		return x.dispatch(methods{http.MethodGet: ping})
	}
	if rest, ok := strings.CutPrefix(path, "/v1/images/"); ok {
		return x.image(strings.TrimSuffix(rest, "/"))
	}
	if rest, ok := strings.CutPrefix(path, "/v1/private_images/"); ok {
		return x.privateImage(strings.TrimSuffix(rest, "/"))
	}
	t, ok := wirev1.ParseTarget(path)
	table, known := repositoryRoutes[t.Kind]
	if !ok || !known {
		return wirev1.NotFound
	}
	repo, err := wirev1.RepoName(t.Name)
	if err != nil {
		return err
	}
	x.target, x.repo = t, repo
	return x.dispatch(table)
}

func (x *exchange) image(rest string) error {
	name, kind, _ := strings.Cut(rest, "/")
	table, known := imageRoutes[kind]
	if !known {
		return wirev1.NotFound
	}
	id, err := imagev1.ParseID(name)
	if err != nil {
		return err
	}
	x.id = id
	return x.dispatch(table)
}

// privateImage is how clients of 0.6 asked for images of private repositories; here they are images like others.
func (x *exchange) privateImage(rest string) error {
	switch _, kind, _ := strings.Cut(rest, "/"); {
	case x.r.Method != http.MethodGet && x.r.Method != http.MethodHead:
		return wirev1.Method(x, http.MethodGet)
	case kind == "json", kind == "layer", kind == "files":
		return x.image(rest)
	}
	return wirev1.NotFound
}

func (x *exchange) dispatch(table methods) error {
	method := x.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	do, ok := table[method]
	if !ok {
		var allow []string
		for _, m := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			if table[m] != nil {
				allow = append(allow, m)
			}
		}
		return wirev1.Method(x, strings.Join(allow, ", "))
	}
	return do(x)
}

// The API.
var (
	imageRoutes = map[string]methods{
		"json":     {http.MethodGet: reading(getJSON), http.MethodPut: writing(putJSON)},
		"layer":    {http.MethodGet: reading(getLayer), http.MethodPut: writing(putLayer)},
		"checksum": {http.MethodPut: writing(putChecksum)},
		"ancestry": {http.MethodGet: reading(getAncestry), http.MethodPut: writing(putAncestry)},
		"files":    {http.MethodGet: reading(getFiles)},
		"diff":     {http.MethodGet: reading(getDiff)},
	}
	repositoryRoutes = map[string]methods{
		"":     {http.MethodDelete: on(auth.Delete, deleteRepository)},
		"tags": {http.MethodGet: on(auth.Read, getTags), http.MethodDelete: on(auth.Delete, deleteRepository)},
		"tag": {http.MethodGet: on(auth.Read, getTag), http.MethodPut: forAny(putTag, auth.Create, auth.Update),
			http.MethodDelete: forAny(deleteTag, auth.Delete, auth.Create, auth.Update)},
		"json":       {http.MethodGet: on(auth.Read, getSummary)},
		"tagjson":    {http.MethodGet: on(auth.Read, getSummary)},
		"properties": {http.MethodGet: on(auth.Read, getProperties), http.MethodPut: on(auth.Update, putProperties)},
	}
)

// ping says that the registry is there, and whether it has an index of its own.
func ping(x *exchange) error {
	mode := "False"
	if x.gate.Options().Standalone {
		mode = "True"
	}
	x.Header().Set("X-Docker-Registry-Standalone", mode)
	x.Header().Set("X-Docker-Registry-Config", "longshore")
	wirev1.JSON(x, http.StatusOK, "")
	return nil
}
