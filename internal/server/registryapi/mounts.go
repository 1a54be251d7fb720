package registryapi

import (
	"context"
	"net/http"
	"strings"
)

// Mount is another API on the registry's server. Rate limits, metrics, log and audit lines are those of the registry's
// own requests; everything else, log-in and cross-origin rules too, is the handler's.
type Mount struct {
	// Path is one path, or everything below when it ends with a slash. The registry's own paths come first.
	Path    string
	Handler http.Handler
}

func (m *Mount) takes(path string) bool {
	return path == m.Path || strings.HasSuffix(m.Path, "/") && strings.HasPrefix(path, m.Path)
}

// mounted finds the handler of a path that is none of the registry's own.
func (s *settings) mounted(path string) http.Handler {
	for i := range s.Mounts {
		if s.Mounts[i].takes(path) {
			return s.Mounts[i].Handler
		}
	}
	return nil
}

type subjectKey struct{}

// serveMounted hands a request over.
func (s *Server) serveMounted(x *exchange, h http.Handler) error {
	if err := x.set.limits.take(x); err != nil {
		return err
	}
	h.ServeHTTP(x, x.r.WithContext(context.WithValue(x.r.Context(), subjectKey{}, &x.told)))
	return nil
}

// NoteSubject tells the log who asks, from within a mounted handler.
func NoteSubject(ctx context.Context, name string) {
	if told, ok := ctx.Value(subjectKey{}).(*string); ok {
		*told = name
	}
}
