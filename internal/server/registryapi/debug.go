package registryapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/pprof"

	"github.com/containerd/errdefs"

	"longshore/internal/core/distribution"
	"longshore/internal/server/registryapi/apidoc"
)

// pprof serves profiles of the process to administrators.
func (s *Server) pprof(x *exchange) error {
	if err := s.auth.Administer(x.who); err != nil {
		return err
	}
	switch x.ref {
	case "":
		// The index lists links relative to its own path.
		r := x.r.Clone(x.r.Context())
		r.URL.Path = "/debug/pprof/"
		pprof.Index(x, r)
	case "cmdline":
		pprof.Cmdline(x, x.r)
	case "profile":
		pprof.Profile(x, x.r)
	case "symbol":
		pprof.Symbol(x, x.r)
	case "trace":
		pprof.Trace(x, x.r)
	default:
		pprof.Handler(x.ref).ServeHTTP(x, x.r)
	}
	return nil
}

// docs serves the description of this API.
func (s *Server) docs(x *exchange) error {
	if err := s.auth.Enter(x.who); err != nil {
		return err
	}
	switch x.ref {
	case "", "index.html":
		return x.document(http.StatusOK, "text/html; charset=utf-8", apidoc.Page)
	case "doc.json", "openapi.json":
		return x.document(http.StatusOK, "application/json", apidoc.Document)
	}
	return errNotFound(x.r.URL.Path)
}

// repositoryBytes is the storage that a repository uses, for the metrics; 0 when it is gone.
func (s *Server) repositoryBytes(ctx context.Context, name string) (int64, error) {
	r, err := s.registry.Repository(ctx, distribution.RepoName(name))
	if errors.Is(err, errdefs.ErrNotFound) {
		return 0, nil
	}
	return r.Bytes, err
}
