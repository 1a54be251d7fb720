package accounts

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"

	"longshore/test/harness"
)

const host = "localhost:5000"

// serve runs engine and registry in one process with a configured registry.
func serve(t *testing.T) *harness.Daemon {
	t.Helper()
	dir := t.TempDir()
	var lines strings.Builder
	for _, user := range []string{"alice", "bob"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(user+"-secret"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s:%s\n", user, hash)
	}
	config := filepath.Join(dir, "config.json")
	d := harness.New(t, "--registry-config", config)
	const all = `["read", "create", "update", "delete"]`
	for path, text := range map[string]string{
		filepath.Join(dir, "htpasswd"): lines.String(),
		config: fmt.Sprintf(`{"storage": {"rootDirectory": %q},
			"http": {"address": "127.0.0.1", "port": "5000", "auth": {"htpasswd": {"path": %q}, "accounts": {}, "token": {}},
			"accessControl": {"repositories": {
				"team/**": {"policies": [{"users": ["alice"], "actions": %s}, {"users": ["bob"], "actions": ["read"]}]},
				"open/**": {"anonymousPolicy": ["read"], "defaultPolicy": %s}}}},
			"log": {"level": "debug", "output": %q}}`, filepath.Join(d.Dir, "registry"), filepath.Join(dir, "htpasswd"), all, all, filepath.Join(d.Dir, "registry.log")),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.Command = "serve"
	d.Up()
	d.Busybox()
	add := d.InNet("sh", "-c", "printf 'carol-secret\\n' | "+harness.Bin("longshore")+" registry user add "+config+" carol_1 --email carol@example.com")
	if add.Code != 0 || !strings.Contains(add.Out, "user carol_1 has the ID 1") {
		t.Fatalf("%s%s", add.Out, add.Err)
	}
	d.T.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(d.Dir, "registry.log"))
			t.Logf("the registry's log:\n%s", log)
		}
	})
	return d
}

func dockerLogin(d *harness.Daemon, user, password string) harness.Result {
	d.T.Helper()
	return d.DockerIn(strings.NewReader(password), "login", "-u", user, "--password-stdin", host)
}

