// Package tokenapi is the token server over HTTP: GET and POST of /token, and POST of /oauth2/token, after distribution's
// token.md and oauth.md.
//
//	h := tokenapi.New(authService, tokenService, tokenapi.Options{})
package tokenapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/distribution"
	"longshore/internal/core/fault"
	"longshore/internal/server/httperr"
	"longshore/internal/service/auth"
	"longshore/internal/service/auth/token"
)

// Paths are where the token server answers.
var Paths = []string{"/token", "/oauth2/token"}

// Options are what boot decides.
type Options struct {
	// Logger gets internal errors; nil discards.
	Logger *slog.Logger
	// Subject is told who asks, for the log; nil for nobody.
	Subject func(ctx context.Context, name string)
	// Realm of Basic challenges.
	Realm string
}

// Handler answers requests for tokens.
type Handler struct {
	auth   *auth.Service
	tokens *token.Service
	o      Options
}

// New makes a handler.
func New(a *auth.Service, t *token.Service, o Options) *Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Subject == nil {
		o.Subject = func(context.Context, string) {}
	}
	return &Handler{auth: a, tokens: t, o: o}
}

// answer is a token in the words of both documents.
type answer struct {
	Token        string  `json:"token,omitempty"`
	AccessToken  string  `json:"access_token"`
	Scope        *string `json:"scope,omitempty"`
	ExpiresIn    int     `json:"expires_in"`
	IssuedAt     string  `json:"issued_at"`
	RefreshToken string  `json:"refresh_token,omitempty"`
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var a answer
	var err error
	switch {
	case r.Method == http.MethodPost:
		a, err = h.post(w, r)
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.URL.Path == Paths[0]:
		a, err = h.get(r)
	default:
		allow := "POST"
		if r.URL.Path == Paths[0] {
			allow = "GET, HEAD, POST"
		}
		w.Header().Set("Allow", allow)
		err = distribution.NewError(distribution.CodeUnsupported, distribution.ErrMethod, "the operation is unsupported")
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	write(w, r, http.StatusOK, a)
}

// get is token.md's request.
func (h *Handler) get(r *http.Request) (answer, error) {
	q, err := query(r)
	if err != nil {
		return answer{}, err
	}
	c := auth.Credentials{Authorization: r.Header.Get("Authorization"), Address: r.RemoteAddr}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.Certificates = r.TLS.VerifiedChains[0]
	}
	who, err := h.auth.Authenticate(r.Context(), c)
	if err != nil {
		return answer{}, err
	}
	a, err := h.issue(r, who, token.Request{
		Service: q.Get("service"), Scopes: token.ParseScopes(q["scope"]), ClientID: q.Get("client_id"), Offline: isTrue(q.Get("offline_token")),
	})
	if err != nil {
		return answer{}, err
	}
	a.out.Token = a.out.AccessToken
	return a.out, nil
}

// query is the URL's, of which nothing is dropped in silence.
func query(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.Invalid("the query cannot be read")
	}
	return q, nil
}

func isTrue(s string) bool {
	b, err := strconv.ParseBool(s)
	return err == nil && b
}

type issued struct {
	out   answer
	scope string
}

func (h *Handler) issue(r *http.Request, who *auth.Subject, q token.Request) (issued, error) {
	h.o.Subject(r.Context(), who.Name)
	a, err := h.tokens.Issue(r.Context(), who, q)
	if err != nil {
		return issued{}, err
	}
	return issued{scope: a.Scope, out: answer{
		AccessToken: a.Token, ExpiresIn: int(a.Life / time.Second), IssuedAt: a.Issued.UTC().Format(time.RFC3339), RefreshToken: a.Identity,
	}}, nil
}

// maxForm bounds the form in bytes.
const maxForm = 64 << 10

