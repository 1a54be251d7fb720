package accounts

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"longshore/internal/boot/registryboot"
	"longshore/internal/boot/registryboot/registrytest"
	"longshore/internal/service/auth/oauth"
)

// application is a registered client.
type application struct{ id, secret string }

const callback = "https://my.app/auth_complete/"

func register(t *testing.T, r *registrytest.Registry, n oauth.NewClient) application {
	t.Helper()
	var a application
	if n.RedirectURIs == nil {
		n.RedirectURIs = []string{callback, "https://my.app/other?x=1"}
	}
	n.Name = "TestClient"
	administer(t, r, func(p *registryboot.People) error {
		c, secret, err := p.OAuth.AddClient(t.Context(), n)
		a = application{c.ID, secret}
		return err
	})
	return a
}

// browser is somebody with cookies who follows nothing by itself.
type browser struct {
	t *testing.T
	r *registrytest.Registry
	c *http.Client
}

func newBrowser(t *testing.T, r *registrytest.Registry) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := *r.Client
	c.Jar = jar
	return &browser{t, r, &c}
}

// page is an answer that a browser shows.
type page struct {
	*http.Response
	text string
}

func (b *browser) do(method, path string, form url.Values, o ...func(*http.Request)) page {
	b.t.Helper()
	req, err := http.NewRequest(method, b.r.URL(path), strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, f := range o {
		f(req)
	}
	resp, err := b.c.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return page{resp, string(text)}
}

var hidden = regexp.MustCompile(`<input type="hidden" name="(\w+)" value="([^"]*)">`)

// form finds the form whose action begins so, with its hidden fields.
func (p page) form(t *testing.T, action string) (target string, f url.Values) {
	t.Helper()
	for _, part := range strings.Split(p.text, "<form ")[1:] {
		m := regexp.MustCompile(`action="([^"]*)"`).FindStringSubmatch(part)
		if m == nil || !strings.HasPrefix(html.UnescapeString(m[1]), action) {
			continue
		}
		f = url.Values{}
		for _, h := range hidden.FindAllStringSubmatch(strings.Split(part, "</form>")[0], -1) {
			f.Set(h[1], html.UnescapeString(h[2]))
		}
		return html.UnescapeString(m[1]), f
	}
	t.Fatalf("no form for %s: %d %s", action, p.StatusCode, p.text)
	return "", nil
}

const (
	authorizePath = "/api/v1.1/o/authorize/"
	loginPath     = "/api/v1.1/o/login/"
)

// ask is the documented request of an application.
func (a application) ask(more ...string) string {
	q := url.Values{"client_id": {a.id}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"profile_read email_read"}, "state": {"abc123"}}
	for i := 0; i+1 < len(more); i += 2 {
		if q.Set(more[i], more[i+1]); more[i+1] == "" {
			q.Del(more[i])
		}
	}
	return authorizePath + "?" + q.Encode()
}

// login logs in on the page that asks for it, and follows to where it leads.
func (b *browser) login(p page, user, pass string) page {
	b.t.Helper()
	target, f := p.form(b.t, loginPath)
	f.Set("username", user)
	f.Set("password", pass)
	after := b.do("POST", target, f)
	if after.StatusCode == http.StatusSeeOther {
		return b.do("GET", after.Header.Get("Location"), nil)
	}
	return after
}

// answer presses a button of the consent page and tells where that leads.
func (b *browser) answer(p page, decision string) url.Values {
	b.t.Helper()
	target, f := p.form(b.t, authorizePath)
	f.Set("decision", decision)
	after := b.do("POST", target, f)
	to, err := url.Parse(after.Header.Get("Location"))
	if err != nil || after.StatusCode != http.StatusFound || !strings.HasPrefix(to.String(), "https://my.app/") {
		b.t.Fatalf("%d %q %s", after.StatusCode, after.Header.Get("Location"), after.text)
	}
	return to.Query()
}

// code goes the whole way once.
func (b *browser) code(a application, more ...string) string {
	b.t.Helper()
	p := b.do("GET", a.ask(more...), nil)
	if strings.Contains(p.text, loginPath) {
		p = b.login(p, "janedoe", password)
	}
	return b.answer(p, "allow").Get("code")
}

func (a application) basic() func(*http.Request) { return registrytest.Basic(a.id, a.secret) }

