package accounts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/opencontainers/go-digest"

	"longshore/internal/boot/registryboot"
	"longshore/internal/boot/registryboot/registrytest"
)

// tokens is a registry with a token server, and people of a password file.
const tokens = `{
  "storage": {"rootDirectory": "DIR/root"},
  "http": {"port": "0",
    "auth": {"htpasswd": {"path": "DIR/htpasswd"}, "apikey": true, "token": {"service": "registry.docker.io", "issuer": "auth.docker.io"}},
    "accessControl": {"repositories": {
      "samalba/**": {"policies": [{"users": ["jlhawn"], "actions": ["read", "create", "update"]}]},
      "secret/**": {"policies": [{"users": ["root"], "actions": ["read", "create", "update", "delete"]}]},
      "public/**": {"anonymousPolicy": ["read"], "defaultPolicy": ["read"], "policies": [{"users": ["root"], "actions": ["create", "update"]}]}}}}}`

func startTokens(t *testing.T, c *clock) *registrytest.Registry {
	t.Helper()
	dir := t.TempDir()
	registrytest.Passwd(t, filepath.Join(dir, "htpasswd"), "jlhawn", "root")
	return registrytest.StartIn(t, dir, tokens, c.option)
}

type tokenAnswer struct {
	Token        string    `json:"token"`
	AccessToken  string    `json:"access_token"`
	Scope        string    `json:"scope"`
	ExpiresIn    int       `json:"expires_in"`
	IssuedAt     time.Time `json:"issued_at"`
	RefreshToken string    `json:"refresh_token"`
}

type entry struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

type tokenClaims struct {
	jwt.RegisteredClaims
	Access      []entry  `json:"access"`
	Methods     []string `json:"amr"`
	Fingerprint string   `json:"fpr"`
}

// get asks for a token; user is empty for nobody.
func get(t *testing.T, r *registrytest.Registry, user string, query url.Values) tokenAnswer {
	t.Helper()
	var o []func(*http.Request)
	if user != "" {
		o = append(o, registrytest.Basic(user, user+"-secret"))
	}
	return into[tokenAnswer](t, r.Do(t, "GET", "/token?"+query.Encode(), nil, o...), http.StatusOK)
}

func scopes(s ...string) url.Values {
	return url.Values{"service": {"registry.docker.io"}, "scope": s}
}

// inspect verifies a token by its own certificate chain, as another registry would.
func inspect(t *testing.T, token string) (header map[string]any, c tokenClaims) {
	t.Helper()
	parsed, err := jwt.NewParser(jwt.WithoutClaimsValidation()).ParseWithClaims(token, &c, func(tok *jwt.Token) (any, error) {
		der, err := base64.StdEncoding.DecodeString(tok.Header["x5c"].([]any)[0].(string))
		if err != nil {
			return nil, err
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	})
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Header, c
}

// push writes a small image by its manifest alone.
func push(t *testing.T, r *registrytest.Registry, repo, tag string, o ...func(*http.Request)) registrytest.Answer {
	t.Helper()
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	d := digest.FromBytes(config)
	a := r.Do(t, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), config, append(o, registrytest.Header("Content-Type", "application/octet-stream"))...)
	if a.StatusCode != http.StatusCreated {
		return a
	}
	m, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []any{},
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": d, "size": len(config)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.Do(t, "PUT", "/v2/"+repo+"/manifests/"+tag, m, append(o, registrytest.Header("Content-Type", "application/vnd.oci.image.manifest.v1+json"))...)
}

