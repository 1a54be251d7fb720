// Package wirev1 is what the handlers of registry API v1 and of the index API v1 share: who asks, the tokens and sessions
// of that time, names of repositories in paths, and how answers and errors look.
package wirev1

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/condition"
	"longshore/internal/core/distribution"
	"longshore/internal/core/fault"
	"longshore/internal/server/httperr"
	"longshore/internal/server/stream"
	"longshore/internal/service/auth"
)

// Version is the version of the registry that the answers name: the last one of the reference implementation.
const Version = "0.9.1"

// Options are what an administrator decides.
type Options struct {
	// Standalone lets requests for images do without a token of the index; the access policies decide alone.
	Standalone bool
	// Endpoints are the registries that the index names; empty names the host that was asked.
	Endpoints []string
	// SecureCookies marks cookies as for TLS only.
	SecureCookies bool
}

// Gate is what the handlers share. It may be reconfigured while it works.
type Gate struct {
	Auth *auth.Service
	// Log gets failures; never nil.
	Log *slog.Logger
	// Subject is told who asks; never nil.
	Subject func(ctx context.Context, name string)
	options atomic.Pointer[Options]
}

// NewGate makes a gate.
func NewGate(a *auth.Service, log *slog.Logger, subject func(context.Context, string), o Options) *Gate {
	g := &Gate{Auth: a, Log: log, Subject: subject}
	if g.Log == nil {
		g.Log = slog.New(slog.DiscardHandler)
	}
	if g.Subject == nil {
		g.Subject = func(context.Context, string) {}
	}
	g.Reload(o)
	return g
}

// Reload puts other options in force.
func (g *Gate) Reload(o Options) { g.options.Store(&o) }

// Options are those in force.
func (g *Gate) Options() *Options { return g.options.Load() }

// Who finds out who asks by Basic, Bearer or a certificate.
func (g *Gate) Who(r *http.Request) (*auth.Subject, error) {
	c := auth.Credentials{Authorization: r.Header.Get("Authorization"), Address: r.RemoteAddr}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.Certificates = r.TLS.VerifiedChains[0]
	}
	who, err := g.Auth.Authenticate(r.Context(), c)
	if err != nil {
		return nil, err
	}
	g.Subject(r.Context(), who.Name)
	return who, nil
}

// Ask is a question to the access policies.
func (g *Gate) Ask(r *http.Request, repo distribution.RepoName, action auth.Action, reference string) auth.Query {
	q := auth.Query{Action: action, Repo: string(repo), Reference: reference}
	if g.Auth.Conditional() {
		q.Facts = facts(r)
	}
	return q
}

func facts(r *http.Request) *condition.Facts {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	f := &condition.Facts{Time: time.Now(), Method: r.Method, UserAgent: r.UserAgent(), ClientIP: host}
	for _, v := range r.Header.Values("X-Forwarded-For") {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				f.ForwardedFor = append(f.ForwardedFor, part)
			}
		}
	}
	if r.TLS != nil {
		f.TLSVersion = tlsVersion(r.TLS.Version)
	}
	return f
}

// Readable is the predicate for what spans repositories; nil is everything.
func (g *Gate) Readable(r *http.Request, who *auth.Subject) func(distribution.RepoName) bool {
	may := g.Auth.Readable(who, g.Ask(r, "", auth.Read, ""))
	if may == nil {
		return nil
	}
	return func(name distribution.RepoName) bool { return may(string(name)) }
}

// Token is the header "Token signature=123abc,repository="foo/bar",access=write" taken apart.
type Token struct{ Signature, Repository, Access string }

// ParseToken reads the value of an Authorization header; ok says that the scheme is Token. Values may be quoted, also with
// the typographic quotes of the documents.
func ParseToken(header string) (t Token, ok bool) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if !strings.EqualFold(scheme, "Token") || len(header) > 4096 {
		return t, false
	}
	// Clients put the word before what they were given; registries of old gave it with the word.
	rest = strings.TrimSpace(rest)
	if again, more, found := strings.Cut(rest, " "); found && strings.EqualFold(again, "Token") {
		rest = more
	}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		value = strings.Trim(value, "\"“”")
		switch key {
		case "signature":
			t.Signature = value
		case "repository":
			t.Repository = value
		case "access":
			t.Access = value
		}
	}
	return t, true
}