// post is oauth.md's request.
func (h *Handler) post(w http.ResponseWriter, r *http.Request) (answer, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return answer{}, oauthError{"invalid_request", fault.Invalid("the body must be a form (application/x-www-form-urlencoded)")}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return answer{}, oauthError{"invalid_request", fault.Invalid("the form cannot be read")}
	}
	f := r.PostForm
	for _, name := range []string{"grant_type", "service", "client_id"} {
		if f.Get(name) == "" {
			return answer{}, oauthError{"invalid_request", fault.Invalid("%s is missing", name)}
		}
	}
	q := token.Request{
		Service: f.Get("service"), Scopes: token.ParseScopes(f["scope"]), ClientID: f.Get("client_id"), Offline: f.Get("access_type") == "offline",
	}
	who, refresh, err := h.grant(r, f)
	if err != nil {
		return answer{}, err
	}
	q.Offline = q.Offline && refresh == ""
	a, err := h.issue(r, who, q)
	if err != nil {
		return answer{}, err
	}
	a.out.Scope = &a.scope
	if refresh != "" {
		a.out.RefreshToken = refresh // "the same refresh token and not a new one"
	}
	return a.out, nil
}

// grant finds who asks by the form.
func (h *Handler) grant(r *http.Request, f url.Values) (who *auth.Subject, refresh string, err error) {
	switch f.Get("grant_type") {
	case "password":
		// A name and a password are looked at as the registry looks at them: an API key may stand for the password.
		basic := (&http.Request{Header: http.Header{}})
		basic.SetBasicAuth(f.Get("username"), f.Get("password"))
		who, err = h.auth.Authenticate(r.Context(), auth.Credentials{Authorization: basic.Header.Get("Authorization"), Address: r.RemoteAddr})
	case "refresh_token":
		refresh = f.Get("refresh_token")
		if refresh == "" {
			return nil, "", oauthError{"invalid_request", fault.Invalid("refresh_token is missing")}
		}
		who, err = h.tokens.Recognise(r.Context(), refresh, f.Get("service"))
	default:
		return nil, "", oauthError{"unsupported_grant_type", fault.Invalid("grant_type must be password or refresh_token")}
	}
	if errors.Is(err, errdefs.ErrUnauthenticated) {
		err = oauthError{"invalid_grant", err}
	}
	return who, refresh, err
}

// oauthError is an error with OAuth2's word for it.
type oauthError struct {
	code string
	error
}

// Unwrap is for the class.
func (e oauthError) Unwrap() error { return e.error }

// failure is an error for both kinds of readers: distribution's clients read errors, OAuth2's error.
type failure struct {
	Errors      []entry `json:"errors"`
	Error       string  `json:"error,omitempty"`
	Description string  `json:"error_description,omitempty"`
}

type entry struct {
	Code    distribution.Code `json:"code"`
	Message string            `json:"message"`
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := httperr.Status(err)
	f := failure{Errors: []entry{{distribution.CodeUnknown, err.Error()}}}
	var oauth oauthError
	if errors.As(err, &oauth) {
		f.Error, f.Description = oauth.code, oauth.error.Error()
	}
	switch status {
	case http.StatusUnauthorized:
		f.Errors[0] = entry{distribution.CodeUnauthorized, "authentication required"}
		if errors.Is(err, auth.ErrCredentials) {
			f.Errors[0].Message = "incorrect username or password"
		} else if errors.Is(err, token.ErrIdentity) {
			f.Errors[0].Message = token.ErrIdentity.Error()
		}
		if f.Error != "" {
			f.Description = f.Errors[0].Message
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Www-Authenticate", "Basic realm="+strconv.Quote(h.o.Realm))
		}
	case http.StatusForbidden:
		f.Errors[0].Code = distribution.CodeDenied
	case http.StatusTooManyRequests:
		f.Errors[0].Code = distribution.CodeTooManyRequests
		w.Header().Set("Retry-After", "60")
	case http.StatusMethodNotAllowed:
		f.Errors[0] = entry{distribution.CodeUnsupported, "the operation is unsupported"}
	case http.StatusBadRequest:
	default:
		if r.Context().Err() != nil {
			return // the client has gone
		}
		h.o.Logger.Error("token request failed", "error", err)
		f.Errors[0].Message, f.Description = "internal error", ""
	}
	write(w, r, status, f)
}

// write answers with a document that nobody keeps.
func write(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"errors":[{"code":"UNKNOWN","message":"internal error"}]}`)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that has gone needs no answer
	}
}