func TestChallenge(t *testing.T) {
	r := startTokens(t, newClock())
	realm := `Bearer realm="http://` + r.Addr + `/token",service="registry.docker.io"`
	for path, want := range map[string]string{
		"/v2/":                                realm,
		"/v2/samalba/my-app/manifests/latest": realm + `,scope="repository:samalba/my-app:pull"`,
		"/v2/samalba/my-app/blobs/uploads/":   realm + `,scope="repository:samalba/my-app:pull,push"`,
		"/v2/samalba/my-app/blobs/uploads/?mount=" + digest.FromString("").String() + "&from=public/a": realm +
			`,scope="repository:samalba/my-app:pull,push repository:public/a:pull"`,
	} {
		method := "GET"
		if strings.Contains(path, "uploads") {
			method = "POST"
		}
		a := r.Do(t, method, path, nil)
		status(t, a, http.StatusUnauthorized)
		if got := a.Header.Values("Www-Authenticate"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		if a.Header.Get("Docker-Distribution-Api-Version") != "registry/2.0" || !strings.Contains(a.Text, `"code":"UNAUTHORIZED"`) {
			t.Errorf("%s: %v %s", path, a.Header, a.Text)
		}
	}
}

func TestTokenRequest(t *testing.T) {
	c := newClock()
	r := startTokens(t, c)
	a := get(t, r, "jlhawn", scopes("repository:samalba/my-app:pull,push"))
	if a.Token == "" || a.Token != a.AccessToken || a.ExpiresIn != 300 || a.RefreshToken != "" || a.IssuedAt.Unix() != c.now().Unix() {
		t.Errorf("%+v", a)
	}
	header, claims := inspect(t, a.Token)
	if header["typ"] != "JWT" || header["alg"] != "ES256" || !regexp.MustCompile(`^([A-Z2-7]{4}:){11}[A-Z2-7]{4}$`).MatchString(header["kid"].(string)) {
		t.Errorf("%v", header)
	}
	if claims.Issuer != "auth.docker.io" || claims.Subject != "jlhawn" || !slices.Equal(claims.Audience, []string{"registry.docker.io"}) ||
		claims.ID == "" || claims.ExpiresAt.Unix() != c.now().Unix()+300 || claims.NotBefore.Time.After(c.now()) {
		t.Errorf("%+v", claims)
	}
	for _, x := range []struct {
		user string
		ask  []string
		want string
	}{
		{"jlhawn", []string{"repository:samalba/my-app:pull,push"}, `[{"type":"repository","name":"samalba/my-app","actions":["pull","push"]}]`},
		{"jlhawn", []string{"repository:samalba/my-app:*"}, `[{"type":"repository","name":"samalba/my-app","actions":["pull","push"]}]`},
		{"jlhawn", []string{"repository(plugin):samalba/my-app:pull"}, `[{"type":"repository","name":"samalba/my-app","actions":["pull"]}]`},
		{"jlhawn", []string{"repository:samalba/a:pull", "repository:secret/b:pull,push", "repository:public/c:pull,push"},
			`[{"type":"repository","name":"samalba/a","actions":["pull"]},{"type":"repository","name":"public/c","actions":["pull"]}]`},
		{"jlhawn", []string{"repository:samalba/a:pull repository:samalba/a:push"}, `[{"type":"repository","name":"samalba/a","actions":["pull","push"]}]`},
		{"root", []string{"repository:secret/b:*"}, `[{"type":"repository","name":"secret/b","actions":["*"]}]`},
		{"root", []string{"registry:catalog:*"}, `[{"type":"registry","name":"catalog","actions":["*"]}]`},
		{"jlhawn", []string{"repository:samalba/../secret/b:pull", "nonsense", "repository:SAMALBA/a:pull", "host:a:b", ""}, `[]`},
		{"", []string{"repository:public/c:pull,push", "repository:samalba/a:pull"}, `[{"type":"repository","name":"public/c","actions":["pull"]}]`},
		{"jlhawn", nil, `[]`},
	} {
		_, claims := inspect(t, get(t, r, x.user, scopes(x.ask...)).Token)
		got, err := json.Marshal(claims.Access)
		if err != nil || string(got) != x.want || claims.Subject != x.user {
			t.Errorf("%s asks for %q: %s, want %s", x.user, x.ask, got, x.want)
		}
	}
	bad := r.Do(t, "GET", "/token?service=registry.docker.io&offline_token=true", nil, registrytest.Basic("jlhawn", "wrong"))
	status(t, bad, http.StatusUnauthorized)
	if !strings.Contains(bad.Text, "incorrect username or password") || bad.Header.Get("Www-Authenticate") == "" || bad.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v %s", bad.Header, bad.Text)
	}
	status(t, r.Do(t, "GET", "/token?service=another", nil, registrytest.Basic("jlhawn", "jlhawn-secret")), http.StatusBadRequest)
	status(t, r.Do(t, "GET", "/token", nil, bearer(a.Token)), http.StatusUnauthorized)
	status(t, r.Do(t, "DELETE", "/token", nil), http.StatusMethodNotAllowed)
	status(t, r.Do(t, "GET", "/oauth2/token", nil), http.StatusMethodNotAllowed)
}

