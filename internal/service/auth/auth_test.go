package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"

	"longshore/internal/core/credential/credentialtest"
	"longshore/internal/service/auth"
)

// clock is a clock that the test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newClock() *clock { return &clock{t: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)} }

func basic(user, password string) auth.Credentials {
	return auth.Credentials{Authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

func hash(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func passwd(t *testing.T, users ...string) string {
	t.Helper()
	path, text := filepath.Join(t.TempDir(), "htpasswd"), "# people\n"
	for _, u := range users {
		text += u + ":" + hash(t, u+"-secret") + "\n"
	}
	write(t, path, text)
	return path
}

func newService(t *testing.T, cfg auth.Config) *auth.Service {
	t.Helper()
	s, err := auth.New(credentialtest.NewMemory(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func login(t *testing.T, s *auth.Service, c auth.Credentials) *auth.Subject {
	t.Helper()
	who, err := s.Authenticate(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func refused(t *testing.T, s *auth.Service, c auth.Credentials) {
	t.Helper()
	if who, err := s.Authenticate(context.Background(), c); !errors.Is(err, errdefs.ErrUnauthenticated) {
		t.Errorf("accepted as %+v: %v", who, err)
	}
}

func TestPasswordFile(t *testing.T) {
	c := newClock()
	path := passwd(t, "alice")
	s := newService(t, auth.Config{HTPasswd: path, Now: c.now})
	if who := login(t, s, basic("alice", "alice-secret")); who.Name != "alice" || who.Method != auth.Password {
		t.Errorf("%+v", who)
	}
	refused(t, s, basic("alice", "wrong"))
	refused(t, s, basic("alice", ""))
	refused(t, s, basic("mallory", "alice-secret"))
	refused(t, s, auth.Credentials{Authorization: "Basic !!!"})
	refused(t, s, auth.Credentials{Authorization: "Digest x"})

	write(t, path, "bob:$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1\n")
	login(t, s, basic("alice", "alice-secret")) // not looked at again within a second
	c.add(2 * time.Second)
	refused(t, s, basic("alice", "alice-secret"))
	login(t, s, basic("bob", "Hello world!"))

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.add(2 * time.Second)
	login(t, s, basic("bob", "Hello world!")) // a file that is being replaced locks nobody out
}

func TestWithoutAnyMethodEverybodyMay(t *testing.T) {
	s := newService(t, auth.Config{})
	for _, c := range []auth.Credentials{{}, basic("who", "ever")} {
		who := login(t, s, c)
		if !who.IsAnonymous() || s.Enter(who) != nil || s.Readable(who, auth.Query{}) != nil {
			t.Errorf("%+v", who)
		}
		if err := s.Authorize(who, auth.Query{Action: auth.Delete, Repo: "a"}); err != nil {
			t.Error(err)
		}
	}
	if err := s.Administer(login(t, s, auth.Credentials{})); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("anonymous administration: %v", err)
	}
}

func control() *auth.AccessControl {
	return &auth.AccessControl{
		Groups: map[string][]string{"ops": {"bob"}},
		Admin:  auth.AccessPolicy{Users: []string{"root"}, Actions: []auth.Action{auth.Read, auth.Delete}},
		Repositories: map[string]auth.PolicyGroup{
			"**":       {Default: []auth.Action{auth.Read}, Anonymous: []auth.Action{auth.Read}},
			"team/**":  {Policies: []auth.AccessPolicy{{Users: []string{"alice"}, Actions: []auth.Action{auth.Read, auth.Create}}, {Groups: []string{"ops"}, Actions: []auth.Action{auth.Read}}}},
			"team/pub": {Anonymous: []auth.Action{auth.Read, auth.Create}},
			"timed": {Policies: []auth.AccessPolicy{{Users: []string{"alice"}, Actions: []auth.Action{auth.Create},
				Conditions: []auth.Condition{{Expression: `req.referenceType == "digest"`, Message: "push by digest"}}}}},
		},
	}
}

func TestAccessControl(t *testing.T) {
	s := newService(t, auth.Config{HTPasswd: passwd(t, "alice", "bob", "carol", "root"), AccessControl: control()})
	who := func(name string) *auth.Subject {
		if name == "" {
			return login(t, s, auth.Credentials{})
		}
		return login(t, s, basic(name, name+"-secret"))
	}
	for _, c := range []struct {
		user   string
		action auth.Action
		repo   string
		want   bool
	}{
		{"", auth.Read, "any", true}, {"", auth.Create, "any", false},
		{"", auth.Read, "team/app", false}, {"", auth.Create, "team/pub", true},
		{"carol", auth.Read, "any", true}, {"carol", auth.Read, "team/app", false},
		{"alice", auth.Create, "team/app", true}, {"alice", auth.Update, "team/app", false},
		{"alice", auth.Read, "team/pub", false}, // the longest pattern alone counts
		{"bob", auth.Read, "team/a/b", true}, {"bob", auth.Create, "team/a/b", false},
		{"root", auth.Delete, "team/app", true}, {"root", auth.Create, "team/app", false},
	} {
		err := s.Authorize(who(c.user), auth.Query{Action: c.action, Repo: c.repo})
		if (err == nil) != c.want {
			t.Errorf("%q %s %s: %v", c.user, c.action, c.repo, err)
		}
		if want := map[bool]error{true: errdefs.ErrUnauthenticated, false: errdefs.ErrPermissionDenied}[c.user == ""]; err != nil && !errors.Is(err, want) {
			t.Errorf("%q %s %s: class of %v", c.user, c.action, c.repo, err)
		}
	}
	q := auth.Query{Action: auth.Create, Repo: "timed", Reference: "v1"}
	var why *auth.Refused
	if err := s.Authorize(who("alice"), q); !errors.As(err, &why) || why.Reason != "push by digest" {
		t.Errorf("condition: %v", err)
	}
	q.Reference = "sha256:ab"
	if err := s.Authorize(who("alice"), q); err != nil {
		t.Error(err)
	}
	readable := s.Readable(who("bob"), auth.Query{})
	if !readable("team/app") || !readable("x") || readable("timed") {
		t.Error("readable repositories")
	}
	if s.Administer(who("alice")) == nil || s.Administer(who("root")) != nil {
		t.Error("administration")
	}
}

func TestMetricsReaders(t *testing.T) {
	ac := control()
	s := newService(t, auth.Config{HTPasswd: passwd(t, "alice", "prom"), AccessControl: ac})
	alice, nobody := basic("alice", "alice-secret"), auth.Credentials{}
	if s.ReadMetrics(login(t, s, alice)) != nil || s.ReadMetrics(login(t, s, nobody)) == nil {
		t.Error("without users, whoever has a name")
	}
	ac.MetricsUsers = []string{"prom"}
	if err := s.Reload(auth.Config{HTPasswd: passwd(t, "alice", "prom"), AccessControl: ac}); err != nil {
		t.Fatal(err)
	}
	if s.ReadMetrics(login(t, s, alice)) == nil || s.ReadMetrics(login(t, s, basic("prom", "prom-secret"))) != nil {
		t.Error("with users, only those")
	}
	ac.MetricsAnonymous = true
	if err := s.Reload(auth.Config{HTPasswd: passwd(t, "alice"), AccessControl: ac}); err != nil {
		t.Fatal(err)
	}
	if s.ReadMetrics(login(t, s, nobody)) != nil {
		t.Error("anonymous metrics")
	}
}

func TestAPIKeys(t *testing.T) {
	c := newClock()
	path := passwd(t, "alice", "bob")
	s := newService(t, auth.Config{HTPasswd: path, APIKeys: true, Now: c.now})
	ctx := context.Background()
	alice := login(t, s, basic("alice", "alice-secret"))
	key, k, err := s.CreateKey(ctx, alice, auth.KeyRequest{Label: "ci", Scopes: []string{"team/**:pull", "mine"}, Expires: c.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	who := login(t, s, basic("alice", key))
	for _, q := range []struct {
		repo   string
		action auth.Action
		want   bool
	}{{"team/a", auth.Read, true}, {"team/a", auth.Create, false}, {"mine", auth.Delete, true}, {"other", auth.Read, false}} {
		if err := s.Authorize(who, auth.Query{Action: q.action, Repo: q.repo}); (err == nil) != q.want {
			t.Errorf("%s %s: %v", q.action, q.repo, err)
		}
	}
	if _, _, err := s.CreateKey(ctx, who, auth.KeyRequest{}); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("a narrowed key makes keys: %v", err)
	}
	refused(t, s, basic("bob", key))
	list, err := s.ListKeys(ctx, alice)
	if err != nil || len(list) != 1 || !list[0].LastUsed.Equal(c.now()) {
		t.Errorf("%+v %v", list, err)
	}
	bob := login(t, s, basic("bob", "bob-secret"))
	if err := s.DeleteKey(ctx, bob, k.ID); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("bob revokes alice's key: %v", err)
	}
	c.add(2 * time.Hour)
	refused(t, s, basic("alice", key))

	key, k, _ = s.CreateKey(ctx, alice, auth.KeyRequest{})
	login(t, s, basic("alice", key))
	if err := s.DeleteKey(ctx, alice, k.ID); err != nil {
		t.Fatal(err)
	}
	refused(t, s, basic("alice", key))

	key, _, _ = s.CreateKey(ctx, alice, auth.KeyRequest{})
	write(t, path, "bob:x\n")
	c.add(2 * time.Second)
	refused(t, s, basic("alice", key)) // the key does not outlive its owner
	for _, r := range []auth.KeyRequest{{Expires: c.now()}, {Scopes: []string{"["}}, {Scopes: []string{"a:frob"}}} {
		if _, _, err := s.CreateKey(ctx, alice, r); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestSessions(t *testing.T) {
	c := newClock()
	s := newService(t, auth.Config{HTPasswd: passwd(t, "alice"), Now: c.now})
	ctx := context.Background()
	cookie, _, err := s.OpenSession(ctx, login(t, s, basic("alice", "alice-secret")))
	if err != nil {
		t.Fatal(err)
	}
	if who := login(t, s, auth.Credentials{Cookie: cookie}); who.Name != "alice" || who.Method != auth.Cookie || who.Proof != auth.Password {
		t.Errorf("%+v", who)
	}
	refused(t, s, auth.Credentials{Cookie: cookie[:len(cookie)-4] + "AAAA"})
	if err := s.CloseSession(ctx, cookie); err != nil {
		t.Fatal(err)
	}
	refused(t, s, auth.Credentials{Cookie: cookie})
	cookie, _, _ = s.OpenSession(ctx, login(t, s, basic("alice", "alice-secret")))
	c.add(auth.SessionLife + time.Second)
	refused(t, s, auth.Credentials{Cookie: cookie})
	if _, _, err := s.OpenSession(ctx, login(t, s, auth.Credentials{})); err == nil {
		t.Error("an anonymous session")
	}
}

func keyFile(t *testing.T, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return path
}

func TestBearerTokens(t *testing.T) {
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	edPublic, edKey, _ := ed25519.GenerateKey(rand.Reader)
	now := time.Now()
	claims := func(over jwt.MapClaims) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "alice", "aud": "registry", "exp": now.Add(time.Minute).Unix(),
			"access": []any{map[string]any{"type": "repository(plugin)", "name": "team/app", "actions": []string{"pull", "push"}}}}
		for k, v := range over {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return c
	}
	for _, m := range []struct {
		method          jwt.SigningMethod
		private, public any
	}{{jwt.SigningMethodRS256, rsaKey, &rsaKey.PublicKey}, {jwt.SigningMethodES256, ecKey, &ecKey.PublicKey}, {jwt.SigningMethodEdDSA, edKey, edPublic}} {
		t.Run(m.method.Alg(), func(t *testing.T) {
			s := newService(t, auth.Config{Bearer: &auth.BearerConfig{Realm: "r", Service: "registry", Cert: keyFile(t, m.public)}})
			token := func(c jwt.MapClaims) auth.Credentials {
				signed, err := jwt.NewWithClaims(m.method, c).SignedString(m.private)
				if err != nil {
					t.Fatal(err)
				}
				return auth.Credentials{Authorization: "Bearer " + signed}
			}
			who := login(t, s, token(claims(nil)))
			for action, want := range map[auth.Action]bool{auth.Read: true, auth.Update: true, auth.Delete: false} {
				err := s.Authorize(who, auth.Query{Action: action, Repo: "team/app"})
				if (err == nil) != want || err != nil && !errors.Is(err, errdefs.ErrUnauthenticated) {
					t.Errorf("%s: %v", action, err)
				}
			}
			if s.Authorize(who, auth.Query{Action: auth.Read, Repo: "team/app2"}) == nil {
				t.Error("another repository")
			}
			refused(t, s, token(claims(jwt.MapClaims{"aud": "other"})))
			refused(t, s, token(claims(jwt.MapClaims{"exp": now.Add(-time.Hour).Unix()})))
			refused(t, s, token(claims(jwt.MapClaims{"exp": nil})))
			refused(t, s, token(claims(jwt.MapClaims{"nbf": now.Add(time.Hour).Unix()})))
			refused(t, s, token(claims(jwt.MapClaims{"access": "all"})))
			good := token(claims(nil)).Authorization
			refused(t, s, auth.Credentials{Authorization: good[:len(good)-6] + "AAAAAA"})
			none, _ := jwt.NewWithClaims(jwt.SigningMethodNone, claims(nil)).SignedString(jwt.UnsafeAllowNoneSignatureType)
			refused(t, s, auth.Credentials{Authorization: "Bearer " + none})
			// A token signed with the public key taken for a shared secret.
			der, _ := x509.MarshalPKIXPublicKey(m.public)
			forged, _ := jwt.NewWithClaims(jwt.SigningMethodHS256, claims(nil)).SignedString(der)
			refused(t, s, auth.Credentials{Authorization: "Bearer " + forged})
			if _, err := s.Authenticate(context.Background(), token(claims(jwt.MapClaims{"sub": "", "access": nil}))); err != nil {
				t.Errorf("a token without grants: %v", err)
			}
		})
	}
}

func TestCertificates(t *testing.T) {
	uri, _ := url.Parse("spiffe://example.org/workload/web")
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "cn"}, URIs: []*url.URL{uri}, DNSNames: []string{"a", "b"},
		EmailAddresses: []string{"m@x"}, SerialNumber: big.NewInt(1)}
	for _, c := range []struct {
		cfg  auth.MTLSConfig
		want string
	}{
		{auth.MTLSConfig{}, "cn"},
		{auth.MTLSConfig{Attributes: []string{"DN"}}, "CN=cn"},
		{auth.MTLSConfig{Attributes: []string{"URI"}, URIPattern: "spiffe://example.org/workload/(.*)"}, "web"},
		{auth.MTLSConfig{Attributes: []string{"uri", "CN"}, URIPattern: "spiffe://other/(.*)"}, "cn"},
		{auth.MTLSConfig{Attributes: []string{"DNS"}, DNSIndex: 1}, "b"},
		{auth.MTLSConfig{Attributes: []string{"email"}}, "m@x"},
	} {
		s := newService(t, auth.Config{MTLSOn: true, MTLS: c.cfg})
		if who := login(t, s, auth.Credentials{Certificates: []*x509.Certificate{cert}}); who.Name != c.want {
			t.Errorf("%+v: %q", c.cfg, who.Name)
		}
	}
	s := newService(t, auth.Config{MTLSOn: true, MTLS: auth.MTLSConfig{Attributes: []string{"DNS"}, DNSIndex: 9}})
	refused(t, s, auth.Credentials{Certificates: []*x509.Certificate{cert}})
	if s.Enter(login(t, s, auth.Credentials{})) == nil {
		t.Error("without a certificate")
	}
}

func TestReloadKeepsTheOldOnError(t *testing.T) {
	s := newService(t, auth.Config{HTPasswd: passwd(t, "alice")})
	if err := s.Reload(auth.Config{HTPasswd: "/nowhere"}); err == nil {
		t.Fatal("a missing file is no error")
	}
	login(t, s, basic("alice", "alice-secret"))
	bad := &auth.AccessControl{Repositories: map[string]auth.PolicyGroup{"[": {}}}
	if err := s.Reload(auth.Config{AccessControl: bad}); err == nil {
		t.Error("a bad pattern is no error")
	}
}
