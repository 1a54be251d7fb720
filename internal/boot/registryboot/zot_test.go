package registryboot_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"longshore/internal/boot/registryboot/registrytest"
)

// secured is a registry with people, policies and all that goes with them.
const secured = `{
	"storage": {"rootDirectory": "DIR/root"},
	"http": {"port": "0", "realm": "zot",
		"auth": {"htpasswd": {"path": "DIR/htpasswd"}, "apikey": true},
		"accessControl": {
			"groups": {"readers": {"users": ["bob"]}},
			"repositories": {
				"**": {"policies": [{"users": ["alice"], "actions": ["read", "create", "update", "delete"]}]},
				"team/**": {"policies": [
					{"users": ["alice"], "actions": ["read", "create", "update", "delete", "detectManifestCollision"]},
					{"groups": ["readers"], "actions": ["read"]}, {"users": ["carol"], "actions": ["read", "create"]}],
					"defaultPolicy": []},
				"public/*": {"anonymousPolicy": ["read"], "defaultPolicy": ["read"],
					"policies": [{"users": ["alice"], "actions": ["read", "create"]}]}},
			"adminPolicy": {"users": ["root"], "actions": ["read", "delete"]},
			"metrics": {"users": ["prom"]}}},
	"log": {"level": "error", "audit": "DIR/audit.log"},
	"extensions": {"metrics": {"enable": true, "prometheus": {"path": "/metrics"}}}}`

func startSecured(t *testing.T) *registrytest.Registry {
	t.Helper()
	dir := t.TempDir()
	registrytest.Passwd(t, filepath.Join(dir, "htpasswd"), "alice", "bob", "carol", "root", "prom")
	return registrytest.StartIn(t, dir, secured)
}

func as(user string) func(*http.Request) {
	if user == "" {
		return func(*http.Request) {}
	}
	return registrytest.Basic(user, user+"-secret")
}

func status(t *testing.T, r *registrytest.Registry, want int, method, path, user string, options ...func(*http.Request)) registrytest.Answer {
	t.Helper()
	a := r.Do(t, method, path, nil, append([]func(*http.Request){as(user)}, options...)...)
	if a.StatusCode != want {
		t.Errorf("%q %s %s: %d %s, want %d", user, method, path, a.StatusCode, a.Text, want)
	}
	return a
}

// push stores an image index without entries, which needs no blobs.
func push(t *testing.T, r *registrytest.Registry, want int, repo, ref, user string) digest.Digest {
	t.Helper()
	body := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	a := r.Do(t, "PUT", "/v2/"+repo+"/manifests/"+ref, body, as(user),
		registrytest.Header("Content-Type", "application/vnd.oci.image.index.v1+json"))
	if a.StatusCode != want {
		t.Errorf("%q pushes %s:%s: %d %s, want %d", user, repo, ref, a.StatusCode, a.Text, want)
	}
	return digest.FromBytes(body)
}