// exchange posts a form to the token endpoint.
func (a application) exchange(t *testing.T, r *registrytest.Registry, fields ...string) registrytest.Answer {
	t.Helper()
	f := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		f.Set(fields[i], fields[i+1])
	}
	o := []func(*http.Request){form}
	if a.secret != "" {
		o = append(o, a.basic())
	}
	return r.Do(t, "POST", "/api/v1.1/o/token/", []byte(f.Encode()), o...)
}

func TestDocumentedOAuth(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, people)
	add(t, r, "janedoe")
	a := register(t, r, oauth.NewClient{Description: "tests <b>things</b>"})
	b := newBrowser(t, r)
	// The document's request, letter by letter but for the client.
	p := b.do("GET", "/api/v1.1/o/authorize/?client_id="+a.id+"&response_type=code&redirect_uri=https%3A//my.app/auth_complete/&scope=profile_read%20email_read&state=abc123", nil)
	if p.StatusCode != 200 || !strings.Contains(p.text, "Log in") {
		t.Fatalf("%d %s", p.StatusCode, p.text)
	}
	p = b.login(p, "janedoe", password)
	for _, want := range []string{"TestClient", "my.app", "janedoe", "profile_read", "email_read", "tests &lt;b&gt;"} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the consent page does not tell %q", want)
		}
	}
	if strings.Contains(p.text, "email_write") {
		t.Error("the consent page tells what was not asked for")
	}
	q := b.answer(p, "allow")
	if q.Get("state") != "abc123" || q.Get("code") == "" || q.Get("error") != "" {
		t.Fatalf("%v", q)
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(a.id+":"+a.secret))
	const answer = `HTTP/1.1 200 OK
Content-Type: application/json;charset=UTF-8

{"username": "", "user_id": 42, "access_token": "", "expires_in": 15552000, "token_type": "Bearer", "scope": "", "refresh_token": ""}`
	const head = `POST /api/v1.1/o/token/ HTTP/1.1
Host: www.docker.io
Authorization: Basic VGVzdENsaWVudElEOlRlc3RDbGllbnRTZWNyZXQ=
Accept: application/json
Content-Type: application/json

`
	got := replay(t, r, head+`{
    "grant_type": "code",
    "code": "`+q.Get("code")+`",
    "redirect_uri": "https://my.app/auth_complete/"
}`, basic, answer)
	is(t, got, "username", "janedoe", "user_id", 1.0, "expires_in", 15552000.0, "token_type", "Bearer", "scope", "profile_read email_read")
	again := replay(t, r, head+`{
    "grant_type": "refresh_token",
    "refresh_token": "`+got["refresh_token"].(string)+`",
}`, basic, answer)
	is(t, again, "username", "janedoe", "scope", "profile_read email_read")
	for _, name := range []string{"access_token", "refresh_token"} {
		if again[name] == got[name] || !regexp.MustCompile(`^[0-9A-Za-z]{30}$`).MatchString(again[name].(string)) {
			t.Errorf("%s: %v", name, again[name])
		}
	}
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(again["access_token"].(string))), 200)
	// "In the event of the user denying the authorization"
	if q := b.answer(b.do("GET", a.ask(), nil), "deny"); q.Get("error") != "access_denied" || q.Get("state") != "abc123" || q.Get("code") != "" {
		t.Errorf("%v", q)
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := registrytest.Start(t, people, c.option)
	add(t, r, "janedoe")
	a, other := register(t, r, oauth.NewClient{}), register(t, r, oauth.NewClient{})
	b := newBrowser(t, r)
	good := func(code string, more ...string) registrytest.Answer {
		t.Helper()
		return a.exchange(t, r, append([]string{"grant_type", "authorization_code", "code", code, "redirect_uri", callback}, more...)...)
	}
	wrong := func(a registrytest.Answer, want string) {
		t.Helper()
		e := into[struct{ Error string }](t, a, map[bool]int{true: 401, false: 400}[want == "invalid_client"])
		if e.Error != want || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s, want %s", a.Text, want)
		}
	}
	// 60 seconds, and not one more.
	code := b.code(a)
	c.add(59 * time.Second)
	first := into[tokenAnswer](t, good(code), 200)
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(first.AccessToken)), 200)
	late := b.code(a)
	c.add(60 * time.Second)
	wrong(good(late), "invalid_grant")
	// Twice: whoever has stolen it, everything that came of it ends.
	wrong(good(code), "invalid_grant")
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(first.AccessToken)), 401)
	wrong(a.exchange(t, r, "grant_type", "refresh_token", "refresh_token", first.RefreshToken), "invalid_grant")

	code = b.code(a)
	wrong(other.exchange(t, r, "grant_type", "authorization_code", "code", code, "redirect_uri", callback), "invalid_grant")
	wrong(application{a.id, "wrong"}.exchange(t, r, "grant_type", "authorization_code", "code", code, "redirect_uri", callback), "invalid_client")
	wrong(application{}.exchange(t, r, "grant_type", "authorization_code", "code", code, "client_id", a.id, "redirect_uri", callback), "invalid_client")
	wrong(a.exchange(t, r, "grant_type", "authorization_code", "code", code, "redirect_uri", callback+"x"), "invalid_grant")
	wrong(good(code, "code_verifier", "x"), "invalid_grant") // there was no challenge
	wrong(good("wrong"), "invalid_grant")
	wrong(a.exchange(t, r, "grant_type", "password", "username", "janedoe", "password", password), "unsupported_grant_type")
	wrong(a.exchange(t, r, "code", code), "invalid_request")
	wrong(a.exchange(t, r, "grant_type", "refresh_token", "refresh_token", code), "invalid_grant")
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(code)), 401)
	tokens := into[tokenAnswer](t, good(code), 200) // none of these has used it up
	// Refresh: less is granted, more is not, and what was granted stays.
	less := into[tokenAnswer](t, a.exchange(t, r, "grant_type", "refresh_token", "refresh_token", tokens.RefreshToken, "scope", "email_read"), 200)
	if less.Scope != "email_read" {
		t.Errorf("%+v", less)
	}
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(less.AccessToken)), 403)
	wrong(a.exchange(t, r, "grant_type", "refresh_token", "refresh_token", less.RefreshToken, "scope", "email_read profile_write"), "invalid_scope")
	wrong(other.exchange(t, r, "grant_type", "refresh_token", "refresh_token", less.RefreshToken), "invalid_grant")
	all := into[tokenAnswer](t, a.exchange(t, r, "grant_type", "refresh_token", "refresh_token", less.RefreshToken), 200)
	if all.Scope != "profile_read email_read" {
		t.Errorf("%+v", all)
	}
	// A refresh token that is used twice ends the grant too.
	wrong(a.exchange(t, r, "grant_type", "refresh_token", "refresh_token", tokens.RefreshToken), "invalid_grant")
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(all.AccessToken)), 401)
	// An access token ends after its time, a client gives one back, and an administrator forgets a client.
	tokens = into[tokenAnswer](t, good(b.code(a)), 200)
	c.add(15552000 * time.Second)
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(tokens.AccessToken)), 401)
	tokens = into[tokenAnswer](t, a.exchange(t, r, "grant_type", "refresh_token", "refresh_token", tokens.RefreshToken), 200)
	status(t, r.Do(t, "POST", "/api/v1.1/o/revoke_token/", []byte("token="+tokens.AccessToken), form, other.basic()), 200)
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(tokens.AccessToken)), 200)
	status(t, r.Do(t, "POST", "/api/v1.1/o/revoke_token/", []byte("token="+tokens.AccessToken), form, a.basic()), 200)
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(tokens.AccessToken)), 401)
	tokens = into[tokenAnswer](t, good(b.code(a)), 200)
	administer(t, r, func(p *registryboot.People) error { return p.OAuth.RemoveClient(t.Context(), a.id) })
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(tokens.AccessToken)), 401)
	wrong(good("x"), "invalid_client")
}