func TestOAuth2TokenRequest(t *testing.T) {
	c := newClock()
	r := startTokens(t, c)
	post := func(body string) registrytest.Answer {
		t.Helper()
		return r.Do(t, "POST", "/oauth2/token", []byte(body), form)
	}
	const client = "&service=registry.docker.io&client_id=dockerengine"
	first := into[tokenAnswer](t, post("grant_type=password&username=jlhawn&password=jlhawn-secret&access_type=offline"+client), http.StatusOK)
	if first.RefreshToken == "" || first.AccessToken == "" || first.ExpiresIn < 60 || first.Scope != "" {
		t.Errorf("%+v", first)
	}
	online := into[tokenAnswer](t, post("grant_type=password&username=jlhawn&password=jlhawn-secret"+client), http.StatusOK)
	if online.RefreshToken != "" {
		t.Error("a refresh token that nobody asked for")
	}
	again := into[tokenAnswer](t, post("grant_type=refresh_token&refresh_token="+first.RefreshToken+client+
		"&scope=repository:samalba/my-app:pull,push repository:secret/b:pull"), http.StatusOK)
	if again.RefreshToken != first.RefreshToken || again.Scope != "repository:samalba/my-app:pull,push" {
		t.Errorf("%+v", again)
	}
	if _, c := inspect(t, again.AccessToken); c.Subject != "jlhawn" {
		t.Errorf("%+v", c)
	}
	for body, want := range map[string]int{
		"grant_type=refresh_token&refresh_token=wrong" + client:                                    401,
		"grant_type=refresh_token&service=another&client_id=x&refresh_token=" + first.RefreshToken: 401,
		"grant_type=password&username=jlhawn&password=wrong" + client:                              401,
		"grant_type=password&username=jlhawn&password=jlhawn-secret&client_id=x":                   400,
		"grant_type=password&username=jlhawn&password=jlhawn-secret&service=registry.docker.io":    400,
		"service=registry.docker.io&client_id=x":                                                   400,
		"grant_type=refresh_token" + client:                                                        400,
		"grant_type=authorization_code&code=x" + client:                                            400,
		"grant_type=password&username=jlhawn&password=" + first.RefreshToken + client:              401,
	} {
		a := post(body)
		status(t, a, want)
		if !strings.Contains(a.Text, `"error":"`) || !strings.Contains(a.Text, `"errors":[`) {
			t.Errorf("%s", a.Text)
		}
	}
	// The registry takes no refresh token, and the token server no access token.
	status(t, r.Do(t, "GET", "/v2/", nil, bearer(first.RefreshToken)), http.StatusUnauthorized)
	status(t, post("grant_type=refresh_token&refresh_token="+first.AccessToken+client), http.StatusUnauthorized)
	// A changed password ends it.
	registrytest.Passwd(t, filepath.Join(r.Dir, "htpasswd"), "root", "jlhawn") // other salts
	c.add(2 * time.Second)                                                     // the file is looked at each second
	status(t, post("grant_type=refresh_token&refresh_token="+first.RefreshToken+client), http.StatusUnauthorized)
}