// stored is what docker keeps for the registry.
func stored(t *testing.T, d *harness.Daemon) (auth, identity string) {
	t.Helper()
	var c struct {
		Auths map[string]struct{ Auth, IdentityToken string }
	}
	data, err := os.ReadFile(filepath.Join(d.Dir, "cli", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(c.Auths[host].Auth)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw), c.Auths[host].IdentityToken
}

// TestDocker goes through the token server with docker and skopeo: log-in, identity tokens, push, pull, mount, and what
// is refused.
func TestDocker(t *testing.T) {
	d := serve(t)
	wrong := dockerLogin(d, "alice", "wrong")
	if wrong.Code == 0 || !strings.Contains(wrong.Err, "unauthorized: incorrect username or password") {
		t.Errorf("%d %s%s", wrong.Code, wrong.Out, wrong.Err)
	}
	if r := dockerLogin(d, "alice", "alice-secret"); r.Code != 0 || !strings.Contains(r.Out, "Login Succeeded") {
		t.Fatalf("%s%s", r.Out, r.Err)
	}
	raw, identity := stored(t, d)
	if identity == "" || strings.Contains(raw, "alice-secret") {
		t.Errorf("docker keeps %q and the identity token %q", raw, identity)
	}
	const name = host + "/team/app:v1"
	d.OK("tag", "busybox", name)
	d.OK("push", name)
	d.OK("rmi", name)
	d.OK("pull", name)
	if out := d.OK("run", "--rm", name, "echo", "run"); out != "run" {
		t.Errorf("%q", out)
	}
	// The layers of another repository are mounted by a token for both.
	d.OK("tag", name, host+"/team/copy:v1")
	if out := d.OK("push", host+"/team/copy:v1"); !strings.Contains(out, "Mounted from") && !strings.Contains(out, "Layer already exists") {
		t.Errorf("%s", out)
	}
	d.OK("tag", name, host+"/open/app:v1")
	d.OK("push", host+"/open/app:v1")

	t.Run("bob may read", func(t *testing.T) {
		if r := dockerLogin(d, "bob", "bob-secret"); r.Code != 0 {
			t.Fatal(r.Err)
		}
		d.OK("pull", name)
		d.Fails("denied", "push", name)
	})
	t.Run("an account", func(t *testing.T) {
		if r := dockerLogin(d, "carol_1", "carol-secret"); r.Code != 0 {
			t.Fatal(r.Err)
		}
		d.OK("push", host+"/open/app:v1")
		d.Fails("denied", "pull", host+"/team/app:v1")
	})
	t.Run("nobody", func(t *testing.T) {
		d.OK("logout", host)
		d.OK("pull", host+"/open/app:v1")
		for _, args := range [][]string{{"pull", name}, {"push", name}, {"push", host + "/open/app:v1"}} {
			if r := d.Docker(args...); r.Code == 0 || !strings.Contains(r.Err, "unauthorized") && !strings.Contains(r.Err, "denied") {
				t.Errorf("%v: %d %s", args, r.Code, r.Err)
			}
		}
	})
	t.Run("tokens as they are", func(t *testing.T) { registryTokens(t, d) })
	t.Run("skopeo", func(t *testing.T) { skopeo(t, d) })
	t.Run("a revoked identity token", func(t *testing.T) {
		if r := dockerLogin(d, "alice", "alice-secret"); r.Code != 0 {
			t.Fatal(r.Err)
		}
		d.OK("pull", name)
		config := d.Args[1]
		if r := d.InNet(harness.Bin("longshore"), "registry", "user", "revoke", config, "alice"); r.Code != 0 {
			t.Fatal(r.Err)
		}
		d.Fails("unauthorized", "pull", name)
		if r := dockerLogin(d, "alice", "alice-secret"); r.Code != 0 {
			t.Fatal(r.Err)
		}
	})
}

// registryTokens hands tokens to the engine as they are ("registrytoken"): it pulls with the right one, and with no
// other.
func registryTokens(t *testing.T, d *harness.Daemon) {
	curl := d.InNet("curl", "-s", "-u", "alice:alice-secret", "http://"+host+"/token?service=longshore&scope=repository:team/app:pull")
	var right tokenAnswer
	if err := json.Unmarshal([]byte(curl.Out), &right); err != nil {
		t.Fatalf("%v: %s", err, curl.Out)
	}
	keys, err := filepath.Glob(filepath.Join(d.Dir, "registry", "_longshore", "token-keys", "*.pem"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v %v", keys, err)
	}
	data, err := os.ReadFile(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseECPrivateKeyFromPEM(data)
	if err != nil {
		t.Fatal(err)
	}
	header, claims := inspect(t, right.Token)
	mint := func(change func(*tokenClaims)) string {
		t.Helper()
		mine := claims
		mine.Access = []entry{{"repository", "team/app", []string{"pull"}}}
		change(&mine)
		tok := jwt.NewWithClaims(jwt.SigningMethodES256, mine)
		tok.Header["kid"] = header["kid"]
		text, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, x := range map[string]struct {
		token string
		good  bool
	}{
		"right":    {right.Token, true},
		"minted":   {mint(func(*tokenClaims) {}), true},
		"wrong":    {right.Token + "x", false},
		"expired":  {mint(func(c *tokenClaims) { c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(-time.Second)) }), false},
		"early":    {mint(func(c *tokenClaims) { c.NotBefore = jwt.NewNumericDate(time.Now().Add(time.Hour)) }), false},
		"another":  {mint(func(c *tokenClaims) { c.Access[0].Name = "team/other" }), false},
		"push":     {mint(func(c *tokenClaims) { c.Access[0].Actions = []string{"push"} }), false},
		"audience": {mint(func(c *tokenClaims) { c.Audience = []string{"another"} }), false},
		"stranger": {mint(func(c *tokenClaims) { c.Subject = "carol_1" }), false},
		"nobody":   {mint(func(c *tokenClaims) { c.Subject = "" }), false},
	} {
		auth, err := json.Marshal(map[string]string{"registrytoken": x.token, "serveraddress": host})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest("POST", "http://d/images/create?tag=v1&fromImage="+host+"/team/app", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(auth))
		resp, err := d.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if good := err == nil && resp.StatusCode == 200 && !strings.Contains(string(text), `"error"`); good != x.good {
			t.Errorf("%s: %s %s", name, resp.Status, text)
		}
	}
}

func skopeo(t *testing.T, d *harness.Daemon) {
	run := func(args ...string) harness.Result { return d.InNet("skopeo", args...) }
	if r := run("inspect", "--tls-verify=false", "--creds", "alice:alice-secret", "docker://"+host+"/team/app:v1"); r.Code != 0 || !strings.Contains(r.Out, `"Layers"`) {
		t.Errorf("%s%s", r.Out, r.Err)
	}
	if r := run("copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds", "bob:bob-secret", "--dest-creds", "alice:alice-secret",
		"docker://"+host+"/team/app:v1", "docker://"+host+"/team/skopeo:v1"); r.Code != 0 {
		t.Errorf("%s%s", r.Out, r.Err)
	}
	if r := run("copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds", "bob:bob-secret", "--dest-creds", "bob:bob-secret",
		"docker://"+host+"/team/app:v1", "docker://"+host+"/team/skopeo:v2"); r.Code == 0 {
		t.Error("bob has pushed")
	}
	if r := run("inspect", "--tls-verify=false", "--no-creds", "docker://"+host+"/open/app:v1"); r.Code != 0 {
		t.Errorf("%s%s", r.Out, r.Err)
	}
	if r := run("inspect", "--tls-verify=false", "--creds", "alice:wrong", "docker://"+host+"/team/app:v1"); r.Code == 0 {
		t.Error("a wrong password is taken")
	}
	if r := run("delete", "--tls-verify=false", "--creds", "alice:alice-secret", "docker://"+host+"/team/skopeo:v1"); r.Code != 0 {
		t.Errorf("%s%s", r.Out, r.Err)
	}
}
