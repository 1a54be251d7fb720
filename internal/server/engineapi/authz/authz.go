// Package authz puts each request of the engine API, and each answer, before dockerd's authorization plugins.
//
//	gate := authz.New(log)
//	gate.Set(plugins)                     // at start and at a reload
//	session, err := gate.Ask(w, r)        // nil session: there are no plugins
//	… the handler writes to session …
//	err = session.Finish()
package authz

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net"
	"net/http"
	"regexp"
	"sync/atomic"
	"time"

	"longshore/internal/core/fault"
	"longshore/internal/driver/authzplugin"
)

const (
	// maxBody bounds what of a request's body plugins see, in bytes: longer ones they do not see at all.
	maxBody = 1 << 20
	// maxHeld bounds what of an answer waits for the plugins, in bytes: longer ones are on their way before.
	maxHeld = 64 << 10
	// patience bounds the question about an answer, whose client may be gone.
	patience = 30 * time.Second
)

// Plugin decides about requests and answers. Implemented by driver/authzplugin.
type Plugin interface {
	Name() string
	Request(ctx context.Context, c *authzplugin.Call) (authzplugin.Verdict, error)
	Response(ctx context.Context, c *authzplugin.Call) (authzplugin.Verdict, error)
}

// Gate is safe for concurrent use.
type Gate struct {
	plugins atomic.Pointer[[]Plugin]
	log     *slog.Logger
}

// New makes a gate without plugins.
func New(log *slog.Logger) *Gate { return &Gate{log: log} }

// Set changes who is asked, in which order.
func (g *Gate) Set(plugins []Plugin) { g.plugins.Store(&plugins) }

func (g *Gate) all() []Plugin {
	if p := g.plugins.Load(); p != nil {
		return *p
	}
	return nil
}

// authPath are the paths whose bodies hold passwords.
var authPath = regexp.MustCompile(`^/(v[0-9][0-9.]*/)?auth`)

// Ask puts a request before the plugins. A refusal is ErrPermissionDenied in docker's words; a plugin that fails fails
// the request. r's body can be read afterwards as before. The session is nil when there is nobody to ask.
func (g *Gate) Ask(w http.ResponseWriter, r *http.Request) (*Session, error) {
	plugins := g.all()
	if len(plugins) == 0 {
		return nil, nil
	}
	c := &authzplugin.Call{RequestMethod: r.Method, RequestURI: r.RequestURI, RequestHeaders: flat(r.Header)}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		c.User, c.UserAuthNMethod = r.TLS.PeerCertificates[0].Subject.CommonName, "TLS"
		for _, cert := range r.TLS.PeerCertificates {
			c.RequestPeerCertificates = append(c.RequestPeerCertificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
		}
	}
	if shows(r, r.Header) && r.ContentLength != 0 && r.ContentLength < maxBody && r.Body != nil {
		var err error
		if c.RequestBody, err = peek(r); err != nil {
			return nil, err
		}
	}
	for _, p := range plugins {
		v, err := p.Request(r.Context(), c)
		if err := judged(p, v, err); err != nil {
			return nil, err
		}
	}
	return &Session{gate: g, call: c, r: r, w: w, header: w.Header().Clone()}, nil
}

// judged turns a verdict into an error.
func judged(p Plugin, v authzplugin.Verdict, err error) error {
	if err != nil {
		return fault.Internal("plugin %s failed with error: %w", p.Name(), err)
	}
	if !v.Allow {
		return fault.Forbidden("authorization denied by plugin %s: %s", p.Name(), v.Msg)
	}
	return nil
}

// shows tells whether plugins see a body with these headers: JSON that holds no passwords.
func shows(r *http.Request, h http.Header) bool {
	mt, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && mt == "application/json" && !authPath.MatchString(r.URL.Path)
}

// flat are headers as plugins see them: without credentials, the last of several values.
func flat(h http.Header) map[string]string {
	out := map[string]string{}
	for name, values := range h {
		if name != "Authorization" && name != "X-Registry-Auth" && name != "X-Registry-Config" && len(values) > 0 {
			out[name] = values[len(values)-1]
		}
	}
	return out
}

// peek reads a body that is shorter than maxBody and puts it back; a longer one it gives as none.
func peek(r *http.Request) ([]byte, error) {
	b := bufio.NewReaderSize(r.Body, maxBody)
	body, err := b.Peek(maxBody)
	r.Body = struct {
		io.Reader
		io.Closer
	}{b, r.Body}
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, io.EOF):
		return body, nil
	}
	return nil, fault.Invalid("read request body: %w", err)
}

// Session is one request that was let in: what its handler writes waits for the plugins, as far as that is possible.
type Session struct {
	gate   *Gate
	call   *authzplugin.Call
	r      *http.Request
	w      http.ResponseWriter
	header http.Header
	status int
	body   []byte
	sent   bool // nothing is held back any more
}

// Header implements http.ResponseWriter.
func (s *Session) Header() http.Header {
	if s.sent {
		return s.w.Header()
	}
	return s.header
}

// WriteHeader implements http.ResponseWriter.
func (s *Session) WriteHeader(status int) {
	switch {
	case s.sent:
		s.w.WriteHeader(status)
	case s.status == 0:
		s.status = status
	}
}

// Write implements http.ResponseWriter.
func (s *Session) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	if !s.sent && len(s.body)+len(p) <= maxHeld {
		s.body = append(s.body, p...)
		return len(p), nil
	}
	if err := s.send(); err != nil {
		return 0, err
	}
	return s.w.Write(p)
}

// FlushError sends what is held back, and what comes from now on at once: streams cannot wait.
func (s *Session) FlushError() error {
	if err := s.send(); err != nil {
		return err
	}
	return http.NewResponseController(s.w).Flush()
}

// Flush implements http.Flusher.
func (s *Session) Flush() { _ = s.FlushError() }

// Hijack implements http.Hijacker.
func (s *Session) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	s.sent = true
	return http.NewResponseController(s.w).Hijack()
}

// Unwrap is for http.ResponseController.
func (s *Session) Unwrap() http.ResponseWriter { return s.w }

// send lets go of what was held back.
func (s *Session) send() error {
	if s.sent {
		return nil
	}
	s.sent = true
	h := s.w.Header()
	clear(h)
	maps.Copy(h, s.header)
	if s.status != 0 {
		s.w.WriteHeader(s.status)
	}
	_, err := s.w.Write(s.body)
	if len(s.body) == 0 {
		err = nil // statuses without a body
	}
	s.body = nil
	return err
}

// Finish puts the answer before the plugins and sends it. A refusal, ErrPermissionDenied, is to be sent instead; answers
// that are errors, and those that are on their way already, go out whatever the plugins say.
func (s *Session) Finish() error {
	c := s.call
	c.ResponseStatusCode, c.ResponseHeaders = s.status, flat(s.Header())
	if !s.sent && shows(s.r, s.header) {
		c.ResponseBody = s.body
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.r.Context()), patience)
	defer cancel()
	for _, p := range s.gate.all() {
		v, err := p.Response(ctx, c)
		if err = judged(p, v, err); err == nil {
			continue
		}
		if s.sent || s.status >= http.StatusBadRequest {
			s.gate.log.Warn("an answer was denied too late", "method", s.r.Method, "path", s.r.URL.Path, "error", err)
			break
		}
		s.sent = true
		return err
	}
	_ = s.send() // a client that is gone misses nothing
	return nil
}
