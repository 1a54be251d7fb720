package registryapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/distribution"
	"longshore/internal/core/fault"
	"longshore/internal/service/auth"
)

// keyDocument is an API key in zot's words.
type keyDocument struct {
	CreatedAt      time.Time `json:"createdAt"`
	ExpirationDate time.Time `json:"expirationDate"`
	IsExpired      bool      `json:"isExpired"`
	CreatorUA      string    `json:"creatorUa"`
	GeneratedBy    string    `json:"generatedBy"`
	LastUsed       time.Time `json:"lastUsed"`
	Label          string    `json:"label"`
	Scopes         []string  `json:"scopes"`
	UUID           string    `json:"uuid"`
	// APIKey is told once, by the answer that makes it.
	APIKey string `json:"apiKey,omitempty"`
}

func (s *Server) keyDocument(k auth.Key) keyDocument {
	return keyDocument{
		CreatedAt: k.Created, ExpirationDate: k.Expires, IsExpired: k.Expired(s.now()), CreatorUA: k.CreatorUA,
		GeneratedBy: "manual", LastUsed: k.LastUsed, Label: k.Label, Scopes: k.Scopes, UUID: k.ID,
	}
}

// keyRequest is the body of POST /zot/auth/apikey.
type keyRequest struct {
	Label          string   `json:"label"`
	Scopes         []string `json:"scopes"`
	ExpirationDate string   `json:"expirationDate"`
}

// maxAccountBody bounds the bodies of account requests in bytes.
const maxAccountBody = 64 << 10

// decode reads a small JSON document.
func (x *exchange) decode(v any) error {
	data, err := io.ReadAll(io.LimitReader(x.body(), maxAccountBody+1))
	if err != nil {
		return err
	}
	if len(data) > maxAccountBody {
		return distribution.NewError(distribution.CodeSizeInvalid, distribution.ErrTooLarge, "the body is larger than %d bytes", maxAccountBody)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fault.Invalid("invalid JSON: %w", err)
	}
	return nil
}

// createKey makes an API key for whoever asks.
func (s *Server) createKey(x *exchange) error {
	if err := s.ownPage(x); err != nil {
		return err
	}
	var in keyRequest
	if err := x.decode(&in); err != nil {
		return err
	}
	r := auth.KeyRequest{Label: in.Label, Scopes: in.Scopes, UserAgent: x.r.UserAgent()}
	if in.ExpirationDate != "" {
		t, err := time.Parse(time.RFC3339, in.ExpirationDate)
		if err != nil {
			return fault.Invalid("invalid expirationDate %q", clip(in.ExpirationDate))
		}
		r.Expires = t
	}
	key, k, err := s.auth.CreateKey(x.r.Context(), x.who, r)
	if err != nil {
		return err
	}
	out := s.keyDocument(k)
	out.APIKey = key
	x.header("Cache-Control", "no-store")
	return x.json(http.StatusCreated, out)
}

// listKeys lists the keys of whoever asks.
func (s *Server) listKeys(x *exchange) error {
	keys, err := s.auth.ListKeys(x.r.Context(), x.who)
	if err != nil {
		return err
	}
	out := make([]keyDocument, len(keys))
	for i, k := range keys {
		out[i] = s.keyDocument(k)
	}
	return x.json(http.StatusOK, map[string]any{"apiKeys": out})
}

// deleteKey revokes a key of whoever asks.
func (s *Server) deleteKey(x *exchange) error {
	if err := s.ownPage(x); err != nil {
		return err
	}
	id := x.r.URL.Query().Get("id")
	if id == "" {
		return fault.Invalid("id is missing")
	}
	if err := s.auth.DeleteKey(x.r.Context(), x.who, id); err != nil {
		return err
	}
	x.header("Content-Length", "0")
	x.WriteHeader(http.StatusOK)
	return nil
}

// ownPage refuses what a foreign page makes a browser do with credentials that it remembers.
func (s *Server) ownPage(x *exchange) error {
	if !x.set.origins.sameSite(x.r) {
		return fault.Forbidden("the request comes from another site")
	}
	return nil
}

// loginPage sends browsers to a provider in zot; there is none here.
func (s *Server) loginPage(x *exchange) error {
	return fault.Invalid("there is no login provider %q", clip(x.r.URL.Query().Get("provider")))
}

// login opens a session for the Basic credentials of the request.
func (s *Server) login(x *exchange) error {
	if err := s.ownPage(x); err != nil {
		return err
	}
	if !fromUI(x.r) {
		return fault.Forbidden("the header %s: %s is missing", clientHeader, clientUI)
	}
	if x.who.Method != auth.Password && x.who.Method != auth.APIKey {
		return errLogin
	}
	if err := s.openSession(x); err != nil {
		return err
	}
	return x.json(http.StatusOK, map[string]string{"username": x.who.Name})
}

var errLogin = fault.New(errdefs.ErrUnauthenticated, "log in with a name and a password")

// openSession sets the cookies of a subject that has shown a password.
func (s *Server) openSession(x *exchange) error {
	value, expires, err := s.auth.OpenSession(x.r.Context(), x.who)
	if errors.Is(err, errdefs.ErrPermissionDenied) {
		return nil // credentials that make no session are still good for the request
	}
	if err != nil {
		return err
	}
	x.cookie(sessionCookie, value, expires, true)
	x.cookie(userCookie, url.QueryEscape(x.who.Name), expires, false)
	return nil
}

func (x *exchange) cookie(name, value string, expires time.Time, httpOnly bool) {
	http.SetCookie(x, &http.Cookie{
		Name: name, Value: value, Path: "/", Expires: expires, HttpOnly: httpOnly,
		Secure: x.set.SecureCookies || x.r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
}

func (x *exchange) clearCookies() {
	x.cookie(sessionCookie, "", time.Unix(1, 0), true)
	x.cookie(userCookie, "", time.Unix(1, 0), false)
}

// logout ends the session of the cookie.
func (s *Server) logout(x *exchange) error {
	if err := s.ownPage(x); err != nil {
		return err
	}
	if cookie, err := x.r.Cookie(sessionCookie); err == nil && fromUI(x.r) {
		if err := s.auth.CloseSession(x.r.Context(), cookie.Value); err != nil {
			return err
		}
		x.clearCookies()
	}
	return x.json(http.StatusOK, struct{}{})
}
