// Package accountsapi is the accounts API v1.1 and OAuth2 over HTTP, after the documents "Accounts API for docker.io" and
// "docker.io OAuth API", with the pages where people log in and agree.
//
//	h := accountsapi.New(authService, accountsService, oauthService, accountsapi.Options{})
//	mux.Handle(accountsapi.Path, h)
package accountsapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/server/httperr"
	"longshore/internal/service/auth"
	"longshore/internal/service/auth/accounts"
	"longshore/internal/service/auth/oauth"
)

// Path is what all paths begin with.
const Path = "/api/v1.1/"

// Options are what boot decides.
type Options struct {
	// Logger gets internal errors; nil discards.
	Logger *slog.Logger
	// Subject is told who asks, for the log; nil for nobody.
	Subject func(ctx context.Context, name string)
	// ExternalURL is where clients reach the server, without a slash at its end; empty is where the request came to.
	ExternalURL string
	// SecureCookies marks cookies as for TLS only, even where TLS ends before us.
	SecureCookies bool
}

// Handler answers requests. It is an http.Handler.
type Handler struct {
	auth     *auth.Service
	accounts *accounts.Service
	oauth    *oauth.Service
	o        Options
	pages    *pages
	foreign  *http.CrossOriginProtection
}

// New makes a handler.
func New(a *auth.Service, people *accounts.Service, o2 *oauth.Service, o Options) *Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Subject == nil {
		o.Subject = func(context.Context, string) {}
	}
	return &Handler{auth: a, accounts: people, oauth: o2, o: o, pages: newPages(), foreign: http.NewCrossOriginProtection()}
}

// call answers one request, or returns what is to be told instead.
type call func(h *Handler, w http.ResponseWriter, r *http.Request) error

// ServeHTTP answers one request. A slash at the end of a path may be missing.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(strings.TrimPrefix(r.URL.Path, Path), "/")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if rest, ok := strings.CutPrefix(path, "users/"); ok {
		h.serveAPI(w, r, rest)
		return
	}
	methods, ok := endpoints[path]
	if !ok {
		h.refuse(w, r, errNotFound)
		return
	}
	h.dispatch(w, r, methods)
}

// endpoints are the paths of OAuth2 and of its pages.
var endpoints = map[string]map[string]call{
	"o/authorize":    {http.MethodGet: (*Handler).authorizePage, http.MethodPost: (*Handler).decide},
	"o/login":        {http.MethodPost: (*Handler).logIn},
	"o/logout":       {http.MethodPost: (*Handler).logOut},
	"o/applications": {http.MethodGet: (*Handler).applicationsPage, http.MethodPost: (*Handler).withdraw},
	"o/style.css":    {http.MethodGet: (*Handler).style},
	"o/token":        {http.MethodPost: (*Handler).token},
	"o/revoke_token": {http.MethodPost: (*Handler).revokeToken},
}

func (h *Handler) dispatch(w http.ResponseWriter, r *http.Request, methods map[string]call) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	f, ok := methods[method]
	if !ok {
		var allow []string
		for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
			if methods[m] != nil {
				allow = append(allow, m)
			}
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		writeJSON(w, r, http.StatusMethodNotAllowed, detail{"Method '" + clip(r.Method) + "' not allowed."})
		return
	}
	if err := f(h, w, r); err != nil {
		h.refuse(w, r, err)
	}
}

// detail is an error in the words of the API.
type detail struct {
	Detail string `json:"detail"`
}

// invalid is what is wrong with the fields of a body.
type invalid map[string][]string

func (i invalid) Error() string { return "invalid fields" }

var (
	errNotFound  = &answer{http.StatusNotFound, "Not found."}
	errForbidden = &answer{http.StatusForbidden, "You do not have permission to perform this action."}
	errLogin     = &answer{http.StatusUnauthorized, "Authentication credentials were not provided."}
	errPassword  = &answer{http.StatusUnauthorized, "Invalid username/password."}
)

// answer is an error with its status and words.
type answer struct {
	status int
	text   string
}

func (a *answer) Error() string { return a.text }

// refuse tells an error of the API.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var fields invalid
	var a *answer
	var wrong *oauth.Error
	switch {
	case errors.As(err, &fields):
		writeJSON(w, r, http.StatusBadRequest, fields)
		return
	case errors.As(err, &wrong):
		h.refuseOAuth(w, r, wrong)
		return
	case errors.As(err, &a):
	case errors.Is(err, auth.ErrCredentials):
		a = errPassword
		h.penalty(r)
	case errors.Is(err, oauth.ErrAccess):
		a = &answer{http.StatusUnauthorized, err.Error()}
	case errors.Is(err, errdefs.ErrNotFound):
		a = errNotFound
	default:
		a = h.other(r, err)
	}
	if a.status == http.StatusUnauthorized {
		w.Header().Add("Www-Authenticate", `Basic realm="api"`)
		w.Header().Add("Www-Authenticate", `Bearer realm="api"`)
	}
	if a.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "60")
	}
	writeJSON(w, r, a.status, detail{a.text})
}

// other are errors by their class; those of ours are written down and not told.
func (h *Handler) other(r *http.Request, err error) *answer {
	status := httperr.Status(err)
	if status < http.StatusInternalServerError {
		return &answer{status, err.Error()}
	}
	if r.Context().Err() == nil {
		h.o.Logger.Error("accounts request failed", "method", r.Method, "path", clip(r.URL.Path), "error", err)
	}
	return &answer{status, "internal error"}
}

// penalty lets a failed login wait for its answer, as the registry's do.
func (h *Handler) penalty(r *http.Request) {
	d := h.auth.FailDelay()
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	}
}

func writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	writeAs(w, r, status, "application/json", v)
}

func writeAs(w http.ResponseWriter, r *http.Request, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"detail":"internal error"}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that has gone needs no answer
	}
}

// base is the server's address as the client knows it.
func (h *Handler) base(r *http.Request) string {
	if h.o.ExternalURL != "" {
		return h.o.ExternalURL
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// clip keeps hostile texts short.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200]
	}
	return s
}