func TestAuthorizationRequests(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, people)
	add(t, r, "janedoe")
	a := register(t, r, oauth.NewClient{})
	b := newBrowser(t, r)
	// What is wrong with the client or the address is told to people, and sends them nowhere.
	for _, path := range []string{
		a.ask("client_id", "wrong"), a.ask("client_id", ""), a.ask("redirect_uri", "https://evil.example/"), a.ask("redirect_uri", callback+"x"),
		a.ask("redirect_uri", "https://my.app/auth_complete"), a.ask("redirect_uri", "https://MY.app/auth_complete/"), a.ask() + "&redirect_uri=https://evil.example/",
		a.ask() + "&%zz", authorizePath,
	} {
		p := b.do("GET", path, nil)
		if p.StatusCode != 400 || p.Header.Get("Location") != "" || !strings.Contains(p.text, `role="alert"`) {
			t.Errorf("%s: %d %q", path, p.StatusCode, p.Header.Get("Location"))
		}
	}
	// The rest is told to the application.
	for path, want := range map[string]string{
		a.ask("response_type", "token"): "unsupported_response_type", a.ask("response_type", ""): "unsupported_response_type",
		a.ask("scope", "everything"): "invalid_scope", a.ask("code_challenge", "x"): "invalid_request",
		a.ask("code_challenge", "x", "code_challenge_method", "plain"): "invalid_request", a.ask("code_challenge", "x", "code_challenge_method", "S256"): "invalid_request",
	} {
		p := b.do("GET", path, nil)
		to, err := url.Parse(p.Header.Get("Location"))
		if err != nil || p.StatusCode != 302 || to.Host != "my.app" || to.Query().Get("error") != want || to.Query().Get("state") != "abc123" {
			t.Errorf("%s: %d %q", path, p.StatusCode, p.Header.Get("Location"))
		}
	}
	// Without an address it is the first, without a scope the document's.
	p := b.login(b.do("GET", a.ask("redirect_uri", "", "scope", ""), nil), "janedoe", password)
	code := b.answer(p, "allow").Get("code")
	if got := into[tokenAnswer](t, a.exchange(t, r, "grant_type", "authorization_code", "code", code), 200); got.Scope != "profile_read email_read" {
		t.Errorf("%+v", got)
	}
	// An address with a query of its own keeps it.
	p = b.do("GET", a.ask("redirect_uri", "https://my.app/other?x=1"), nil)
	if q := b.answer(p, "allow"); q.Get("x") != "1" || q.Get("code") == "" {
		t.Errorf("%v", q)
	}
}

