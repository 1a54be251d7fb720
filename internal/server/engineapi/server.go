// Package engineapi is the HTTP server of the engine API: it finds the route for a request, lets the version ladder
// lift the request and lower the answer, and writes what handlers return. Handlers live in the sub-packages, one per
// kind of object; none of them sees an API version.
package engineapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"longshore/internal/core/fault"
	"longshore/internal/server/engineapi/authz"
	"longshore/internal/server/engineapi/version"
	"longshore/internal/server/httperr"
	"longshore/internal/server/route"
)

// Config settles what the server says of itself.
type Config struct {
	// Newest and Oldest are the API versions served, "1.55" and "1.0".
	Newest, Oldest string
	// RefuseNewer answers 400 to prefixes above Newest instead of serving them as the newest.
	RefuseNewer bool
	// Experimental is told to clients, which then show more commands.
	Experimental bool
	// ServerHeader is the Server header: "Longshore/0.1 (linux)".
	ServerHeader string
	// Observe, if set, is told of each request by its route's key, when its handler has answered.
	Observe func(route string, took time.Duration, failed bool)
	// Gate, if set, lets requests and answers pass, or not.
	Gate *authz.Gate
}

// Ladder yields what stands between an old API version and the newest for one route.
type Ladder interface {
	// Step is nil where nothing differs; dialect is that of the version.
	Step(key string, v route.Version) (step *version.Step, dialect route.Dialect)
}

// Server serves the engine API. Safe for concurrent use.
type Server struct {
	cfg    Config
	table  *route.Table
	ladder Ladder
	log    *slog.Logger
	newest route.Version
	oldest route.Version
}

// New builds a server from all handlers' routes. ladder may be nil: then every version sees the newest shapes.
func New(cfg Config, routes []route.Route, ladder Ladder, log *slog.Logger) (*Server, error) {
	table, err := route.NewTable(routes)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, table: table, ladder: ladder, log: log}
	if s.newest, err = route.ParseVersion(cfg.Newest); err != nil {
		return nil, err
	}
	if s.oldest, err = route.ParseVersion(cfg.Oldest); err != nil {
		return nil, err
	}
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	h := w.Header()
	h.Set("Api-Version", s.cfg.Newest)
	h.Set("Docker-Experimental", strconv.FormatBool(s.cfg.Experimental))
	h.Set("Ostype", "linux")
	h.Set("Server", s.cfg.ServerHeader)
	v, path, err := s.version(hr.URL.EscapedPath())
	if err != nil {
		s.fail(w, hr, route.Dialect{}, err)
		return
	}
	dialect := s.dialect("", v)
	m, ok := s.table.Match(hr.Method, path, v)
	if !ok && hr.Method == http.MethodHead {
		m, ok = s.table.Match(http.MethodGet, path, v)
	}
	if !ok {
		s.fail(w, hr, dialect, fault.NotFound("page not found"))
		return
	}
	r := &route.Request{HTTP: hr, Vars: m.Vars, Query: hr.URL.Query()}
	if s.cfg.Gate == nil {
		s.serve(w, r, m.Route, v)
		return
	}
	session, err := s.cfg.Gate.Ask(w, hr)
	switch {
	case err != nil:
		s.fail(w, hr, dialect, err)
	case session == nil:
		s.serve(w, r, m.Route, v)
	default:
		s.serve(session, r, m.Route, v)
		if err := session.Finish(); err != nil {
			s.fail(w, hr, dialect, err)
		}
	}
}

// serve runs one matched request: lift, handle, lower, write.
func (s *Server) serve(w http.ResponseWriter, r *route.Request, rt *route.Route, v route.Version) {
	var step *version.Step
	if s.ladder != nil && v < s.newest {
		step, r.Dialect = s.ladder.Step(rt.Key(), v)
	}
	if step != nil {
		if err := step.Lift(r); err != nil {
			s.fail(w, r.HTTP, r.Dialect, step.Fail(r, err))
			return
		}
	}
	ctx := r.HTTP.Context()
	began := time.Now()
	resp, err := s.handle(ctx, rt, r)
	if s.cfg.Observe != nil {
		s.cfg.Observe(rt.Key(), time.Since(began), err != nil)
	}
	if err == nil && step != nil {
		resp, err = step.Lower(r, resp)
	}
	if err != nil {
		if step != nil {
			if err = step.Fail(r, err); err == nil { // no error to a client of that day
				s.write(ctx, w, r, route.Empty{})
				return
			}
		}
		s.fail(w, r.HTTP, r.Dialect, err)
		return
	}
	s.write(ctx, w, r, resp)
}

// handle turns a panic of a handler into an error, so that one bad request cannot end the daemon.
func (s *Server) handle(ctx context.Context, rt *route.Route, r *route.Request) (resp route.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.Error("handler panicked", "route", rt.Key(), "panic", p, "stack", stack())
			err = fault.Internal("internal error: %v", p)
		}
	}()
	return rt.Handle(ctx, r)
}

// version splits "/v1.41/x" into 1.41 and "/x". Without a prefix the newest is meant.
func (s *Server) version(path string) (route.Version, string, error) {
	if len(path) < 3 || path[1] != 'v' || path[2] < '0' || path[2] > '9' {
		return s.newest, path, nil
	}
	text, rest, _ := strings.Cut(path[2:], "/")
	v, err := route.ParseVersion(text)
	if err != nil {
		return 0, "", err
	}
	if v > s.newest {
		if s.cfg.RefuseNewer {
			return 0, "", fault.Invalid("client version %s is too new. Maximum supported API version is %s", text, s.cfg.Newest)
		}
		v = s.newest
	}
	if v < s.oldest {
		return 0, "", fault.Invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", text, s.cfg.Oldest)
	}
	return v, "/" + rest, nil
}

func (s *Server) dialect(key string, v route.Version) route.Dialect {
	if s.ladder == nil || v >= s.newest {
		return route.Dialect{}
	}
	_, d := s.ladder.Step(key, v)
	return d
}

// fail writes an error answer: {"message"} or, for old dialects, plain text.
func (s *Server) fail(w http.ResponseWriter, hr *http.Request, d route.Dialect, err error) {
	status := httperr.Status(err)
	drain(hr)
	if errors.Is(err, context.Canceled) && hr.Context().Err() != nil {
		return // nobody is left to read it
	}
	switch {
	case status >= 500:
		s.log.Error("request failed", "method", hr.Method, "path", hr.URL.Path, "status", status, "error", err)
	default:
		s.log.Debug("request refused", "method", hr.Method, "path", hr.URL.Path, "status", status, "error", err)
	}
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	if d.PlainTextErrors {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprintln(w, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(errorBody{Message: err.Error()})
}

// drained bounds what is read of a refused document, drainedPart of another body, in bytes.
const (
	drained     = 64 << 20
	drainedPart = 256 << 10
)

// drain reads the rest of a document, or the beginning of the rest of what else comes: a client that is still writing when the
// connection is closed does not get to read why. A client that asked whether to send anything is spared that.
func drain(hr *http.Request) {
	n := hr.ContentLength
	switch {
	case n == 0 || hr.Body == nil || hr.Header.Get("Expect") != "":
		return
	case n > drained || n < 0 || hr.Header.Get("Content-Type") != "application/json":
		n = drainedPart
	}
	_, _ = io.CopyN(io.Discard, hr.Body, n)
}

type errorBody struct {
	Message string `json:"message"`
}
