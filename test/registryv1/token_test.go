package registryv1

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"longshore/internal/boot/registryboot"
	"longshore/internal/boot/registryboot/registrytest"
	"longshore/internal/service/hub"
)

// register makes an account.
func register(t testing.TB, host, name string) *client {
	t.Helper()
	c := newClient(t, host, name, "password of "+name)
	c.do("POST", host, "/v1/users/", strings.NewReader(`{"username": "`+name+`", "password": "`+c.password+`", "email": "`+name+`@example.com"}`)).want(t, 201)
	return c
}

// TestDance: push, pull and deletion with an account, a token for each and the sessions that they open.
func TestDance(t *testing.T) {
	r := registrytest.Start(t, people, on)
	c := register(t, r.Addr, "foobar")
	chain := chainOf(t, "a")
	c.push("foo/bar", "v1", chain)
	same(t, newClient(t, r.Addr, c.user, c.password).pull("foo/bar", "v1"), chain)
	c.push("public/app", "v1", chain)
	same(t, newClient(t, r.Addr, "", "").pull("public/app", "v1"), chain) // nobody's token will do
	jane := register(t, r.Addr, "jane")
	same(t, jane.pull("public/app", "v1"), chain)
	jane.ask("PUT", "/v1/repositories/public/app/", nil).want(t, 403)
	jane.ask("GET", "/v1/repositories/foo/bar/images", nil).want(t, 404)
	newClient(t, r.Addr, "", "").ask("GET", "/v1/repositories/foo/bar/images", nil).want(t, 401) // docker asks for a name then
	jane.ask("PUT", "/v1/repositories/foo/bar/", nil).want(t, 403)
	jane.ask("DELETE", "/v1/repositories/foo/bar/", nil).want(t, 403)
	jane.push("shared/app", "v1", chain)
	jane.ask("DELETE", "/v1/repositories/shared/app/", nil).want(t, 403)
	// Who may create may not move a tag, but for latest.
	s := jane.session(jane.ask("PUT", "/v1/repositories/shared/app/", nil).want(t, 200))
	body := `"` + chain[0].id + `"`
	s.send("PUT", "/v1/repositories/shared/app/tags/v1", strings.NewReader(body)).want(t, 403)
	s.send("PUT", "/v1/repositories/shared/app/tags/v2", strings.NewReader(body)).want(t, 200)
	s.send("PUT", "/v1/repositories/shared/app/tags/latest", strings.NewReader(body)).want(t, 200)
	s.send("PUT", "/v1/repositories/shared/app/tags/latest", strings.NewReader(body)).want(t, 200)
	c.delete("foo/bar")
	c.ask("GET", "/v1/repositories/foo/bar/images", nil).want(t, 404)
}

