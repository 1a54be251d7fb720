package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/golang-jwt/jwt/v5"

	"longshore/internal/core/account"
	"longshore/internal/service/auth"
)

// oneKey is the keys of a token server that has one, by name.
type oneKey struct {
	name string
	key  *ecdsa.PrivateKey
}

func (o *oneKey) PublicKey(kid string) (*ecdsa.PublicKey, bool) {
	return &o.key.PublicKey, kid == o.name
}

func newKey(t testing.TB) *oneKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &oneKey{"one", k}
}

func (o *oneKey) sign(t testing.TB, c jwt.MapClaims) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, c)
	tok.Header["kid"] = o.name
	s, err := tok.SignedString(o.key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (o *oneKey) config() *auth.BearerConfig {
	return &auth.BearerConfig{Service: "registry", Issuer: "us", Own: o}
}

func claimsOf(t testing.TB, s *auth.Service, user string, at time.Time, grants ...auth.Grant) jwt.MapClaims {
	t.Helper()
	c := jwt.MapClaims{"iss": "us", "aud": "registry", "sub": user, "nbf": at.Unix(), "exp": at.Add(5 * time.Minute).Unix(), "access": grants}
	if user != "" {
		c["amr"] = []string{"password"}
		if _, fingerprint, err := s.Recall(t.Context(), user); err == nil {
			c["fpr"] = fingerprint
		}
	}
	return c
}

func inRepo(name string, actions ...string) auth.Grant {
	return auth.Grant{Type: "repository", Name: name, Actions: actions}
}

// registered are accounts in memory.
type registered map[string]account.User

func (r registered) UserByName(_ context.Context, name string) (account.User, error) {
	u, ok := r[name]
	if !ok {
		return u, errdefs.ErrNotFound
	}
	return u, nil
}

// TestOwnTokensAreWorthTheirSubject: the policies are asked again when a token of ours is used.
func TestOwnTokensAreWorthTheirSubject(t *testing.T) {
	k, c := newKey(t), newClock()
	cfg := auth.Config{HTPasswd: passwd(t, "alice", "bob", "carol", "root"), AccessControl: control(), Bearer: k.config(), Now: c.now}
	s := newService(t, cfg)
	use := func(claims jwt.MapClaims) *auth.Subject {
		t.Helper()
		who, err := s.Authenticate(t.Context(), bearer(k.sign(t, claims)))
		if err != nil {
			t.Fatal(err)
		}
		return who
	}
	alice := use(claimsOf(t, s, "alice", c.now(), inRepo("team/app", "pull", "push"), inRepo("secret/app", "pull", "push")))
	if !alice.Own || alice.IsAnonymous() || alice.Proof != auth.Password {
		t.Errorf("%+v", alice)
	}
	for _, x := range []struct {
		repo   string
		action auth.Action
		class  error
	}{
		{"team/other", auth.Read, errdefs.ErrUnauthenticated}, // not in the token
		{"team/app", auth.Delete, errdefs.ErrUnauthenticated},
		{"nobodys/app", auth.Read, errdefs.ErrUnauthenticated},
	} {
		if err := s.Authorize(alice, auth.Query{Action: x.action, Repo: x.repo}); !errors.Is(err, x.class) {
			t.Errorf("%s %s: %v", x.action, x.repo, err)
		}
	}
	// What was granted once is not granted any more.
	cfg.AccessControl = &auth.AccessControl{Repositories: map[string]auth.PolicyGroup{"**": {}}}
	if err := s.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.Authorize(use(claimsOf(t, s, "alice", c.now(), inRepo("team/app", "pull"))), auth.Query{Action: auth.Read, Repo: "team/app"}); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("%v", err)
	}
	nobody := use(claimsOf(t, s, "", c.now(), inRepo("team/app", "pull")))
	if !nobody.IsAnonymous() || !errors.Is(s.Authorize(nobody, auth.Query{Action: auth.Read, Repo: "team/app"}), errdefs.ErrUnauthenticated) {
		t.Errorf("%+v", nobody)
	}
	// Without policies those with a name may do what the token says, and nobody else may.
	cfg.AccessControl = nil
	if err := s.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.Authorize(alice, auth.Query{Action: auth.Read, Repo: "team/app"}); err != nil {
		t.Error(err)
	}
	if err := s.Authorize(nobody, auth.Query{Action: auth.Read, Repo: "team/app"}); !errors.Is(err, errdefs.ErrUnauthenticated) {
		t.Error(err)
	}
	if _, err := s.Authenticate(t.Context(), bearer(k.sign(t, claimsOf(t, s, "mallory", c.now())))); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("a user who is not there: %v", err)
	}
}

