package accountsapi

import (
	"net/http"
	"net/url"
	"time"

	"longshore/internal/service/auth"
	"longshore/internal/service/auth/oauth"
)

// tokenDocument is the document's answer.
type tokenDocument struct {
	Username     string `json:"username"`
	UserID       int64  `json:"user_id"`
	AccessToken  string `json:"access_token"`
	ExpiresIn    int    `json:"expires_in"`
	TokenType    string `json:"token_type"`
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token"`
}

// errorDocument is RFC 6749's error.
type errorDocument struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

const tokenType = "application/json;charset=UTF-8"

// refuseOAuth tells an error of OAuth2.
func (h *Handler) refuseOAuth(w http.ResponseWriter, r *http.Request, e *oauth.Error) {
	status := e.HTTPStatus()
	if status == http.StatusUnauthorized {
		w.Header().Set("Www-Authenticate", `Basic realm="oauth"`)
	}
	writeAs(w, r, status, tokenType, errorDocument{e.Code, e.Description})
}

// client reads what a client shows of itself: Basic, whose parts are form-encoded (RFC 6749, section 2.3.1), or fields.
func client(r *http.Request, f fields) oauth.ClientCredentials {
	if scheme, value := auth.ParseAuthorization(r.Header.Get("Authorization")); scheme == auth.Basic {
		id, secret, ok := auth.ParseBasic(value)
		if ok {
			return oauth.ClientCredentials{ID: decoded(id), Secret: decoded(secret)}
		}
		return oauth.ClientCredentials{}
	}
	return oauth.ClientCredentials{ID: f.get("client_id"), Secret: f.get("client_secret")}
}

func decoded(s string) string {
	if d, err := url.QueryUnescape(s); err == nil {
		return d
	}
	return s
}

// get is a string, empty when it is not there.
func (f fields) get(name string) string {
	if s := f.text(name, invalid{}); s != nil {
		return *s
	}
	return ""
}

// token is POST /api/v1.1/o/token/. The document's example calls the grant "code", its text "authorization_code".
func (h *Handler) token(w http.ResponseWriter, r *http.Request) error {
	f, err := readFields(w, r)
	if err != nil {
		return &oauth.Error{Code: "invalid_request", Description: "the body cannot be read: " + err.Error()}
	}
	who := client(r, f)
	var t oauth.Tokens
	switch grant := f.get("grant_type"); grant {
	case "authorization_code", "code":
		t, err = h.oauth.Exchange(r.Context(), who, oauth.Exchange{Code: f.get("code"), RedirectURI: f.get("redirect_uri"), Verifier: f.get("code_verifier")})
	case "refresh_token":
		t, err = h.oauth.Refresh(r.Context(), who, oauth.Refresh{Token: f.get("refresh_token"), Scope: f.get("scope")})
	case "":
		return &oauth.Error{Code: "invalid_request", Description: "grant_type is missing"}
	default:
		return &oauth.Error{Code: "unsupported_grant_type", Description: "grant_type must be authorization_code or refresh_token"}
	}
	if err != nil {
		return err
	}
	h.o.Subject(r.Context(), t.User.Name)
	w.Header().Set("Pragma", "no-cache")
	writeAs(w, r, http.StatusOK, tokenType, tokenDocument{
		Username: t.User.Name, UserID: t.User.ID, AccessToken: t.Access, ExpiresIn: int(t.Life / time.Second), TokenType: "Bearer",
		Scope: t.Scope, RefreshToken: t.Refresh,
	})
	return nil
}

// revokeToken is RFC 7009: a client gives a token back.
func (h *Handler) revokeToken(w http.ResponseWriter, r *http.Request) error {
	f, err := readFields(w, r)
	if err != nil {
		return &oauth.Error{Code: "invalid_request", Description: "the body cannot be read: " + err.Error()}
	}
	if f.get("token") == "" {
		return &oauth.Error{Code: "invalid_request", Description: "token is missing"}
	}
	if err := h.oauth.Revoke(r.Context(), client(r, f), f.get("token")); err != nil {
		return err
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}
