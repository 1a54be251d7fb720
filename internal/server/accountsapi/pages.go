package accountsapi

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"longshore/internal/service/auth/oauth"
)

//go:embed pages
var files embed.FS

// pages are the templates. Each is whole by itself: base.html around one content.
type pages struct {
	login, consent, applications, failure *template.Template
	css                                   []byte
}

func newPages() *pages {
	page := func(name string) *template.Template {
		return template.Must(template.ParseFS(files, "pages/base.html", "pages/"+name))
	}
	css, err := files.ReadFile("pages/style.css")
	if err != nil {
		panic(err) // it was compiled in
	}
	return &pages{login: page("login.html"), consent: page("consent.html"), applications: page("applications.html"), failure: page("failure.html"), css: css}
}

// pageError is an error that somebody reads in a browser.
type pageError struct {
	status      int
	title, text string
}

func (p *pageError) Error() string { return p.title }

// security is what every page tells the browser: nothing from elsewhere, no frames, forms to us and, where a form's
// answer leads to an application, to that.
func security(w http.ResponseWriter, formTarget string) {
	if formTarget != "" {
		formTarget = " " + formTarget
	}
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; style-src 'self'; form-action 'self'"+formTarget+"; frame-ancestors 'none'; base-uri 'none'")
	w.Header().Set("X-Frame-Options", "DENY")
	w.Header().Set("Referrer-Policy", "same-origin")
	w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
}

func (h *Handler) show(w http.ResponseWriter, r *http.Request, status int, t *template.Template, data any) error {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "base.html", data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b.Bytes()) // a browser that has gone needs no page
	}
	return nil
}

// tell shows what went wrong, to people.
func (h *Handler) tell(w http.ResponseWriter, r *http.Request, err error) error {
	var p *pageError
	var wrong *oauth.Error
	switch {
	case errors.As(err, &p):
	case errors.As(err, &wrong) && wrong.Redirect != "":
		http.Redirect(w, r, wrong.Redirect, http.StatusFound)
		return nil
	case errors.As(err, &wrong):
		p = &pageError{wrong.HTTPStatus(), "This request cannot be granted", wrong.Description}
	default:
		p = &pageError{h.other(r, err).status, "Something went wrong", "Try again in a moment."}
	}
	security(w, "")
	return h.show(w, r, p.status, h.pages.failure, map[string]any{"Title": p.title, "Text": p.text})
}

func (h *Handler) style(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Header().Set("Content-Length", strconv.Itoa(len(h.pages.css)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(h.pages.css)
	}
	return nil
}

// authorization reads and checks the query of the authorization endpoint.
func (h *Handler) authorization(r *http.Request) (oauth.Authorization, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return oauth.Authorization{}, &pageError{http.StatusBadRequest, "The address cannot be read", "Go back to the application and start again."}
	}
	for name, values := range q {
		if len(values) > 1 {
			return oauth.Authorization{}, &pageError{http.StatusBadRequest, "This request cannot be granted", "It says “" + clip(name) + "” twice."}
		}
	}
	return h.oauth.Check(r.Context(), oauth.Request{
		ClientID: q.Get("client_id"), ResponseType: q.Get("response_type"), RedirectURI: q.Get("redirect_uri"), Scope: q.Get("scope"),
		State: q.Get("state"), Challenge: q.Get("code_challenge"), Method: q.Get("code_challenge_method"),
	})
}

// authorizePage asks whoever is logged in; others log in first.
func (h *Handler) authorizePage(w http.ResponseWriter, r *http.Request) error {
	a, err := h.authorization(r)
	if err != nil {
		return h.tell(w, r, err)
	}
	v, err := h.visit(r)
	if err != nil {
		return h.tell(w, r, err)
	}
	if v.name == "" {
		return h.loginPage(w, r, login{Next: r.URL.RequestURI(), Application: a.Client.Name}, http.StatusOK)
	}
	if err := h.hasAccount(r.Context(), v); err != nil {
		return h.tell(w, r, err)
	}
	security(w, origin(a.RedirectURI))
	type line struct{ Name, Text string }
	var scopes []line
	for _, s := range a.Scopes {
		scopes = append(scopes, line{s, oauth.Describe(s)})
	}
	return h.show(w, r, http.StatusOK, h.pages.consent, map[string]any{
		"Client": a.Client, "Host": display(a.RedirectURI), "User": v.name, "Scopes": scopes, "Action": r.URL.RequestURI(),
		"Seal": seal(v.secret, "consent "+r.URL.RawQuery), "Next": r.URL.RequestURI(), "LogOut": seal(v.secret, "log out"),
	})
}

// hasAccount: people of the password file may log in to the registry, but there is nothing of theirs to see here.
func (h *Handler) hasAccount(ctx context.Context, v visit) error {
	_, _, err := h.accounts.User(ctx, v.name)
	if errors.Is(err, errdefs.ErrNotFound) {
		return &pageError{http.StatusForbidden, "There is no account", "“" + v.name + "” may use the registry but has no account that applications could see."}
	}
	return err
}

// origin is what form-action must allow for the answer to reach the application.
func origin(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil {
		return ""
	}
	if u.Host == "" {
		return u.Scheme + ":"
	}
	return u.Scheme + "://" + u.Host
}

// display is the part of a redirect URI that people are shown.
func display(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil || u.Host == "" {
		return redirect
	}
	return u.Host
}

