// Package registryapi is the registry over HTTP: the OCI distribution API, zot's own endpoints, health, metrics and
// profiles. It translates: service/registry decides about content, service/auth about people.
//
//	s := registryapi.New(registryService, authService, registryapi.Options{})
//	http.Serve(listener, s)
//
// A request goes: CORS, rate limit, route, authenticate, authorise, handler, and whatever error comes back is written in
// one place (errors.go). Handlers are methods on Server that take an exchange.
package registryapi

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"longshore/internal/server/registryapi/metrics"
	"longshore/internal/service/auth"
	"longshore/internal/service/registry"
)

// Options are what an administrator decides. All but the first four may be changed by Reload.
type Options struct {
	// Logger gets requests (writes and failures as info, reads as debug); nil discards.
	Logger *slog.Logger
	// Audit gets one line per request that changes something or tries to; nil for none.
	Audit *slog.Logger
	// Metrics counts; nil for no metrics.
	Metrics *metrics.Metrics
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Handover passes blobs as files from and to the engine of this process; nil: there is none.
	Handover Handover

	// MetricsPath is where Metrics are served.
	MetricsPath string
	// Realm of Basic challenges; default "Authorization Required".
	Realm string
	// AllowOrigins are the origins of web pages that may use the API, "*" for all; empty for none.
	AllowOrigins []string
	// SecureCookies marks cookies as for TLS only.
	SecureCookies bool
	// Rate bounds requests per second, MethodRates those of a method; 0 and missing are no limit.
	Rate        int
	MethodRates map[string]int
	// Release is told by the mgmt endpoint.
	Release Release
	// Mounts are other APIs on the same server.
	Mounts []Mount
}

// Release is what the program tells about itself.
type Release struct{ Version, Commit string }

// Server answers requests. It is an http.Handler.
type Server struct {
	registry *registry.Service
	auth     *auth.Service
	log      *slog.Logger
	audit    *slog.Logger
	metrics  *metrics.Metrics
	now      func() time.Time
	settings atomic.Pointer[settings]
	ready    atomic.Bool
	pool     sync.Pool
}

// settings are the options that may change, prepared.
type settings struct {
	Options
	limits  limits
	origins origins
}

// New makes a server. It starts nothing. It is not ready until Ready says so.
func New(r *registry.Service, a *auth.Service, o Options) *Server {
	s := &Server{registry: r, auth: a, log: o.Logger, audit: o.Audit, metrics: o.Metrics, now: o.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.pool.New = func() any { return new(exchange) }
	s.Reload(o)
	return s
}

// Reload puts other options in force, for the requests that come after.
func (s *Server) Reload(o Options) {
	if o.Realm == "" {
		o.Realm = "Authorization Required"
	}
	s.settings.Store(&settings{Options: o, limits: newLimits(o), origins: newOrigins(o.AllowOrigins)})
}

// Ready tells the probes that start-up is over, or that the end has begun.
func (s *Server) Ready(ready bool) { s.ready.Store(ready) }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.pool.Get().(*exchange)
	*x = exchange{ResponseWriter: w, r: r, set: s.settings.Load(), start: s.now()}
	defer func() {
		*x = exchange{}
		s.pool.Put(x)
	}()
	cut := false
	if err := s.serve(x); err != nil {
		cut = s.writeError(x, err)
	}
	s.finish(x)
	if cut {
		panic(http.ErrAbortHandler) // net/http closes the connection and says nothing
	}
}

// serve does everything up to the error that the client is to read.
func (s *Server) serve(x *exchange) error {
	known := x.route(x.r.URL.Path, x.set.MetricsPath)
	if !known {
		if h := x.set.mounted(x.r.URL.Path); h != nil {
			return s.serveMounted(x, h)
		}
	}
	if x.set.origins.answer(x) {
		return nil
	}
	if !known {
		return errNotFound(x.r.URL.Path)
	}
	op := &operations[x.op]
	h := op.handler(x.r.Method)
	if h == nil {
		return s.methodNotAllowed(x, op)
	}
	if op.open {
		return h(s, x)
	}
	if err := x.set.limits.take(x); err != nil {
		return err
	}
	if err := s.identify(x); err != nil {
		return err
	}
	return h(s, x)
}

// finish counts and writes down what was answered.
func (s *Server) finish(x *exchange) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	took := s.now().Sub(x.start)
	if s.metrics != nil && x.op != opMetrics {
		s.metrics.Request(x.r.Method, x.status, x.repoLabel(), took)
		s.metrics.Bytes(x.received(), x.sent)
	}
	s.logRequest(x, took)
}