// TestTokens: wrong, expired, replayed and cross-scope tokens and sessions open nothing.
func TestTokens(t *testing.T) {
	var ahead atomic.Int64
	r := registrytest.Start(t, people, on, func(o *registryboot.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	c := register(t, r.Addr, "foobar")
	chain := chainOf(t, "a")
	c.push("foo/bar", "v1", chain)
	c.push("foo/other", "v1", chain[:1])
	tags := "/v1/repositories/foo/bar/tags"
	bare := newClient(t, r.Addr, "", "")
	bare.http.Jar = nil // what a thief has
	get := func(token string, status int) answer {
		t.Helper()
		return bare.do("GET", r.Addr, tags, nil, "Authorization", token).want(t, status)
	}
	if a := get("", 401); a.Header.Get("WWW-Authenticate") != "Token" {
		t.Fatalf("challenge %q", a.Header.Get("WWW-Authenticate"))
	}
	fresh := func(method, name string) string {
		t.Helper()
		status := map[string]int{"GET": 200, "PUT": 200, "DELETE": 202}[method]
		path := "/v1/repositories/" + name + "/"
		if method == "GET" {
			path += "images"
		}
		return c.session(c.ask(method, path, nil).want(t, status)).token
	}
	get("Token signature=123abc,repository=\"foo/bar\",access=read", 401)
	get("Token", 401)
	get("Token signature=,repository=,access=", 401)
	get("Token "+strings.Repeat("x", 10_000), 401)
	read := fresh("GET", "foo/bar")
	get("Token "+strings.Replace(read, "access=read", "access=write", 1), 401)
	get("Token "+strings.Replace(read, "foo/bar", "foo/other", 1), 401)
	get("Token "+fresh("GET", "foo/other"), 401) // another repository's
	cookie := get("Token Token "+read, 200).Header.Get("Set-Cookie")
	get("Token "+read, 401) // replayed
	session, attributes, _ := strings.Cut(cookie, ";")
	if !strings.HasPrefix(session, "session=") || !strings.Contains(attributes, "HttpOnly") || !strings.Contains(attributes, "Path=/v1/") {
		t.Fatalf("cookie %q", cookie)
	}
	with := func(method, path, body string, status int) {
		t.Helper()
		bare.do(method, r.Addr, path, strings.NewReader(body), "Cookie", session).want(t, status)
	}
	with("GET", tags, "", 200)
	with("GET", "/v1/images/"+chain[2].id+"/layer", "", 200)
	with("GET", "/v1/repositories/foo/other/tags", "", 401)
	with("PUT", tags+"/v2", `"`+chain[0].id+`"`, 401) // a session to read
	with("PUT", "/v1/images/"+idOf("x")+"/json", `{"id": "`+idOf("x")+`"}`, 401)
	with("DELETE", "/v1/repositories/foo/bar/tags/v1", "", 401)
	bare.do("GET", r.Addr, tags, nil, "Cookie", session+"x").want(t, 401)
	// A session of foo/other sees nothing of foo/bar's images, though it knows their names.
	a := bare.do("GET", r.Addr, "/v1/repositories/foo/other/tags", nil, "Authorization", "Token "+fresh("GET", "foo/other")).want(t, 200)
	other, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	bare.do("GET", r.Addr, "/v1/images/"+chain[0].id+"/json", nil, "Cookie", other).want(t, 200)
	bare.do("GET", r.Addr, "/v1/images/"+chain[2].id+"/json", nil, "Cookie", other).want(t, 404)
	// A token to write deletes no repository.
	bare.do("DELETE", r.Addr, "/v1/repositories/foo/bar/", nil, "Authorization", "Token "+fresh("PUT", "foo/bar")).want(t, 401)
	// What is over is over: tokens after minutes, sessions after hours, and all of it with a new password.
	read = fresh("GET", "foo/bar")
	ahead.Store(int64(11 * time.Minute))
	get("Token "+read, 401)
	with("GET", tags, "", 200)
	ahead.Store(int64(13 * time.Hour))
	with("GET", tags, "", 401)
	read = fresh("GET", "foo/bar")
	session, _, _ = strings.Cut(get("Token "+fresh("GET", "foo/bar"), 200).Header.Get("Set-Cookie"), ";")
	with("GET", tags, "", 200)
	c.do("PUT", r.Addr, "/v1/users/foobar/", strings.NewReader(`{"password": "another one"}`), c.basic()...).want(t, 204)
	with("GET", tags, "", 401)
	get("Token "+read, 401)
}

// TestInactive: an account that was switched off is told so, and opens nothing.
func TestInactive(t *testing.T) {
	r := registrytest.Start(t, people, on)
	c := register(t, r.Addr, "foobar")
	c.push("foo/bar", "v1", chainOf(t, "a"))
	s := c.session(c.ask("GET", "/v1/repositories/foo/bar/images", nil).want(t, 200))
	s.send("GET", "/v1/repositories/foo/bar/tags", nil).want(t, 200)
	err := registryboot.Administer(t.Context(), r.Config, func(p *registryboot.People) error { return p.Accounts.SetActive(t.Context(), "foobar", false) })
	if err != nil {
		t.Fatal(err)
	}
	s.send("GET", "/v1/repositories/foo/bar/tags", nil).want(t, 401)
	for _, path := range []string{"/v1/users/", "/v1/repositories/foo/bar/images", "/v1/search?q=x"} {
		if a := c.ask("GET", path, nil).want(t, 403); !strings.Contains(string(a.body), "Account is not Active") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	c.ask("PUT", "/v1/repositories/foo/bar/", nil).want(t, 403)
	c.ask("DELETE", "/v1/repositories/foo/bar/", nil).want(t, 403)
	c.ask("PUT", "/v1/users/foobar/", []byte(`{"password": "another"}`)).want(t, 403)
}

// TestOneUse: of many who show one token at a time, one gets in.
func TestOneUse(t *testing.T) {
	r := registrytest.Start(t, people, on)
	c := register(t, r.Addr, "foobar")
	c.push("foo/bar", "v1", chainOf(t, "a"))
	token := c.session(c.ask("GET", "/v1/repositories/foo/bar/images", nil).want(t, 200)).token
	var in atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			thief := newClient(t, r.Addr, "", "")
			a, err := thief.try("GET", r.Addr, "/v1/repositories/foo/bar/tags", nil, "Authorization", "Token "+token)
			switch {
			case err != nil:
				t.Error(err)
			case a.StatusCode == 200:
				in.Add(1)
			case a.StatusCode != 401:
				t.Errorf("%s: %s", a.Status, a.body)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 {
		t.Fatalf("%d got in", in.Load())
	}
}

// TestSearchTellsNothing of what somebody may not read, not even by counting.
func TestSearchTellsNothing(t *testing.T) {
	r := registrytest.Start(t, people, on)
	c := register(t, r.Addr, "foobar")
	for _, name := range []string{"foo/needle-one", "public/needle-two", "public/needle-three"} {
		c.push(name, "v1", chainOf(t, name))
	}
	jane := register(t, r.Addr, "jane")
	names := func(c *client, query string) (list []string, total int) {
		t.Helper()
		var out struct {
			NumResults int `json:"num_results"`
			Results    []struct{ Name string }
		}
		c.do("GET", r.Addr, "/v1/search?"+query, nil, c.basic()...).want(t, 200).decode(t, &out)
		for _, r := range out.Results {
			list = append(list, r.Name)
		}
		return list, out.NumResults
	}
	for _, tt := range []struct {
		who   *client
		query string
		want  string
		total int
	}{
		{c, "q=needle", "foo/needle-one public/needle-three public/needle-two", 3},
		{jane, "q=needle", "public/needle-three public/needle-two", 2},
		{newClient(t, r.Addr, "", ""), "q=NEEDLE", "public/needle-three public/needle-two", 2},
		{jane, "q=foo/", "", 0},
		{c, "q=needle&n=1", "foo/needle-one", 3},
		{c, "q=needle&n=1&page=3", "public/needle-two", 3},
		{c, "q=needle&n=1&page=4", "", 3},
		{c, "q=needle&n=0&page=-7", "foo/needle-one public/needle-three public/needle-two", 3},
		{c, "q=needle&n=x&page=99999999999999999999", "foo/needle-one public/needle-three public/needle-two", 3},
		{c, "q=%25", "", 0},
	} {
		list, total := names(tt.who, tt.query)
		if strings.Join(list, " ") != tt.want || total != tt.total {
			t.Errorf("%s as %q finds %v of %d", tt.query, tt.who.user, list, total)
		}
	}
	newClient(t, r.Addr, "jane", "wrong").do("GET", r.Addr, "/v1/search?q=x", nil, "Authorization", "Basic amFuZTp3cm9uZw==").want(t, 401)
}

// TestDescribe: what an administrator says of a repository is told, and found; the most stars come first.
func TestDescribe(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	for _, name := range []string{"foo/aaa", "foo/bbb"} {
		c.push(name, "v1", chainOf(t, "a"))
	}
	text, stars, yes := "Serves Pages", int64(7), true
	if err := registryboot.Describe(t.Context(), r.Config, "foo/bbb", hub.About{Description: &text, Stars: &stars, Trusted: &yes}); err != nil {
		t.Fatal(err)
	}
	if err := registryboot.Describe(t.Context(), r.Config, "foo/none", hub.About{Stars: &stars}); err == nil {
		t.Fatal("nothing is described")
	}
	annotated := mutate.Annotations(mutate.MediaType(someImage(t, 1), types.OCIManifestSchema1), map[string]string{"org.opencontainers.image.description": "Says so itself"}).(v1.Image)
	pushV2(t, r.Addr, "other/thing:latest", annotated)
	for query, want := range map[string]string{
		"thing": `[{"name":"other/thing","description":"Says so itself","star_count":0,"is_official":false,"is_trusted":false,"is_automated":false}]`,
		"pages": `[{"name":"foo/bbb","description":"Serves Pages","star_count":7,"is_official":false,"is_trusted":true,"is_automated":true}]`,
		"foo":   `[{"name":"foo/bbb","description":"Serves Pages","star_count":7,"is_official":false,"is_trusted":true,"is_automated":true},{"name":"foo/aaa","description":"","star_count":0,"is_official":false,"is_trusted":false,"is_automated":false}]`,
	} {
		var got struct{ Results json.RawMessage }
		c.do("GET", r.Addr, "/v1/search?q="+query, nil).want(t, 200).decode(t, &got)
		if string(got.Results) != want {
			t.Errorf("%s finds %s", query, got.Results)
		}
	}
}

// TestSecretsAreHashed: neither tokens nor sessions nor passwords stand in the databases.
func TestSecretsAreHashed(t *testing.T) {
	r := registrytest.Start(t, people, on)
	c := register(t, r.Addr, "foobar")
	c.push("foo/bar", "v1", chainOf(t, "a"))
	token := c.session(c.ask("GET", "/v1/repositories/foo/bar/images", nil).want(t, 200)).token
	_, signature, _ := strings.Cut(token, "signature=")
	signature, _, _ = strings.Cut(signature, ",")
	a := c.do("GET", r.Addr, "/v1/repositories/foo/bar/tags", nil, "Authorization", "Token "+token).want(t, 200)
	_, session, _ := strings.Cut(a.Header.Get("Set-Cookie"), "=")
	session, _, _ = strings.Cut(session, ";")
	r.Stop()
	for path, data := range filesBelow(t, r.Dir) {
		for _, secret := range []string{signature, session, c.password} {
			if len(secret) < 10 || bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds a secret of %d letters", path, len(secret))
			}
		}
	}
}