// TestOwnTokensEnd: by their time, and with their key, though their signature was good before.
func TestOwnTokensEnd(t *testing.T) {
	k, c := newKey(t), newClock()
	s := newService(t, auth.Config{HTPasswd: passwd(t, "alice"), Bearer: k.config(), Now: c.now})
	token := k.sign(t, claimsOf(t, s, "alice", c.now()))
	try := func() error { _, err := s.Authenticate(t.Context(), bearer(token)); return err }
	c.add(-time.Second)
	if err := try(); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("before its time: %v", err)
	}
	c.add(time.Second)
	for range 2 {
		if err := try(); err != nil {
			t.Error(err)
		}
	}
	c.add(5*time.Minute - time.Second)
	if err := try(); err != nil {
		t.Error(err)
	}
	c.add(time.Second)
	if err := try(); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("after its time: %v", err)
	}
	token = k.sign(t, claimsOf(t, s, "alice", c.now()))
	if err := try(); err != nil {
		t.Error(err)
	}
	stale := claimsOf(t, s, "alice", c.now())
	stale["fpr"] = "another password's"
	if _, err := s.Authenticate(t.Context(), bearer(k.sign(t, stale))); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("the password has changed: %v", err)
	}
	k.name = "another" // the key is forgotten
	if err := try(); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("its key has gone: %v", err)
	}
	k.name = "one"
	for name, change := range map[string]func(jwt.MapClaims){
		"audience": func(m jwt.MapClaims) { m["aud"] = "other" }, "issuer": func(m jwt.MapClaims) { m["iss"] = "other" },
		"no end": func(m jwt.MapClaims) { delete(m, "exp") }, "no audience": func(m jwt.MapClaims) { delete(m, "aud") },
	} {
		m := claimsOf(t, s, "alice", c.now())
		change(m)
		if _, err := s.Authenticate(t.Context(), bearer(k.sign(t, m))); !errors.Is(err, auth.ErrCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChain: the password file outweighs an account of the same name; an account may be switched off or an administrator's.
func TestChain(t *testing.T) {
	people := registered{
		"alice": {Name: "alice", PasswordHash: hash(t, "account"), Active: true},
		"dave":  {Name: "dave", PasswordHash: hash(t, "account"), Active: true},
		"eve":   {Name: "eve", PasswordHash: hash(t, "account")},
		"admin": {Name: "admin", PasswordHash: hash(t, "account"), Active: true, Admin: true},
	}
	c := newClock()
	s := newService(t, auth.Config{HTPasswd: passwd(t, "alice"), Accounts: people, AccessControl: control(), APIKeys: true, Now: c.now})
	for _, x := range []struct {
		user, password string
		err            error
	}{
		{"alice", "account", auth.ErrCredentials}, {"alice", "alice-secret", nil}, {"dave", "account", nil}, {"dave", "wrong", auth.ErrCredentials},
		{"eve", "account", auth.ErrInactive}, {"eve", "wrong", auth.ErrCredentials}, {"nobody", "account", auth.ErrCredentials}, {"admin", "account", nil},
	} {
		who, err := s.Authenticate(t.Context(), basic(x.user, x.password))
		if !errors.Is(err, x.err) {
			t.Errorf("%s with %q: %v", x.user, x.password, err)
		}
		if err == nil && s.IsAdmin(who) != (x.user == "admin") {
			t.Errorf("%s: admin %t", x.user, s.IsAdmin(who))
		}
	}
	dave, err := s.Authenticate(t.Context(), basic("dave", "account"))
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := s.CreateKey(t.Context(), dave, auth.KeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	delete(people, "dave")
	for _, secret := range []string{"account", key} {
		if _, err := s.Authenticate(t.Context(), basic("dave", secret)); !errors.Is(err, auth.ErrCredentials) {
			t.Errorf("the account has gone: %v", err)
		}
	}
	if !s.Knows("alice") || s.Knows("admin") {
		t.Error("names of the password file")
	}
}

// FuzzOwnToken: nothing but what our key has signed is taken.
func FuzzOwnToken(f *testing.F) {
	k, c := newKey(f), newClock()
	good := k.sign(f, claimsOf(f, nil, "", c.now(), inRepo("a", "pull")))
	parts := strings.Split(good, ".")
	for _, seed := range []string{good, good + ".", parts[0] + ".." + parts[2], "eyJhbGciOiJub25lIn0.e30.", parts[0] + "." + parts[1] + ".", "a.b.c", "", "...."} {
		f.Add(seed)
	}
	s, err := auth.New(nil, auth.Config{Bearer: k.config(), Now: c.now})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		who, err := s.Authenticate(context.Background(), bearer(token))
		if err == nil && (token != good || len(who.Grants) != 1) && strings.TrimSpace(token) != good {
			t.Fatalf("%q is taken", token)
		}
		if err != nil && !errors.Is(err, auth.ErrCredentials) {
			t.Fatalf("%q: %v", token, err)
		}
	})
}

func BenchmarkOwnToken(b *testing.B) {
	k := newKey(b)
	s, err := auth.New(nil, auth.Config{Bearer: k.config()})
	if err != nil {
		b.Fatal(err)
	}
	in := bearer(k.sign(b, claimsOf(b, nil, "", time.Now(), inRepo("a", "pull"))))
	for b.Loop() {
		if _, err := s.Authenticate(context.Background(), in); err != nil {
			b.Fatal(err)
		}
	}
}

func bearer(token string) auth.Credentials { return auth.Credentials{Authorization: "Bearer " + token} }

// TestAllowed: a token is to say what policies may allow; conditions are asked when it is used.
func TestAllowed(t *testing.T) {
	s := newService(t, auth.Config{HTPasswd: passwd(t, "alice", "bob", "root"), AccessControl: control()})
	who := map[string]*auth.Subject{"": {}}
	for _, name := range []string{"alice", "bob", "root"} {
		who[name] = login(t, s, basic(name, name+"-secret"))
	}
	for _, c := range []struct{ user, ask, want string }{
		{"alice", "repository:team/app:pull,push,delete", "pull,push"}, {"alice", "repository:team/app:*", "pull,push"},
		{"bob", "repository:team/app:pull,push", "pull"}, {"alice", "repository:any:push,pull", "pull"}, {"alice", "repository:timed:push", "push"},
		{"bob", "repository:timed:push", ""}, {"root", "repository:any:*", "pull,delete"}, {"", "repository:any:pull,push", "pull"},
		{"", "repository:team/app:pull", ""}, {"", "repository:team/pub:pull,push", "pull,push"}, {"alice", "registry:catalog:*", "*"},
		{"", "registry:catalog:*", "*"}, {"alice", "registry:else:*", ""}, {"alice", "other:any:pull", ""}, {"alice", "repository:any:fly", ""},
	} {
		g, _ := auth.ParseScope(c.ask)
		if got := strings.Join(s.Allowed(who[c.user], g), ","); got != c.want {
			t.Errorf("%q asks for %s and gets %q, not %q", c.user, c.ask, got, c.want)
		}
	}
	open := newService(t, auth.Config{HTPasswd: passwd(t, "alice")})
	g, _ := auth.ParseScope("repository:any:pull,push,delete,*")
	if got := open.Allowed(login(t, open, basic("alice", "alice-secret")), g); len(got) != 4 {
		t.Errorf("without policies: %q", got)
	}
	if got := open.Allowed(&auth.Subject{}, g); len(got) != 0 {
		t.Errorf("nobody gets %q", got)
	}
}
