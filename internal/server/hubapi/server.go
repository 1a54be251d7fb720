// Package hubapi is the index API v1 over HTTP (Docker Hub's of 2013 to 2015), after docker's index_api and docker-io_api
// documents: people, allocation and deletion of repositories, tokens for registries, and the search. It translates:
// service/hub knows the index, service/auth the rights, service/auth/accounts the people.
package hubapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"longshore/internal/core/distribution"
	"longshore/internal/core/graph"
	"longshore/internal/server/wirev1"
	"longshore/internal/service/auth"
	"longshore/internal/service/auth/accounts"
	"longshore/internal/service/hub"
)

// Images is what the registry knows of a repository's images.
type Images interface {
	// Records lists the images of the tags; ErrNotFound when there is no such repository.
	Records(ctx context.Context, repo distribution.RepoName) ([]graph.Record, error)
	// CheckRecords compares checksums with those of images that are there.
	CheckRecords(ctx context.Context, repo distribution.RepoName, records []graph.Record) error
	// Has says whether a repository has tags that were set after a time.
	Has(ctx context.Context, repo distribution.RepoName, after time.Time) (bool, error)
}

// Handler answers requests to the index, and passes on those to the registry.
type Handler struct {
	gate     *wirev1.Gate
	hub      *hub.Service
	images   Images
	people   *accounts.Service
	registry http.Handler
}

// New makes a handler. people is nil where there are no accounts. registry gets what is not the index's.
func New(g *wirev1.Gate, h *hub.Service, i Images, people *accounts.Service, registry http.Handler) *Handler {
	return &Handler{gate: g, hub: h, images: i, people: people, registry: registry}
}

// exchange is one request and its answer.
type exchange struct {
	http.ResponseWriter
	r *http.Request
	*Handler
	repo distribution.RepoName
	who  *auth.Subject
}

// action answers an exchange, or returns what is to be told instead.
type action func(*exchange) error

// challenge of the index: it takes names with passwords, and its own tokens.
const challenge = `Basic realm="auth required",Token`

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, r: r, Handler: h}
	do, err := x.route()
	switch {
	case err != nil:
	case do == nil:
		h.registry.ServeHTTP(w, r)
		return
	default:
		err = do(x)
	}
	if err != nil {
		h.gate.Fail(w, r, err, challenge)
	}
}

// route finds the action; nil when the path is the registry's.
func (x *exchange) route() (action, error) {
	path := strings.TrimSuffix(x.r.URL.Path, "/")
	switch {
	case path == "/v1/search":
		return x.among(map[string]action{http.MethodGet: search})
	case path == "/v1/users":
		return x.among(map[string]action{http.MethodGet: login, http.MethodPost: register})
	case strings.HasPrefix(path, "/v1/users/"):
		return x.among(map[string]action{http.MethodPut: updateUser})
	}
	t, ok := wirev1.ParseTarget(x.r.URL.Path)
	if !ok {
		return nil, nil
	}
	var table map[string]action
	switch t.Kind {
	case "":
		if x.r.Method == http.MethodDelete && x.forRegistry() {
			return nil, nil
		}
		table = map[string]action{http.MethodPut: allocate, http.MethodDelete: deleteRepository}
	case "images":
		table = map[string]action{http.MethodGet: getImages, http.MethodPut: putImages, http.MethodDelete: deleteImages}
	case "auth":
		table = map[string]action{http.MethodPut: authorize}
	default:
		return nil, nil
	}
	repo, err := wirev1.RepoName(t.Name)
	if err != nil {
		return nil, err
	}
	x.repo = repo
	return x.among(table)
}

// forRegistry tells the two deletions of a repository apart, which have one path where index and registry are one host: the
// registry's comes with a token or a session, and in standalone mode also with nothing at all.
func (x *exchange) forRegistry() bool {
	header := x.r.Header.Get("Authorization")
	if _, isToken := wirev1.ParseToken(header); isToken {
		return true
	}
	return header == "" && x.r.Header.Get("X-Docker-Token") == "" && x.r.Header.Get("X-Docker-Endpoints") == ""
}

func (x *exchange) among(table map[string]action) (action, error) {
	method := x.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if do, ok := table[method]; ok {
		return do, nil
	}
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if table[m] != nil {
			allow = append(allow, m)
		}
	}
	return nil, wirev1.Method(x, strings.Join(allow, ", "))
}

// identify finds out who asks; named demands a name where there is a way to have one.
func (x *exchange) identify(named bool) error {
	who, err := x.gate.Who(x.r)
	if err != nil {
		return err
	}
	if named && who.IsAnonymous() && x.gate.Auth.Required() {
		return hub.ErrToken
	}
	x.who = who
	return nil
}