func TestOfflineToken(t *testing.T) {
	r := startTokens(t, newClock())
	q := scopes()
	q.Set("offline_token", "true")
	q.Set("account", "jlhawn")
	q.Set("client_id", "docker")
	if a := get(t, r, "jlhawn", q); a.RefreshToken == "" {
		t.Error("no refresh token")
	}
	if a := get(t, r, "", q); a.RefreshToken != "" {
		t.Error("nobody has got a refresh token")
	}
	// An API key can be revoked by itself: it gives none.
	key := into[struct{ APIKey string }](t, r.Do(t, "POST", "/zot/auth/apikey", []byte(`{"label":"ci","scopes":["samalba/one:pull"]}`),
		registrytest.Basic("jlhawn", "jlhawn-secret")), http.StatusCreated).APIKey
	q["scope"] = []string{"repository:samalba/one:pull,push", "repository:samalba/two:pull", "registry:catalog:*"}
	a := into[tokenAnswer](t, r.Do(t, "GET", "/token?"+q.Encode(), nil, registrytest.Basic("jlhawn", key)), http.StatusOK)
	_, c := inspect(t, a.Token)
	if a.RefreshToken != "" || len(c.Access) != 1 || c.Access[0].Name != "samalba/one" || !slices.Equal(c.Access[0].Actions, []string{"pull"}) {
		t.Errorf("%+v %+v", a, c.Access)
	}
}

