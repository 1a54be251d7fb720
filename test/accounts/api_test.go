package accounts

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"longshore/internal/boot/registryboot"
	"longshore/internal/boot/registryboot/registrytest"
	"longshore/internal/core/account"
	"longshore/internal/service/auth/accounts"
	"longshore/internal/service/auth/oauth"
)

// people is a registry with accounts.
const people = `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0", "externalUrl": "https://www.docker.io",
  "auth": {"accounts": {"registration": true}, "token": {}}}}`

// password is everybody's.
const password = "toto42"

// add makes accounts; names that begin with "root" are administrators'.
func add(t *testing.T, r *registrytest.Registry, names ...string) {
	t.Helper()
	administer(t, r, func(p *registryboot.People) error {
		for _, n := range names {
			like := account.User{Admin: strings.HasPrefix(n, "root")}
			if n == "janedoe" {
				like.Profile = account.Profile{FullName: "Jane Doe", Location: "San Francisco, CA", Company: "Success, Inc.", URL: "https://docker.io/"}
			}
			_, err := p.Accounts.Add(t.Context(), accounts.Registration{Name: n, Password: password, Email: n + "@example.com"}, like)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func administer(t *testing.T, r *registrytest.Registry, f func(*registryboot.People) error) {
	t.Helper()
	if err := registryboot.Administer(context.Background(), r.Config, f); err != nil {
		t.Fatal(err)
	}
}

// replay sends a request as it stands in a document, but for the credentials, and checks the answer against that of the
// document: status, media type and, where there is a body, its members.
func replay(t *testing.T, r *registrytest.Registry, request, authorization, answer string) map[string]any {
	t.Helper()
	head, body, _ := strings.Cut(strings.TrimSpace(request), "\n\n")
	head = regexp.MustCompile(`(?m)^Authorization: .*$`).ReplaceAllString(head, "Authorization: "+authorization)
	conn, err := net.Dial("tcp", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // read to its end
	_, err = fmt.Fprintf(conn, "%s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", strings.ReplaceAll(head, "\n", "\r\n"), len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	wantHead, wantBody, _ := strings.Cut(strings.TrimSpace(answer), "\n\n")
	var code int
	if _, err := fmt.Sscanf(wantHead, "HTTP/1.1 %d", &code); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != code {
		t.Fatalf("%s\n%s: %s\nwant %s", head, resp.Status, text, wantHead)
	}
	if _, kind, ok := strings.Cut(wantHead, "Content-Type: "); ok && resp.Header.Get("Content-Type") != kind {
		t.Errorf("%s: type %q, want %q", head, resp.Header.Get("Content-Type"), kind)
	}
	if wantBody == "" {
		if len(text) != 0 {
			t.Errorf("%s: a body: %s", head, text)
		}
		return nil
	}
	return sameMembers(t, text, wantBody)
}

// sameMembers checks that an answer has the members of a documented one, in its order.
func sameMembers(t *testing.T, got []byte, want string) map[string]any {
	t.Helper()
	members := regexp.MustCompile(`(?m)"([a-z_]+)":`)
	names := func(s string) (out []string) {
		for _, m := range members.FindAllStringSubmatch(s, -1) {
			out = append(out, m[1])
		}
		return out
	}
	if a, b := fmt.Sprint(names(string(got))), fmt.Sprint(names(want)); a != b {
		t.Errorf("members %s, want %s", a, b)
	}
	var v any
	if err := json.Unmarshal(got, &v); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	m, _ := v.(map[string]any)
	return m
}

func basicHeader(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func is(t *testing.T, m map[string]any, members ...any) {
	t.Helper()
	for i := 0; i < len(members); i += 2 {
		if got := m[members[i].(string)]; got != members[i+1] {
			t.Errorf("%s is %v, want %v", members[i], got, members[i+1])
		}
	}
}

// access gives a token of an application to a user's account.
func access(t *testing.T, r *registrytest.Registry, user, scope string) string {
	t.Helper()
	var token string
	administer(t, r, func(p *registryboot.People) error {
		c, secret, err := p.OAuth.AddClient(t.Context(), oauth.NewClient{Name: "App", RedirectURIs: []string{"https://my.app/"}})
		if err != nil {
			return err
		}
		a, err := p.OAuth.Check(t.Context(), oauth.Request{ClientID: c.ID, ResponseType: "code", Scope: scope})
		if err != nil {
			return err
		}
		code, err := p.OAuth.Agree(t.Context(), a, user)
		if err != nil {
			return err
		}
		tokens, err := p.OAuth.Exchange(t.Context(), oauth.ClientCredentials{ID: c.ID, Secret: secret}, oauth.Exchange{Code: code})
		token = tokens.Access
		return err
	})
	return token
}

func TestDocumentedAccounts(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, people)
	add(t, r, "firstuser", "janedoe")
	bearerOf := func(scope string) string { return "Bearer " + access(t, r, "janedoe", scope) }

	const user = `HTTP/1.1 200 OK
Content-Type: application/json

{"id": 2, "username": "janedoe", "url": "", "date_joined": "", "type": "User", "full_name": "", "location": "", "company": "",
 "profile_url": "", "gravatar_url": "", "email": "", "is_active": true}`
	for _, credentials := range []string{basicHeader("janedoe"), bearerOf("profile_read")} {
		got := replay(t, r, `GET /api/v1.1/users/janedoe/ HTTP/1.1
Host: www.docker.io
Accept: application/json
Authorization: Basic dXNlcm5hbWU6cGFzc3dvcmQ=`, credentials, user)
		is(t, got, "id", 2.0, "username", "janedoe", "url", "https://www.docker.io/api/v1.1/users/janedoe/", "type", "User",
			"full_name", "Jane Doe", "location", "San Francisco, CA", "company", "Success, Inc.", "profile_url", "https://docker.io/",
			"gravatar_url", "https://secure.gravatar.com/avatar/e1f3994f2632af3d1c8c2dcc168a10e6.jpg?s=80&r=g&d=mm",
			"email", "janedoe@example.com", "is_active", true)
		if d, _ := got["date_joined"].(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`).MatchString(d) {
			t.Errorf("date_joined %q", d)
		}
	}
	for _, credentials := range []string{basicHeader("janedoe"), bearerOf("profile_write")} {
		got := replay(t, r, `PATCH /api/v1.1/users/janedoe/ HTTP/1.1
Host: www.docker.io
Accept: application/json
Authorization: Basic dXNlcm5hbWU6cGFzc3dvcmQ=

{
    "location": "Private Island",
    "profile_url": "http://janedoe.com/",
    "company": "Retired",
}`, credentials, user)
		is(t, got, "full_name", "Jane Doe", "location", "Private Island", "company", "Retired", "profile_url", "http://janedoe.com/")
	}
	got := replay(t, r, `GET /api/v1.1/users/janedoe/emails/ HTTP/1.1
Host: www.docker.io
Accept: application/json
Authorization: Bearer zAy0BxC1wDv2EuF3tGs4HrI6qJp6KoL7nM`, bearerOf("email_read"), `HTTP/1.1 200 OK
Content-Type: application/json

[{"email": "jane.doe@example.com", "verified": true, "primary": true}]`)
	is(t, got, "email", "janedoe@example.com", "verified", false, "primary", true)

	const other = `

{
    "email": "jane.doe+other@example.com"
}`
	const head = ` /api/v1.1/users/janedoe/emails/ HTTP/1.1
Host: www.docker.io
Accept: application/json
Content-Type: application/json
Authorization: Bearer zAy0BxC1wDv2EuF3tGs4HrI6qJp6KoL7nM`
	writer := bearerOf("email_write")
	is(t, replay(t, r, "POST"+head+other, writer, `HTTP/1.1 201 Created
Content-Type: application/json

{"email": "jane.doe+other@example.com", "verified": false, "primary": false}`),
		"email", "jane.doe+other@example.com", "verified", false, "primary", false)
	replay(t, r, "DELETE"+head+other, writer, "HTTP/1.1 204 NO CONTENT\nContent-Length: 0")
	replay(t, r, "DELETE"+head+other, writer, "HTTP/1.1 404 Not Found\nContent-Type: application/json\n\n{\"detail\":\"\"}")
}

// TestAccountsStatus asks for every status that the document names, of every operation.
func TestAccountsStatus(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, people)
	add(t, r, "janedoe", "other_user", "root_user")
	tokens := map[string]string{}
	for _, s := range oauth.Scopes() {
		tokens[s] = access(t, r, "janedoe", s)
	}
	for _, op := range []struct {
		method, path, scope, body, bad string
		status                         int
	}{
		{"GET", "", oauth.ProfileRead, "", "", 200},
		{"PATCH", "", oauth.ProfileWrite, `{"full_name":"J"}`, `{"profile_url":"javascript:x","company":1,"location":null}`, 200},
		{"GET", "emails/", oauth.EmailRead, "", "", 200},
		{"POST", "emails/", oauth.EmailWrite, `{"email":"j2@example.com"}`, `{"email":"nobody"}`, 201},
		{"PATCH", "emails/", oauth.EmailWrite, `{"email":"j2@example.com","primary":true}`, `{"email":"j2@example.com","primary":false}`, 200},
		{"DELETE", "emails/", oauth.EmailWrite, `{"email":"janedoe@example.com"}`, `{"email":"j2@example.com"}`, 204},
	} {
		name := op.method + " " + op.path
		do := func(user, body string, o ...func(*http.Request)) registrytest.Answer {
			t.Helper()
			a := r.Do(t, op.method, "/api/v1.1/users/"+user+"/"+op.path, []byte(body), append(o, registrytest.Header("Content-Type", "application/json"))...)
			if a.StatusCode >= 400 && !strings.HasPrefix(a.Text, `{"`) {
				t.Errorf("%s: no JSON: %q", name, a.Text)
			}
			return a
		}
		basic := func(user, pass string) func(*http.Request) { return registrytest.Basic(user, pass) }
		for what, a := range map[string]registrytest.Answer{
			"nobody": do("janedoe", op.body), "wrong password": do("janedoe", op.body, basic("janedoe", "wrong")),
			"unknown user": do("janedoe", op.body, basic("nobody", password)), "wrong token": do("janedoe", op.body, bearer("wrong")),
			"no scheme": do("janedoe", op.body, registrytest.Header("Authorization", "Nonsense")),
		} {
			if a.StatusCode != 401 || a.Header.Get("Www-Authenticate") == "" {
				t.Errorf("%s: %s: %s", name, what, a.Status)
			}
		}
		status(t, do("janedoe", op.body, basic("other_user", password)), 403)
		status(t, do("nobody", op.body, basic("janedoe", password)), 404)
		status(t, do("other_user", op.body, bearer(tokens[op.scope])), 403)
		for scope, token := range tokens {
			if scope != op.scope {
				status(t, do("janedoe", op.body, bearer(token)), 403)
			}
		}
		if op.bad != "" {
			status(t, do("janedoe", op.bad, basic("janedoe", password)), 400)
			status(t, do("janedoe", "{", basic("janedoe", password)), 400)
			status(t, do("janedoe", "[]", basic("janedoe", password)), 400)
			status(t, do("janedoe", `"email"`, basic("janedoe", password)), 400)
		}
		status(t, do("janedoe", op.body, bearer(tokens[op.scope])), op.status)
	}
	status(t, r.Do(t, "PUT", "/api/v1.1/users/janedoe/", nil), 405)
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/keys/", nil), 404)
	status(t, r.Do(t, "GET", "/api/v1.1/nothing/", nil), 404)
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe", nil, registrytest.Basic("janedoe", password)), 200)
}

func TestAccountsFields(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, people)
	add(t, r, "janedoe", "other_user", "root_user")
	jane := registrytest.Basic("janedoe", password)
	json := registrytest.Header("Content-Type", "application/json")
	a := r.Do(t, "PATCH", "/api/v1.1/users/janedoe/", []byte(`{"profile_url":"javascript:x","company":1,"location":null,"full_name":"x"}`), jane, json)
	wrong := into[map[string][]string](t, a, 400)
	if len(wrong["profile_url"]) != 1 || len(wrong["company"]) != 1 || len(wrong["location"]) != 1 || len(wrong) != 3 {
		t.Errorf("%v", wrong)
	}
	if u := into[map[string]any](t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, jane), 200); u["full_name"] != "Jane Doe" {
		t.Errorf("half a change: %v", u)
	}
	// A form is as good as JSON; the name, the address and the rest are not changed by it.
	u := into[map[string]any](t, r.Do(t, "PATCH", "/api/v1.1/users/janedoe/", []byte("full_name=J%C3%A4ne&username=other&is_active=false&id=9"), jane, form), 200)
	is(t, u, "full_name", "Jäne", "username", "janedoe", "is_active", true, "id", 1.0)
	gravatar := u["gravatar_url"]
	u = into[map[string]any](t, r.Do(t, "PATCH", "/api/v1.1/users/janedoe/", []byte(`{"gravatar_email":"Other@example.com"}`), jane, json), 200)
	if u["gravatar_url"] == gravatar {
		t.Error("the picture does not follow gravatar_email")
	}
	status(t, r.Do(t, "PATCH", "/api/v1.1/users/janedoe/", []byte("<a/>"), jane, registrytest.Header("Content-Type", "text/xml")), 415)
	status(t, r.Do(t, "PATCH", "/api/v1.1/users/janedoe/", []byte(`{"company":"`+strings.Repeat("x", 70000)+`"}`), jane, json), 413)

	// Addresses are unique; the primary one stays; verifying is an administrator's.
	emails := "/api/v1.1/users/janedoe/emails/"
	status(t, r.Do(t, "POST", emails, []byte(`{"email":"OTHER_user@example.com"}`), jane, json), 400)
	status(t, r.Do(t, "POST", emails, []byte(`{"email":"b@example.com"}`), jane, json), 201)
	status(t, r.Do(t, "DELETE", emails, []byte(`{"email":"janedoe@example.com"}`), jane, json), 400)
	status(t, r.Do(t, "PATCH", emails, []byte(`{"email":"b@example.com","verified":true}`), jane, json), 403)
	status(t, r.Do(t, "PATCH", emails, []byte(`{"email":"b@example.com","primary":true}`), registrytest.Basic("root_user", password), json), 403)
	e := into[map[string]any](t, r.Do(t, "PATCH", emails, []byte(`{"email":"b@example.com","verified":true}`), registrytest.Basic("root_user", password), json), 200)
	is(t, e, "email", "b@example.com", "verified", true, "primary", false)
	e = into[map[string]any](t, r.Do(t, "PATCH", emails, []byte(`{"email":"b@example.com","primary":true}`), jane, json), 200)
	is(t, e, "verified", true, "primary", true)
	status(t, r.Do(t, "PATCH", emails, []byte(`{"email":"c@example.com","primary":true}`), jane, json), 404)
	list := into[[]map[string]any](t, r.Do(t, "GET", emails, nil, jane), 200)
	if len(list) != 2 || list[0]["email"] != "b@example.com" || list[1]["primary"] != false {
		t.Errorf("%v", list)
	}
}

// TestAccountsEnd: what was got with a password ends with it, and with the account.
func TestAccountsEnd(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := registrytest.Start(t, people, c.option)
	add(t, r, "janedoe", "johndoe")
	login := func() (identity, token, access2 string) {
		t.Helper()
		a := into[tokenAnswer](t, r.Do(t, "GET", "/token?service=longshore&offline_token=1&scope=repository:a:pull,push", nil, registrytest.Basic("janedoe", password)), 200)
		return a.RefreshToken, a.Token, access(t, r, "janedoe", "profile_read")
	}
	works := func(identity, token, access2 string, want [3]int) {
		t.Helper()
		status(t, r.Do(t, "POST", "/oauth2/token", []byte("grant_type=refresh_token&service=longshore&client_id=x&refresh_token="+identity), form), want[0])
		status(t, r.Do(t, "GET", "/v2/", nil, bearer(token)), want[1])
		status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(access2)), want[2])
	}
	i, tok, acc := login()
	works(i, tok, acc, [3]int{200, 200, 200})
	administer(t, r, func(p *registryboot.People) error { return p.Accounts.SetPassword(t.Context(), "janedoe", "another") })
	works(i, tok, acc, [3]int{401, 401, 401})
	administer(t, r, func(p *registryboot.People) error { return p.Accounts.SetPassword(t.Context(), "janedoe", password) })
	i, tok, acc = login()
	administer(t, r, func(p *registryboot.People) error { return p.Accounts.SetActive(t.Context(), "janedoe", false) })
	works(i, tok, acc, [3]int{401, 403, 401})
	inactive := r.Do(t, "GET", "/v2/", nil, registrytest.Basic("janedoe", password))
	status(t, inactive, 403)
	if !strings.Contains(inactive.Text, "Account is not Active") {
		t.Error(inactive.Text)
	}
	status(t, r.Do(t, "GET", "/v2/", nil, registrytest.Basic("janedoe", "wrong")), 401)
	administer(t, r, func(p *registryboot.People) error { return p.Accounts.SetActive(t.Context(), "janedoe", true) })
	i, tok, acc = login()
	administer(t, r, func(p *registryboot.People) error { return p.Accounts.Remove(t.Context(), "janedoe") })
	works(i, tok, acc, [3]int{401, 401, 401})
	add(t, r, "janedoe") // somebody else
	works(i, tok, acc, [3]int{401, 401, 401})
}

func TestGuessingIsSlowedDown(t *testing.T) {
	t.Parallel()                                          // it waits more than it works
	r := registrytest.Start(t, people, newClock().option) // the clock stands still: nobody's turn comes
	add(t, r, "janedoe", "johndoe")
	status(t, r.Do(t, "GET", "/api/v1.1/users/johndoe/", nil, registrytest.Basic("johndoe", password)), 200)
	seen := map[int]int{}
	for range 40 {
		a := r.Do(t, "GET", "/token", nil, registrytest.Basic("janedoe", "wrong"))
		seen[a.StatusCode]++
		if a.StatusCode == 429 {
			if a.Header.Get("Retry-After") == "" {
				t.Error("nobody is told when to try again")
			}
			break
		}
	}
	if seen[429] == 0 || seen[401] < 5 {
		t.Errorf("answers: %v", seen)
	}
	status(t, r.Do(t, "GET", "/token", nil, registrytest.Basic("janedoe", password)), 429) // the right one is not looked at
	status(t, r.Do(t, "GET", "/token", nil, registrytest.Basic("johndoe", password)), 200) // was right before
}