func TestWhoMayDoWhat(t *testing.T) {
	r := startSecured(t)
	d := push(t, r, 201, "team/app", "v1", "alice")
	push(t, r, 201, "public/app", "v1", "alice")
	push(t, r, 201, "secret", "v1", "alice")
	push(t, r, 403, "team/app", "v2", "bob")
	push(t, r, 401, "team/app", "v2", "")
	push(t, r, 201, "team/app", "v2", "carol")
	push(t, r, 403, "team/app", "v2", "carol") // there already: that is an update
	push(t, r, 201, "team/app", "latest", "carol")
	push(t, r, 201, "team/app", "latest", "carol") // which is meant to move
	push(t, r, 403, "other", "v1", "root")

	status(t, r, 200, "GET", "/v2/team/app/manifests/v1", "bob")
	status(t, r, 403, "GET", "/v2/secret/manifests/v1", "bob")
	status(t, r, 200, "GET", "/v2/secret/manifests/v1", "root")
	a := status(t, r, 401, "GET", "/v2/team/app/manifests/v1", "")
	if got := a.Header.Get("Www-Authenticate"); got != `Basic realm="zot"` {
		t.Errorf("challenge %q", got)
	}
	status(t, r, 200, "GET", "/v2/public/app/manifests/v1", "")
	status(t, r, 403, "DELETE", "/v2/public/app/manifests/v1", "bob")
	status(t, r, 403, "GET", "/v2/team/app/tags/list", "prom")
	status(t, r, 200, "GET", "/v2/", "") // some repository is open
	status(t, r, 401, "GET", "/v2/", "alice", registrytest.Basic("alice", "wrong"))

	for user, want := range map[string]string{"": "public/app", "bob": "public/app team/app", "alice": "public/app secret team/app", "root": "public/app secret team/app"} {
		var list struct{ Repositories []string }
		if err := json.Unmarshal([]byte(status(t, r, 200, "GET", "/v2/_catalog", user).Text), &list); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(list.Repositories, " "); got != want {
			t.Errorf("catalogue of %q: %s", user, got)
		}
	}
	status(t, r, 409, "DELETE", "/v2/team/app/manifests/"+d.String(), "alice") // several tags
	status(t, r, 202, "DELETE", "/v2/team/app/manifests/v2", "alice")
	status(t, r, 202, "DELETE", "/v2/team/app/manifests/latest", "root")
	status(t, r, 202, "DELETE", "/v2/team/app/manifests/"+d.String(), "alice")
}

func TestMountNeedsToReadTheSource(t *testing.T) {
	r := startSecured(t)
	content := []byte("secret bytes")
	d := digest.FromBytes(content)
	if a := r.Do(t, "POST", "/v2/secret/blobs/uploads/?digest="+d.String(), content, as("alice")); a.StatusCode != 201 {
		t.Fatal(a.Status, a.Text)
	}
	for _, query := range []string{"mount=" + d.String() + "&from=secret", "mount=" + d.String()} {
		a := status(t, r, 202, "POST", "/v2/team/app/blobs/uploads/?"+query, "carol")
		if a.Header.Get("Docker-Upload-UUID") == "" {
			t.Error("no upload")
		}
	}
	status(t, r, 404, "HEAD", "/v2/team/app/blobs/"+d.String(), "carol")
	status(t, r, 201, "POST", "/v2/team/app/blobs/uploads/?from=secret&mount="+d.String(), "alice")
}

func TestAPIKeyEndpoints(t *testing.T) {
	r := startSecured(t)
	push(t, r, 201, "team/app", "v1", "alice")
	push(t, r, 201, "secret", "v1", "alice")
	make := func(body string, want int) (k struct{ UUID, APIKey, CreatorUA, Label string }) {
		t.Helper()
		a := r.Do(t, "POST", "/zot/auth/apikey", []byte(body), as("alice"), registrytest.Header("User-Agent", "ua"))
		if a.StatusCode != want {
			t.Fatalf("%s: %d %s", body, a.StatusCode, a.Text)
		}
		if want == 201 {
			if err := json.Unmarshal([]byte(a.Text), &k); err != nil {
				t.Fatal(err)
			}
		}
		return k
	}
	k := make(`{"label": "git", "scopes": ["team/**:read"]}`, 201)
	if !strings.HasPrefix(k.APIKey, "zak_") || len(k.APIKey) != 36 || k.CreatorUA != "ua" || k.Label != "git" {
		t.Errorf("%+v", k)
	}
	key := registrytest.Basic("alice", k.APIKey)
	status(t, r, 200, "GET", "/v2/team/app/manifests/v1", "", key)
	status(t, r, 403, "GET", "/v2/secret/manifests/v1", "", key)
	status(t, r, 403, "DELETE", "/v2/team/app/manifests/v1", "", key)
	status(t, r, 403, "GET", "/zot/auth/apikey", "", key)
	status(t, r, 401, "GET", "/v2/team/app/manifests/v1", "", registrytest.Basic("bob", k.APIKey))
	list := status(t, r, 200, "GET", "/zot/auth/apikey", "alice")
	if !strings.Contains(list.Text, k.UUID) || strings.Contains(list.Text, k.APIKey) {
		t.Errorf("list: %s", list.Text)
	}
	status(t, r, 401, "GET", "/zot/auth/apikey", "")
	status(t, r, 404, "DELETE", "/zot/auth/apikey?id="+k.UUID, "bob")
	status(t, r, 400, "DELETE", "/zot/auth/apikey", "alice")
	status(t, r, 200, "DELETE", "/zot/auth/apikey?id="+k.UUID, "alice")
	status(t, r, 401, "GET", "/v2/team/app/manifests/v1", "", key)

	soon := make(`{"label": "x", "expirationDate": "2999-08-28T17:10:05+03:00"}`, 201)
	a := status(t, r, 200, "GET", "/v2/secret/manifests/v1", "", registrytest.Basic("alice", soon.APIKey))
	if a.Header.Get("Warning") != "" {
		t.Error("a warning centuries before")
	}
	for _, bad := range []string{`{`, `{"expirationDate": "tomorrow"}`, `{"expirationDate": "2001-01-01T00:00:00Z"}`, `{"scopes": ["["]}`, `{"label": "` + strings.Repeat("x", 300) + `"}`} {
		make(bad, 400)
	}
	make(`{"label": "`+strings.Repeat("x", 70000)+`"}`, 413)
	r.Stop() // keys are kept
	again := registrytest.StartIn(t, r.Dir, secured)
	status(t, again, 200, "GET", "/v2/secret/manifests/v1", "", registrytest.Basic("alice", soon.APIKey))
}