// String is the value without the scheme.
func (t Token) String() string {
	return "signature=" + t.Signature + `,repository="` + t.Repository + `",access=` + t.Access
}

// library is the namespace of names with one part.
const library = "library/"

// RepoName reads a repository's name in a path: one part means library's.
func RepoName(name string) (distribution.RepoName, error) {
	if !strings.Contains(name, "/") {
		name = library + name
	}
	repo, err := distribution.ParseRepoName(name)
	if err != nil {
		return "", fault.Invalid("Invalid repository name (%.300s)", name)
	}
	return repo, nil
}

// Bare is the name without "library/"; "" when it has another namespace. Clients of today may have pushed under it.
func Bare(repo distribution.RepoName) distribution.RepoName {
	name, ok := strings.CutPrefix(string(repo), library)
	if !ok || strings.Contains(name, "/") {
		return ""
	}
	return distribution.RepoName(name)
}

// InLibrary says whether a repository lies in library.
func InLibrary(repo distribution.RepoName) bool { return strings.HasPrefix(string(repo), library) }

// MaxBody bounds JSON documents in requests, in bytes.
const MaxBody = 4 << 20

// Body reads a small body whole.
func Body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(stream.NewBody(w, r.Body), MaxBody+1))
	if err != nil {
		return nil, fault.Invalid("The body ended early: %w", err)
	}
	if len(data) > MaxBody {
		return nil, distribution.NewError(distribution.CodeSizeInvalid, distribution.ErrTooLarge, "the body is larger than %d bytes", MaxBody)
	}
	return data, nil
}

// Common sets the headers that every answer has.
func Common(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Vary", "Accept")
	h.Set("X-Docker-Registry-Version", Version)
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-cache")
		h.Set("Expires", "-1")
		h.Set("Pragma", "no-cache")
	}
}

// JSON answers with a value.
func JSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		body, status = []byte(`{"error":"Internal server error"}`), http.StatusInternalServerError
	}
	Raw(w, status, body)
}

// Raw answers with a document that is JSON already.
func Raw(w http.ResponseWriter, status int, body []byte) {
	Common(w)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// Fail answers with an error: the old registry's body, and its challenge when a name is missing.
func (g *Gate) Fail(w http.ResponseWriter, r *http.Request, err error, challenge string) {
	status, text := describe(err)
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return
	}
	switch {
	case status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", challenge)
	case status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable:
		g.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", cause(err))
	}
	w.Header().Del("Cache-Control")
	JSON(w, status, map[string]string{"error": text})
}

// describe finds status and words.
func describe(err error) (int, string) {
	status := httperr.Status(err)
	var refused *auth.Refused
	var told *distribution.Error
	switch {
	case status == http.StatusUnauthorized:
		return status, "Requires authorization"
	case errors.As(err, &refused):
		if refused.Reason != "" {
			return status, "Permission denied: " + refused.Reason
		}
		return status, "Permission denied"
	case status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable && status != http.StatusNotImplemented:
		return status, "Internal server error"
	case errors.As(err, &told):
		return status, told.Message
	}
	return status, err.Error()
}

// cause is what the log is told where the client is told nothing.
func cause(err error) error {
	var e *distribution.Error
	if errors.As(err, &e) && e.Class != nil {
		return e.Class
	}
	return err
}

// NotFound is what paths without a meaning answer.
var NotFound = fault.NotFound("Not found")

// Method answers a method that a path does not take.
func Method(w http.ResponseWriter, allow string) error {
	w.Header().Set("Allow", allow)
	return fault.New(notAllowed{}, "Method not allowed")
}

type notAllowed struct{}

func (notAllowed) Error() string   { return "method not allowed" }
func (notAllowed) HTTPStatus() int { return http.StatusMethodNotAllowed }

// IsUnknown says that an error is of class ErrNotFound.
func IsUnknown(err error) bool { return errdefs.IsNotFound(err) }
