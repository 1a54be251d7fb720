package registryv1

import (
	"path/filepath"
	"strings"
	"testing"

	"longshore/internal/boot/registryboot/registrytest"
)

// TestPasswordFile: people of a password file push and pull; docker's log-in goes on to ask when nobody can register.
func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	registrytest.Passwd(t, filepath.Join(dir, "htpasswd"), "alice", "bob")
	r := registrytest.StartIn(t, dir, `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0",
		"auth": {"htpasswd": {"path": "DIR/htpasswd"}, "apikey": true, "failDelay": 0},
		"accessControl": {"repositories": {"**": {"policies": [
			{"users": ["alice"], "actions": ["read", "create", "update", "delete"]}, {"users": ["bob"], "actions": ["read"]}]}}}}}`, on)
	alice, bob := newClient(t, r.Addr, "alice", "alice-secret"), newClient(t, r.Addr, "bob", "bob-secret")
	s := &script{client: alice}
	s.play(t,
		step{"register", "POST", "/v1/users/", `{"username": "alice", "password": "x", "email": ""}`, nil, 401, "*", nil},
		step{"login", "GET", "/v1/users/", "", []string{"Authorization", "BASIC"}, 200, `"OK"`, nil},
		step{"update", "PUT", "/v1/users/alice/", `{"password": "another"}`, []string{"Authorization", "BASIC"}, 404, "*", nil},
	)
	newClient(t, r.Addr, "alice", "wrong").ask("GET", "/v1/users/", nil).want(t, 401)
	chain := chainOf(t, "a")
	alice.push("foo/bar", "v1", chain)
	alice.push("library-of-one", "v1", chain) // nobody administers: who may write may write to library
	same(t, bob.pull("foo/bar", "v1"), chain)
	same(t, bob.pull("library-of-one", "v1"), chain)
	bob.ask("PUT", "/v1/repositories/foo/bar/", nil).want(t, 403)
	newClient(t, r.Addr, "", "").ask("GET", "/v1/repositories/foo/bar/images", nil).want(t, 401)

	// An API key opens what its scopes say, by a token too.
	a := alice.do("POST", r.Addr, "/zot/auth/apikey", strings.NewReader(`{"label": "k", "scopes": ["foo/**:read"]}`), alice.basic()...).want(t, 201)
	var key struct{ APIKey string }
	a.decode(t, &key)
	keyed := newClient(t, r.Addr, "alice", key.APIKey)
	same(t, keyed.pull("foo/bar", "v1"), chain)
	keyed.ask("PUT", "/v1/repositories/foo/bar/", nil).want(t, 403)
	keyed.ask("GET", "/v1/repositories/library-of-one/images", nil).want(t, 404)
	keyed.ask("DELETE", "/v1/repositories/foo/bar/", nil).want(t, 403)
	keyed.do("PUT", r.Addr, "/v1/repositories/foo/bar/tags/v2", strings.NewReader(`"`+chain[0].id+`"`), keyed.basic()...).want(t, 403)
	if a := keyed.do("GET", r.Addr, "/v1/search?q=o", nil, keyed.basic()...).want(t, 200); !strings.Contains(string(a.body), `"num_results":1`) {
		t.Fatalf("%s", a.body)
	}
	alice.delete("foo/bar")
}