func TestCookieSessions(t *testing.T) {
	r := startSecured(t)
	push(t, r, 201, "team/app", "v1", "alice")
	ui := registrytest.Header("X-ZOT-API-CLIENT", "zot-ui")
	status(t, r, 403, "POST", "/zot/auth/login", "alice") // any page can send that
	status(t, r, 401, "POST", "/zot/auth/login", "", ui)
	status(t, r, 403, "POST", "/zot/auth/login", "alice", ui, registrytest.Header("Origin", "https://evil.example"))
	a := status(t, r, 200, "POST", "/zot/auth/login", "alice", ui)
	var session *http.Cookie
	for _, c := range a.Cookies() {
		if c.Name == "session" {
			session = c
		}
	}
	if session == nil || !session.HttpOnly || session.SameSite != http.SameSiteLaxMode {
		t.Fatalf("cookies %v", a.Cookies())
	}
	cookie := func(q *http.Request) { q.AddCookie(session) }
	path := "/v2/team/app/manifests/v1"
	status(t, r, 200, "GET", path, "", ui, cookie)
	status(t, r, 401, "GET", path, "", cookie) // the cookie alone is what a foreign page can send
	status(t, r, 401, "DELETE", path, "", ui, cookie, registrytest.Header("Sec-Fetch-Site", "cross-site"))
	if a := status(t, r, 401, "GET", path, "", ui); a.Header.Get("Www-Authenticate") != "" {
		t.Error("the web interface is told to open the browser's window")
	}
	if a := status(t, r, 200, "GET", "/v2/", "bob", ui); len(a.Cookies()) == 0 {
		t.Error("zot's interface logs in with GET /v2/")
	}
	status(t, r, 201, "POST", "/zot/auth/apikey", "", ui, cookie, func(q *http.Request) {
		q.Body, q.ContentLength = http.NoBody, 0
		q.Method = "POST"
		*q = *mustRequest(t, q, `{"label":"from the web"}`)
	})
	status(t, r, 200, "POST", "/zot/auth/logout", "", ui, cookie)
	status(t, r, 401, "GET", path, "", ui, cookie)
	status(t, r, 400, "GET", "/zot/auth/login?provider=github", "")
}