// decide takes the answer of the consent page.
func (h *Handler) decide(w http.ResponseWriter, r *http.Request) error {
	target, err := h.decision(w, r)
	if err != nil {
		return h.tell(w, r, err)
	}
	http.Redirect(w, r, target, http.StatusFound)
	return nil
}

func (h *Handler) decision(w http.ResponseWriter, r *http.Request) (target string, err error) {
	a, err := h.authorization(r)
	if err != nil {
		return "", err
	}
	v, err := h.visit(r)
	if err != nil {
		return "", err
	}
	if v.name == "" {
		return r.URL.RequestURI(), nil // the session has ended: log in, and be asked again
	}
	if err := h.ownForm(w, r, v.secret, "consent "+r.URL.RawQuery); err != nil {
		return "", err
	}
	if err := h.hasAccount(r.Context(), v); err != nil {
		return "", err
	}
	security(w, origin(a.RedirectURI))
	if r.PostForm.Get("decision") != "allow" {
		return a.Denied("access_denied", "The user has denied the request."), nil
	}
	code, err := h.oauth.Agree(r.Context(), a, v.name)
	if err != nil {
		return "", err
	}
	return a.Agreed(code), nil
}

// login is what the login page shows.
type login struct {
	Next, Application, Name, Problem, Seal string
}

func (h *Handler) loginPage(w http.ResponseWriter, r *http.Request, l login, status int) error {
	l.Seal = seal(h.formSecret(w, r), "log in "+l.Next)
	security(w, "")
	return h.show(w, r, status, h.pages.login, l)
}

// ownPage keeps what comes after a login or a logout to our own pages.
func ownPage(next string) bool {
	return next == Path+"o/applications/" || strings.HasPrefix(next, Path+"o/authorize/?") || strings.HasPrefix(next, Path+"o/authorize?")
}

// logIn takes the login form.
func (h *Handler) logIn(w http.ResponseWriter, r *http.Request) error {
	secret := ""
	if c, err := r.Cookie(formCookie); err == nil {
		secret = c.Value
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	l := login{Next: r.PostFormValue("next"), Name: clip(r.PostFormValue("username"))}
	if err := h.ownForm(w, r, secret, "log in "+l.Next); err != nil {
		return h.tell(w, r, err)
	}
	if !ownPage(l.Next) {
		return h.tell(w, r, errForeign)
	}
	who, err := h.auth.Login(r.Context(), r.PostForm.Get("username"), r.PostForm.Get("password"), r.RemoteAddr)
	if status, text := loginProblem(err); text != "" {
		h.penalty(r)
		l.Problem = text
		return h.loginPage(w, r, l, status)
	}
	if err == nil {
		err = h.open(w, r, who)
	}
	if err != nil {
		return h.tell(w, r, err)
	}
	h.o.Subject(r.Context(), who.Name)
	http.Redirect(w, r, l.Next, http.StatusSeeOther)
	return nil
}

// logOut ends the session.
func (h *Handler) logOut(w http.ResponseWriter, r *http.Request) error {
	v, err := h.visit(r)
	if err != nil {
		return h.tell(w, r, err)
	}
	next := Path + "o/applications/"
	if v.name != "" {
		if err := h.ownForm(w, r, v.secret, "log out"); err != nil {
			return h.tell(w, r, err)
		}
		if asked := r.PostForm.Get("next"); ownPage(asked) {
			next = asked
		}
		if err := h.auth.CloseSession(r.Context(), v.secret); err != nil {
			return h.tell(w, r, err)
		}
	}
	h.cookie(w, r, sessionCookie, "", longAgo)
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

// applicationsPage lists what a user has agreed to.
func (h *Handler) applicationsPage(w http.ResponseWriter, r *http.Request) error {
	v, err := h.visit(r)
	if err != nil {
		return h.tell(w, r, err)
	}
	if v.name == "" {
		return h.loginPage(w, r, login{Next: Path + "o/applications/"}, http.StatusOK)
	}
	list, err := h.oauth.Applications(r.Context(), v.name)
	if err != nil {
		return h.tell(w, r, err)
	}
	type row struct {
		ID, Name, Description, Since, Seal string
		Scopes                             []string
	}
	var rows []row
	for _, a := range list {
		x := row{ID: a.Client.ID, Name: a.Client.Name, Description: a.Client.Description, Since: a.Since.UTC().Format("2 January 2006"),
			Seal: seal(v.secret, "withdraw "+a.Client.ID)}
		for _, s := range a.Scopes {
			x.Scopes = append(x.Scopes, oauth.Describe(s))
		}
		rows = append(rows, x)
	}
	security(w, "")
	return h.show(w, r, http.StatusOK, h.pages.applications, map[string]any{
		"User": v.name, "Rows": rows, "LogOut": seal(v.secret, "log out"), "Next": Path + "o/applications/",
	})
}

// withdraw ends what an application was granted.
func (h *Handler) withdraw(w http.ResponseWriter, r *http.Request) error {
	v, err := h.visit(r)
	if err == nil && v.name != "" {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		id := r.PostFormValue("client")
		if err = h.ownForm(w, r, v.secret, "withdraw "+id); err == nil {
			err = h.oauth.Withdraw(r.Context(), v.name, id)
		}
	}
	if err != nil {
		return h.tell(w, r, err)
	}
	http.Redirect(w, r, Path+"o/applications/", http.StatusSeeOther)
	return nil
}