func TestUsingTokens(t *testing.T) {
	c := newClock()
	r := startTokens(t, c)
	token := func(user string, s ...string) func(*http.Request) { return bearer(get(t, r, user, scopes(s...)).Token) }
	both := token("jlhawn", "repository:samalba/my-app:pull,push")
	status(t, push(t, r, "samalba/my-app", "v1", both), http.StatusCreated)
	status(t, push(t, r, "secret/b", "v1", token("root", "repository:secret/b:pull,push")), http.StatusCreated)
	status(t, push(t, r, "public/a", "v1", token("root", "repository:public/a:pull,push")), http.StatusCreated)
	status(t, r.Do(t, "GET", "/v2/", nil, both), http.StatusOK)
	status(t, r.Do(t, "GET", "/v2/samalba/my-app/manifests/v1", nil, both), http.StatusOK)
	status(t, r.Do(t, "GET", "/v2/public/a/manifests/v1", nil, token("", "repository:public/a:pull")), http.StatusOK)
	status(t, r.Do(t, "GET", "/v2/public/a/manifests/v1", nil), http.StatusOK) // the policy lets everybody

	// A right in one repository is none in another, not in its blobs either.
	pull := token("jlhawn", "repository:samalba/my-app:pull")
	cross := r.Do(t, "GET", "/v2/secret/b/manifests/v1", nil, pull)
	status(t, cross, http.StatusUnauthorized)
	if h := cross.Header.Get("Www-Authenticate"); !strings.Contains(h, `scope="repository:secret/b:pull"`) || !strings.Contains(h, `error="insufficient_scope"`) {
		t.Errorf("%q", h)
	}
	d := digest.FromString(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`).String()
	status(t, r.Do(t, "HEAD", "/v2/secret/b/blobs/"+d, nil, pull), http.StatusUnauthorized)
	status(t, r.Do(t, "GET", "/v2/samalba/my-app/blobs/"+d, nil, pull), http.StatusOK)
	status(t, push(t, r, "samalba/my-app", "v2", pull), http.StatusUnauthorized)
	status(t, r.Do(t, "DELETE", "/v2/samalba/my-app/manifests/v1", nil, both), http.StatusUnauthorized)

	// A mount needs the right to pull from the other repository in the same token.
	mount := "/v2/samalba/copy/blobs/uploads/?mount=" + d + "&from="
	status(t, r.Do(t, "POST", mount+"samalba/my-app", nil, token("jlhawn", "repository:samalba/copy:pull,push")), http.StatusAccepted)
	status(t, r.Do(t, "POST", mount+"secret/b", nil, token("jlhawn", "repository:samalba/copy:pull,push", "repository:secret/b:pull")), http.StatusAccepted)
	status(t, r.Do(t, "POST", mount+"samalba/my-app", nil, token("jlhawn", "repository:samalba/copy:pull,push", "repository:samalba/my-app:pull")), http.StatusCreated)

	// The catalogue shows what its reader may read.
	list := func(o func(*http.Request)) []string {
		t.Helper()
		return into[struct{ Repositories []string }](t, r.Do(t, "GET", "/v2/_catalog", nil, o), http.StatusOK).Repositories
	}
	if got := list(token("jlhawn", "registry:catalog:*")); !slices.Equal(got, []string{"public/a", "samalba/my-app"}) {
		t.Errorf("%q", got)
	}
	if got := list(token("", "registry:catalog:*")); !slices.Equal(got, []string{"public/a"}) {
		t.Errorf("%q", got)
	}
	narrow := r.Do(t, "GET", "/v2/_catalog", nil, both)
	status(t, narrow, http.StatusUnauthorized)
	if h := narrow.Header.Get("Www-Authenticate"); !strings.Contains(h, `scope="registry:catalog:*",error="insufficient_scope"`) {
		t.Errorf("%q", h)
	}

	// It ends: with its time, and with its user.
	fresh := token("jlhawn", "repository:samalba/my-app:pull")
	c.add(299 * time.Second)
	status(t, r.Do(t, "GET", "/v2/samalba/my-app/manifests/v1", nil, fresh), http.StatusOK)
	c.add(2 * time.Second)
	old := r.Do(t, "GET", "/v2/samalba/my-app/manifests/v1", nil, fresh)
	status(t, old, http.StatusUnauthorized)
	if h := old.Header.Get("Www-Authenticate"); !strings.Contains(h, `error="invalid_token"`) {
		t.Errorf("%q", h)
	}
	fresh = token("jlhawn", "repository:samalba/my-app:pull")
	registrytest.Passwd(t, filepath.Join(r.Dir, "htpasswd"), "root")
	c.add(2 * time.Second) // the file is looked at each second
	status(t, r.Do(t, "GET", "/v2/samalba/my-app/manifests/v1", nil, fresh), http.StatusUnauthorized)
}

func TestForgedTokens(t *testing.T) {
	c := newClock()
	r := startTokens(t, c)
	status(t, push(t, r, "secret/b", "v1", bearer(get(t, r, "root", scopes("repository:secret/b:pull,push")).Token)), http.StatusCreated)
	good := get(t, r, "root", scopes("repository:secret/b:pull")).Token
	header, _ := inspect(t, good)
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big1()}, &x509.Certificate{SerialNumber: big1()}, &mine.PublicKey, mine)
	if err != nil {
		t.Fatal(err)
	}
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		m := jwt.MapClaims{
			"iss": "auth.docker.io", "sub": "root", "aud": "registry.docker.io", "exp": c.now().Add(time.Minute).Unix(),
			"nbf": c.now().Unix() - 1, "access": []entry{{"repository", "secret/b", []string{"pull"}}},
		}
		if change != nil {
			change(m)
		}
		return m
	}
	forge := func(m jwt.SigningMethod, key any, change func(*jwt.Token)) string {
		t.Helper()
		tok := jwt.NewWithClaims(m, claims(nil))
		tok.Header["kid"] = header["kid"]
		if change != nil {
			change(tok)
		}
		text, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"another key under our name": forge(jwt.SigningMethodES256, mine, nil),
		"another key with its x5c":   forge(jwt.SigningMethodES256, mine, func(t *jwt.Token) { t.Header["x5c"] = []string{base64.StdEncoding.EncodeToString(der)} }),
		"another kid":                forge(jwt.SigningMethodES256, mine, func(t *jwt.Token) { t.Header["kid"] = "mine" }),
		"kid with a path":            forge(jwt.SigningMethodES256, mine, func(t *jwt.Token) { t.Header["kid"] = "../../x" }),
		"no kid":                     forge(jwt.SigningMethodES256, mine, func(t *jwt.Token) { delete(t.Header, "kid") }),
		"no signature":               forge(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil),
		"the public key as a secret": forge(jwt.SigningMethodHS256, []byte(header["x5c"].([]any)[0].(string)), nil),
		"another claim set":          parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`)) + "." + parts[2],
		"cut off":                    good[:len(good)-3],
		"nothing":                    "",
		"rubbish":                    "a.b.c",
	} {
		a := r.Do(t, "GET", "/v2/secret/b/manifests/v1", nil, bearer(token))
		if a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", name, a.Status)
		}
	}
	status(t, r.Do(t, "GET", "/v2/secret/b/manifests/v1", nil, bearer(good)), http.StatusOK)
}

