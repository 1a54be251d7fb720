package accountsapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/account"
	"longshore/internal/service/auth"
)

// Cookies of the pages. Neither is sent anywhere else.
const (
	sessionCookie = "longshore_session"
	formCookie    = "longshore_form"
	cookiePath    = Path + "o/"
)

// formLife is how long a login form may be left open.
const formLife = time.Hour

// longAgo makes a browser forget a cookie.
var longAgo = time.Unix(1, 0)

func (h *Handler) cookie(w http.ResponseWriter, r *http.Request, name, value string, expires time.Time) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: cookiePath, Expires: expires, HttpOnly: true, Secure: h.o.SecureCookies || r.TLS != nil,
		SameSite: http.SameSiteLaxMode, // a link in another application must find the session
	})
}

// visit is somebody who looks at pages. name is empty for those who are not logged in.
type visit struct {
	name string
	// secret is the cookie that forms are tied to: the session's, or that of the login form.
	secret string
}

// visit finds the session of a request. A session that has ended is none.
func (h *Handler) visit(r *http.Request) (visit, error) {
	c, err := r.Cookie(sessionCookie)
	if err != nil || c.Value == "" {
		return visit{}, nil
	}
	who, err := h.auth.Authenticate(r.Context(), auth.Credentials{Cookie: c.Value})
	if errors.Is(err, auth.ErrCredentials) || errors.Is(err, auth.ErrInactive) {
		return visit{}, nil
	}
	if err != nil {
		return visit{}, err
	}
	h.o.Subject(r.Context(), who.Name)
	return visit{name: who.Name, secret: c.Value}, nil
}

// formSecret ties a login form to the browser that it was given to.
func (h *Handler) formSecret(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie(formCookie); err == nil && len(c.Value) >= 30 {
		return c.Value
	}
	secret := account.NewSecret()
	h.cookie(w, r, formCookie, secret, time.Now().Add(formLife))
	return secret
}

// seal is what a form carries: only who has the cookie can make it, and it is good for one purpose only.
func seal(secret, purpose string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(purpose))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// errForeign is a form that another site sent, or one that was left open for too long.
var errForeign = &pageError{http.StatusForbidden, "This form has expired", "Go back to the application and start again."}

// ownForm reads a form that one of our pages made for the browser that sends it.
func (h *Handler) ownForm(w http.ResponseWriter, r *http.Request, secret, purpose string) error {
	if h.foreign.Check(r) != nil {
		return errForeign
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if r.ParseForm() != nil {
		return &pageError{http.StatusBadRequest, "The form cannot be read", "Go back and try again."}
	}
	if secret == "" || !hmac.Equal([]byte(r.PostForm.Get("seal")), []byte(seal(secret, purpose))) {
		return errForeign
	}
	return nil
}

// open opens a session for somebody who has shown a password.
func (h *Handler) open(w http.ResponseWriter, r *http.Request, who *auth.Subject) error {
	value, expires, err := h.auth.OpenSession(r.Context(), who)
	if err == nil {
		h.cookie(w, r, sessionCookie, value, expires)
		h.cookie(w, r, formCookie, "", longAgo)
	}
	return err
}

// loginProblem is what the login form tells; empty for errors that are not the visitor's.
func loginProblem(err error) (status int, text string) {
	switch {
	case errors.Is(err, auth.ErrCredentials):
		return http.StatusUnauthorized, "The username or the password is wrong."
	case errors.Is(err, auth.ErrInactive):
		return http.StatusForbidden, "This account is not active."
	case errors.Is(err, errdefs.ErrResourceExhausted):
		return http.StatusTooManyRequests, "There were too many attempts. Wait a minute and try again."
	}
	return 0, ""
}
