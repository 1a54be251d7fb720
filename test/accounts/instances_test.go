package accounts

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"longshore/internal/boot/registryboot"
	"longshore/internal/boot/registryboot/registrytest"
	"longshore/internal/boot/registryconfig"
	"longshore/internal/driver/sqlmeta/postgrestest"
	"longshore/internal/service/auth/oauth"
)

// TestInstances: two registries with one index and one folder of keys are one registry to their clients.
func TestInstances(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	config := replace(`{"storage": {"rootDirectory": "SHARED/root", "remoteCache": true, "cacheDriver": {"name": "postgres", "url": "DSN"}},
		"http": {"port": "0", "auth": {"accounts": {}, "token": {"keysDirectory": "SHARED/keys"}}}}`, "SHARED", t.TempDir(), "DSN", server.Create(t, "accounts"))
	a, b := registrytest.Start(t, config), registrytest.Start(t, config)
	add(t, a, "janedoe")
	jane := registrytest.Basic("janedoe", password)
	token := into[tokenAnswer](t, a.Do(t, "GET", "/token?offline_token=1&scope=repository:app:pull,push", nil, jane), 200)
	status(t, b.Do(t, "GET", "/v2/", nil, bearer(token.Token)), 200)
	status(t, push(t, b, "app", "v1", bearer(token.Token)), 201)
	status(t, b.Do(t, "POST", "/token", []byte("grant_type=refresh_token&service=longshore&client_id=x&refresh_token="+token.RefreshToken), form), 200)
	// A code of the one is taken by the other, once by either.
	app := register(t, a, oauth.NewClient{})
	code := newBrowser(t, a).code(app)
	fields := []string{"grant_type", "authorization_code", "code", code, "redirect_uri", callback}
	tokens := into[tokenAnswer](t, app.exchange(t, b, fields...), 200)
	status(t, a.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(tokens.AccessToken)), 200)
	status(t, app.exchange(t, a, fields...), 400)
	status(t, b.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(tokens.AccessToken)), 401)
	administer(t, b, func(p *registryboot.People) error { return p.Accounts.SetPassword(t.Context(), "janedoe", "another") })
	status(t, a.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, jane), 401)
}

// TestLogs: the APIs of people are counted and written down as the registry's own.
func TestLogs(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, replace(people, `"http"`, `"log": {"audit": "DIR/audit.log"}, "extensions": {"metrics": {"enable": true}}, "http"`),
		func(o *registryboot.Options) { o.Logger = nil })
	add(t, r, "janedoe")
	jane := registrytest.Basic("janedoe", password)
	status(t, r.Do(t, "POST", "/api/v1.1/users/janedoe/emails/", []byte(`{"email":"b@example.com"}`), jane), 201)
	status(t, r.Do(t, "POST", "/token", []byte("grant_type=password&service=longshore&client_id=x&username=janedoe&password="+password), form), 200)
	status(t, r.Do(t, "POST", "/token", []byte("grant_type=password&service=longshore&client_id=x&username=janedoe&password=wrong"), form), 401)
	metrics := r.Do(t, "GET", "/metrics", nil, jane)
	status(t, metrics, 200)
	if !strings.Contains(metrics.Text, `code="201",method="POST"`) {
		t.Errorf("not counted:\n%s", metrics.Text)
	}
	r.Stop()
	data, err := os.ReadFile(filepath.Join(r.Dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(data)) {
		for _, want := range []string{
			`"subject":"janedoe","action":"POST","object":"/api/v1.1/users/janedoe/emails/","status":201`,
			`"subject":"janedoe","action":"POST","object":"/token","status":200`, `"subject":"","action":"POST","object":"/token","status":401`,
		} {
			if strings.Contains(line, want) {
				got = append(got, want)
			}
		}
	}
	if len(slices.Compact(got)) != 3 || strings.Contains(string(data), password) {
		t.Errorf("audit log: %s", data)
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"accounts": {"registraton": true}`: "http.auth.accounts.registraton",
		`"token": {"expires": "5m"}`:        "http.auth.token.expires",
		`"token": {"expiry": "1s"}`:         "http.auth.token.expiry",
		`"token": {"rotateAfter": "1s"}`:    "http.auth.token.rotateAfter",
		`"token": {"realm": "nowhere"}`:     "http.auth.token.realm",
		`"token": {}, "bearer": {"realm": "https://a/", "service": "b", "cert": "c"}`:                "there is one token server",
		`"token": {"enable": false}, "bearer": {"realm": "https://a/", "service": "b", "cert": "c"}`: "",
		`"accounts": {"enable": false}`: "",
	} {
		_, _, err := registryconfig.Parse("c.json", []byte(`{"storage": {"rootDirectory": "/r"}, "http": {"auth": {`+text+`}}}`))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
	_, warnings, err := registryconfig.Parse("c.json", []byte(`{"storage": {"rootDirectory": "/r"}, "http": {"address": "0.0.0.0", "auth": {"accounts": {}, "token": {}}}}`))
	if err != nil || len(warnings) != 2 || !strings.Contains(warnings[0].String(), "in the clear") {
		t.Errorf("%v %v", warnings, err)
	}
	// Switched off they are not there.
	r := registrytest.Start(t, `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0", "auth": {"accounts": {"enable": false}, "token": {"enable": false}}}}`)
	for _, path := range []string{"/token", "/api/v1.1/users/x/", "/api/v1.1/o/token/"} {
		status(t, r.Do(t, http.MethodGet, path, nil), 404)
	}
	status(t, r.Do(t, http.MethodGet, "/v2/", nil), 200)
}