func TestPKCE(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, people)
	add(t, r, "janedoe")
	public := register(t, r, oauth.NewClient{Public: true})
	if public.secret != "" {
		t.Error("a public client has got a secret")
	}
	b := newBrowser(t, r)
	if p := b.do("GET", public.ask(), nil); !strings.Contains(p.Header.Get("Location"), "error=invalid_request") {
		t.Errorf("%q", p.Header.Get("Location"))
	}
	verifier := strings.Repeat("v", 43)
	sum := sha256.Sum256([]byte(verifier))
	challenge := []string{"code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method", "S256"}
	code := b.code(public, challenge...)
	try := func(fields ...string) registrytest.Answer {
		t.Helper()
		return public.exchange(t, r, append([]string{"grant_type", "authorization_code", "client_id", public.id, "code", code, "redirect_uri", callback}, fields...)...)
	}
	status(t, try(), 400)
	status(t, try("code_verifier", verifier[1:]), 400)
	status(t, try("code_verifier", verifier, "client_secret", "x"), 401)
	tokens := into[tokenAnswer](t, try("code_verifier", verifier), 200)
	status(t, public.exchange(t, r, "grant_type", "refresh_token", "client_id", public.id, "refresh_token", tokens.RefreshToken), 200)
	secret := register(t, r, oauth.NewClient{})
	code = b.code(secret, challenge...)
	status(t, secret.exchange(t, r, "grant_type", "authorization_code", "code", code, "redirect_uri", callback), 400)
	status(t, secret.exchange(t, r, "grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier), 200)
}

// TestForeignPages: another site cannot make a browser log in, agree or log out.
func TestForeignPages(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, people)
	add(t, r, "janedoe", "johndoe")
	a := register(t, r, oauth.NewClient{})
	b := newBrowser(t, r)
	p := b.do("GET", a.ask(), nil)
	for _, h := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
		if !strings.Contains(p.Header.Get("Content-Security-Policy"), h) {
			t.Errorf("%q lacks %s", p.Header.Get("Content-Security-Policy"), h)
		}
	}
	if strings.Contains(p.text, "<script") || strings.Contains(p.text, "http://") || strings.Contains(p.text, "style=") {
		t.Error("the page wants what its policy forbids")
	}
	target, f := p.form(t, loginPath)
	f.Set("username", "janedoe")
	f.Set("password", password)
	refused := func(what string, p page) {
		t.Helper()
		if p.StatusCode != 403 || p.Header.Get("Location") != "" {
			t.Errorf("%s: %d %q", what, p.StatusCode, p.Header.Get("Location"))
		}
	}
	refused("another browser's form", newBrowser(t, r).do("POST", target, f))
	refused("another site's form", b.do("POST", target, f, registrytest.Header("Sec-Fetch-Site", "cross-site")))
	refused("another origin's form", b.do("POST", target, f, registrytest.Header("Origin", "https://evil.example")))
	next := url.Values{}
	for k, v := range f {
		next[k] = v
	}
	next.Set("next", "https://evil.example/")
	refused("another target", b.do("POST", target, next))
	next = f
	next.Set("username", "nobody")
	if p := b.do("POST", target, next); p.StatusCode != 401 || !strings.Contains(p.text, "The username or the password is wrong.") || !strings.Contains(p.text, `value="nobody"`) {
		t.Errorf("%d %s", p.StatusCode, p.text)
	}
	consent := b.login(b.do("GET", a.ask(), nil), "janedoe", password)
	for _, c := range b.c.Jar.Cookies(must(url.Parse(r.URL(authorizePath)))) {
		if strings.Contains(consent.text, c.Value) {
			t.Error("the session's cookie is in the page")
		}
	}
	if !strings.Contains(consent.Header.Get("Content-Security-Policy"), "form-action 'self' https://my.app;") {
		t.Errorf("%q", consent.Header.Get("Content-Security-Policy"))
	}
	target, f = consent.form(t, authorizePath)
	f.Set("decision", "allow")
	refused("another site's consent", b.do("POST", target, f, registrytest.Header("Sec-Fetch-Site", "same-site")))
	refused("no seal", b.do("POST", target, url.Values{"decision": {"allow"}}))
	refused("consent to something else", b.do("POST", a.ask("scope", "email_write"), f))
	_, john := newBrowser(t, r), f
	bj := newBrowser(t, r)
	bj.login(bj.do("GET", a.ask(), nil), "johndoe", password)
	refused("somebody else's consent", bj.do("POST", target, john))
	out, f := consent.form(t, "/api/v1.1/o/logout/")
	refused("another site's logout", b.do("POST", out, url.Values{}))
	if p := b.do("POST", out, f); p.StatusCode != 303 {
		t.Errorf("%d %s", p.StatusCode, p.text)
	}
	if p := b.do("GET", a.ask(), nil); !strings.Contains(p.text, loginPath) {
		t.Error("still logged in")
	}
	// The session's cookie is gone from the server too, and does nothing in the registry's own interface.
	if p := b.do("POST", target, f); p.StatusCode != 302 || !strings.HasPrefix(p.Header.Get("Location"), authorizePath) {
		t.Errorf("%d %q", p.StatusCode, p.Header.Get("Location"))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestApplicationsPage(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, people)
	add(t, r, "janedoe")
	a := register(t, r, oauth.NewClient{})
	b := newBrowser(t, r)
	code := b.code(a)
	tokens := into[tokenAnswer](t, a.exchange(t, r, "grant_type", "authorization_code", "code", code, "redirect_uri", callback), 200)
	p := b.do("GET", "/api/v1.1/o/applications/", nil)
	if !strings.Contains(p.text, "TestClient") || !strings.Contains(p.text, "See your profile") {
		t.Fatalf("%s", p.text)
	}
	target, f := p.form(t, "/api/v1.1/o/applications/")
	f.Set("client", "other")
	if p := b.do("POST", target, f); p.StatusCode != 403 {
		t.Errorf("%d", p.StatusCode)
	}
	_, f = p.form(t, "/api/v1.1/o/applications/")
	if p := b.do("POST", target, f); p.StatusCode != 303 {
		t.Errorf("%d %s", p.StatusCode, p.text)
	}
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(tokens.AccessToken)), 401)
	if p := b.do("GET", "/api/v1.1/o/applications/", nil); strings.Contains(p.text, "TestClient") {
		t.Error("it is still listed")
	}
}

// TestSecretsAreHashed looks for everything that was given out in the files of the store.
func TestSecretsAreHashed(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, people)
	add(t, r, "janedoe")
	a := register(t, r, oauth.NewClient{})
	b := newBrowser(t, r)
	code := b.code(a)
	tokens := into[tokenAnswer](t, a.exchange(t, r, "grant_type", "authorization_code", "code", code, "redirect_uri", callback), 200)
	identity := into[tokenAnswer](t, r.Do(t, "GET", "/token?offline_token=true", nil, registrytest.Basic("janedoe", password)), 200)
	secrets := []string{password, a.secret, code, tokens.AccessToken, tokens.RefreshToken, identity.RefreshToken}
	for _, c := range b.c.Jar.Cookies(must(url.Parse(r.URL(authorizePath)))) {
		secrets = append(secrets, c.Value)
	}
	r.Stop()
	found := filesWith(t, r.Dir, secrets)
	if len(found) > 0 {
		t.Errorf("in clear: %v", found)
	}
	if len(filesWith(t, r.Dir, []string{"janedoe"})) == 0 {
		t.Error("the search finds nothing at all")
	}
}