func TestKeyRotation(t *testing.T) {
	c := newClock()
	r := startTokens(t, c)
	ask := func() (string, string) {
		a := get(t, r, "root", scopes("registry:catalog:*"))
		header, _ := inspect(t, a.Token)
		return a.Token, header["kid"].(string)
	}
	first, kid := ask()
	if _, again := ask(); again != kid {
		t.Error("a key for each token")
	}
	c.add(30*24*time.Hour - time.Minute)
	old, _ := ask()
	c.add(2*time.Minute + time.Second) // the new key is made, and published
	ask()
	c.add(time.Minute + time.Second)
	fresh, next := ask()
	if next == kid {
		t.Error("the key is not rotated")
	}
	status(t, r.Do(t, "GET", "/v2/_catalog", nil, bearer(first)), http.StatusUnauthorized)
	status(t, r.Do(t, "GET", "/v2/_catalog", nil, bearer(old)), http.StatusOK) // the overlap
	status(t, r.Do(t, "GET", "/v2/_catalog", nil, bearer(fresh)), http.StatusOK)
	r.Stop()
	files, err := filepath.Glob(filepath.Join(r.Dir, "root", "_longshore", "token-keys", "*.pem"))
	if err != nil || len(files) != 2 {
		t.Errorf("%v %v", files, err)
	}
	again := registrytest.StartIn(t, r.Dir, tokens, c.option)
	status(t, again.Do(t, "GET", "/v2/_catalog", nil, bearer(fresh)), http.StatusOK)
}

func TestRotateKeyCommand(t *testing.T) {
	c := newClock()
	r := startTokens(t, c)
	old := get(t, r, "root", scopes("registry:catalog:*")).Token
	status(t, r.Do(t, "GET", "/v2/_catalog", nil, bearer(old)), http.StatusOK)
	id, err := registryboot.RotateKeys(r.Config, false)
	if err != nil {
		t.Fatal(err)
	}
	c.add(2 * time.Minute)
	fresh := get(t, r, "root", scopes("registry:catalog:*")).Token
	if header, _ := inspect(t, fresh); header["kid"] != id {
		t.Errorf("%v signs, not %s", header["kid"], id)
	}
	status(t, r.Do(t, "GET", "/v2/_catalog", nil, bearer(old)), http.StatusOK)
	if _, err := registryboot.RotateKeys(r.Config, true); err != nil {
		t.Fatal(err)
	}
	c.add(30 * time.Second) // the folder is looked at now and then
	for _, token := range []string{old, fresh} {
		status(t, r.Do(t, "GET", "/v2/_catalog", nil, bearer(token)), http.StatusUnauthorized)
	}
	status(t, r.Do(t, "GET", "/v2/_catalog", nil, bearer(get(t, r, "root", scopes("registry:catalog:*")).Token)), http.StatusOK)
}