func mustRequest(t *testing.T, old *http.Request, body string) *http.Request {
	t.Helper()
	q, err := http.NewRequest(old.Method, old.URL.String(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header = old.Header
	return q
}

func TestMetrics(t *testing.T) {
	r := startSecured(t)
	push(t, r, 201, "team/app", "v1", "alice")
	status(t, r, 200, "GET", "/v2/team/app/manifests/v1", "alice")
	status(t, r, 404, "GET", "/v2/made/up/manifests/v1", "alice")
	status(t, r, 401, "GET", "/metrics", "")
	status(t, r, 403, "GET", "/metrics", "alice")
	text := status(t, r, 200, "GET", "/metrics", "prom").Text
	for _, line := range []string{
		`zot_http_requests_total{code="201",method="PUT"} 1`, `zot_repo_downloads_total{repo="team/app"} 1`,
		`zot_repo_uploads_total{repo="team/app"} 1`, `zot_repo_storage_bytes{repo="team/app"} 88`, `zot_info{`,
		`zot_http_method_latency_seconds_count{method="GET"}`, `zot_http_repo_latency_seconds_count{repo="team/app"}`,
		`longshore_registry_received_bytes_total 88`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s", line)
		}
	}
	if strings.Contains(text, "made/up") {
		t.Error("names that do not exist fill the memory")
	}
}

func TestDiscoveryAndManagement(t *testing.T) {
	r := startSecured(t)
	var list struct {
		Extensions []struct {
			Name      string
			Endpoints []string
		}
	}
	if err := json.Unmarshal([]byte(status(t, r, 200, "GET", "/v2/_oci/ext/discover", "alice").Text), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Extensions) != 1 || !slices.Contains(list.Extensions[0].Endpoints, "/v2/_zot/ext/mgmt") {
		t.Errorf("%+v", list)
	}
	a := status(t, r, 200, "GET", "/v2/_zot/ext/mgmt", "")
	for _, part := range []string{`"distSpecVersion":"1.1.1"`, `"htpasswd":{}`, `"apikey":true`, `"releaseTag":"test"`} {
		if !strings.Contains(a.Text, part) {
			t.Errorf("%s is not in %s", part, a.Text)
		}
	}
	if strings.Contains(a.Text, r.Dir) {
		t.Errorf("it tells paths: %s", a.Text)
	}
	for _, probe := range []string{"/livez", "/readyz", "/startupz"} {
		status(t, r, 200, "GET", probe, "")
	}
	status(t, r, 200, "GET", "/swagger/v2/index.html", "alice")
	if a := status(t, r, 200, "GET", "/swagger/v2/doc.json", "alice"); !json.Valid([]byte(a.Text)) {
		t.Error("no document")
	}
	status(t, r, 404, "GET", "/swagger/v2/../../etc/passwd", "alice")
}

func TestProfilesAreForAdministrators(t *testing.T) {
	r := startSecured(t)
	status(t, r, 401, "GET", "/v2/_zot/pprof/", "")
	status(t, r, 403, "GET", "/v2/_zot/pprof/heap", "alice")
	if a := status(t, r, 200, "GET", "/v2/_zot/pprof/", "root"); !strings.Contains(a.Text, "goroutine") {
		t.Error("no index")
	}
	for _, profile := range []string{"heap", "goroutine?debug=1", "cmdline"} {
		status(t, r, 200, "GET", "/v2/_zot/pprof/"+profile, "root")
	}
	status(t, r, 404, "GET", "/v2/_zot/pprof/nothing", "root")
	open := registrytest.Start(t, registrytest.Plain)
	status(t, open, 403, "GET", "/v2/_zot/pprof/heap", "")
}

func TestAuditLog(t *testing.T) {
	r := startSecured(t)
	push(t, r, 201, "team/app", "v1", "alice")
	push(t, r, 403, "team/app", "v1", "bob")
	status(t, r, 200, "GET", "/v2/team/app/manifests/v1", "alice")
	var lines []map[string]any
	registrytest.Eventually(t, "two lines", func() bool {
		f, err := os.Open(filepath.Join(r.Dir, "audit.log"))
		if err != nil {
			return false
		}
		defer f.Close() //nolint:errcheck // read only
		lines = nil
		for s := bufio.NewScanner(f); s.Scan(); {
			var line map[string]any
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
		}
		return len(lines) == 2
	})
	first, second := lines[0], lines[1]
	if first["subject"] != "alice" || first["action"] != "PUT" || first["object"] != "/v2/team/app/manifests/v1" || first["status"] != 201.0 || first["message"] != "HTTP API Audit" || first["level"] != "info" {
		t.Errorf("%v", first)
	}
	if second["subject"] != "bob" || second["status"] != 403.0 {
		t.Errorf("%v", second)
	}
}
