package registryside

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

// hostsFile writes a registry's hosts.toml below the daemon's --certs-dir.
func hostsFile(d *harness.Daemon, host, text string) {
	d.T.Helper()
	dir := filepath.Join(certs(d), host)
	must(d.T, os.MkdirAll(dir, 0o755))
	must(d.T, os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o600))
}

func certs(d *harness.Daemon) string { return filepath.Join(d.Dir, "certs") }

// copyTo gives another hub what this one has.
func (h *hub) copyTo(o *hub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, v := range h.blobs {
		o.blobs[k] = v
	}
	for k, v := range h.manifests {
		o.manifests[k] = v
	}
}

// post sends a request to the daemon's API and gives the answer's text.
func post(d *harness.Daemon, path string, body io.Reader, headers map[string]string) string {
	d.T.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://d"+path, body)
	must(d.T, err)
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := d.Client().Do(req)
	must(d.T, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(d.T, err)
	return string(b)
}

func header(t testing.TB, v any) string { return base64.URLEncoding.EncodeToString(encode(t, v)) }

// basic lets only jane in.
func basic(w http.ResponseWriter, r *http.Request) bool {
	if user, password, _ := r.BasicAuth(); user == "jane" && password == "secret" {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
	return true
}

// TestMirrorsOfAnyHost: hosts.toml, as containerd has it, for a registry that is not Docker Hub.
func TestMirrorsOfAnyHost(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	d.Args = append(d.Args, "--certs-dir", certs(d))
	d.Up()
	up, one, two := newHub(d), newHub(d), newHub(d)
	auth := map[string]string{"X-Registry-Auth": header(t, map[string]string{"username": "jane", "password": "secret", "serveraddress": up.host})}
	pull := func(repo string) string {
		for _, h := range []*hub{up, one, two} {
			h.forget()
		}
		return post(d, "/images/create?fromImage="+url.QueryEscape(up.host+"/"+repo+":1"), nil, auth)
	}
	pulled := func(t *testing.T, out string) {
		t.Helper()
		if !strings.Contains(out, "Status: Downloaded newer image") {
			t.Fatalf("%s\n%s", out, d.Log())
		}
	}
	shown := func(t *testing.T, h *hub) {
		t.Helper()
		for _, a := range h.requests("", "") {
			if v := a.header.Get("Authorization"); v != "" {
				t.Errorf("a mirror was shown %q", v)
			}
		}
	}

	t.Run("a mirror that has it", func(t *testing.T) {
		up.simple("a", "1", 1000)
		up.copyTo(one)
		hostsFile(d, up.host, fmt.Sprintf("server = %q\n[host.%q]\n", up.server.URL, one.server.URL))
		pulled(t, pull("a"))
		if n := len(up.all()); n != 0 {
			t.Errorf("the registry itself was asked %d times", n)
		}
		for _, a := range one.all() {
			if a.path != "/v2/" && a.query.Get("ns") != up.host {
				t.Errorf("%s without ns: %v", a.path, a.query)
			}
			if a.header.Get("Authorization") != "" {
				t.Errorf("the mirror was shown credentials")
			}
		}
	})
	t.Run("one is down, one has nothing", func(t *testing.T) {
		up.simple("b", "1", 1000)
		hostsFile(d, up.host, fmt.Sprintf("server = %q\n[host.%q]\n[host.%q]\n", up.server.URL, "http://127.0.0.1:1", two.server.URL))
		up.behave(basic)
		defer up.behave(nil)
		pulled(t, pull("b"))
		if len(two.requests(http.MethodGet, "/v2/b/manifests/1")) != 1 {
			t.Error("the second mirror was not asked")
		}
		shown(t, two)
	})
	t.Run("one breaks in the middle", func(t *testing.T) {
		l := up.simple("c", "1", 2*mib)[0]
		up.copyTo(one)
		hostsFile(d, up.host, fmt.Sprintf("server = %q\n[host.%q]\n", up.server.URL, one.server.URL))
		one.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlob(r, l) {
				return false
			}
			one.answer(cut(w, mib), r)
			return true
		})
		defer one.behave(nil)
		pulled(t, pull("c"))
		if got := ranges(up, l); len(got) != 1 || got[0] == "" {
			t.Errorf("the registry itself was asked for %q", got)
		}
	})
	t.Run("one has something else", func(t *testing.T) {
		l := up.simple("d", "1", 2*mib)[0]
		up.copyTo(one)
		one.mu.Lock()
		one.blobs[l.Digest] = randomBytes(int(l.Size))
		one.mu.Unlock()
		hostsFile(d, up.host, fmt.Sprintf("server = %q\n[host.%q]\n", up.server.URL, one.server.URL))
		pulled(t, pull("d"))
		if n, m := len(ranges(one, l)), len(ranges(up, l)); n != 1 || m != 1 {
			t.Errorf("the mirror was asked %d times, the registry %d", n, m)
		}
	})
	t.Run("path, header and redirect", func(t *testing.T) {
		l := up.simple("e", "1", 1000)[0]
		up.copyTo(one)
		up.copyTo(two)
		hostsFile(d, strings.Replace(up.host, ":", "_", 1)+"_", fmt.Sprintf("server = %q\n[host.%q]\noverride_path = true\n[host.%q.header]\nx-key = \"k\"\n",
			up.server.URL, one.server.URL+"/own/api", one.server.URL+"/own/api"))
		defer os.RemoveAll(filepath.Join(certs(d), strings.Replace(up.host, ":", "_", 1)+"_"))
		one.behave(func(w http.ResponseWriter, r *http.Request) bool {
			rest, ok := strings.CutPrefix(r.URL.Path, "/own/api/")
			if !ok || r.Header.Get("X-Key") != "k" {
				http.NotFound(w, r)
				return true
			}
			if r.URL.Path = "/v2/" + rest; isBlob(r, l) {
				http.Redirect(w, r, two.server.URL+r.URL.Path, http.StatusTemporaryRedirect)
				return true
			}
			one.answer(w, r)
			return true
		})
		defer one.behave(nil)
		pulled(t, pull("e"))
		if n := len(up.all()); n != 0 {
			t.Errorf("the registry itself was asked %d times", n)
		}
		if got := two.requests(http.MethodGet, "/blobs/"); len(got) != 1 || got[0].header.Get("X-Key") != "" {
			t.Errorf("where the mirror points to: %+v", got)
		}
	})
	t.Run("only for what has a digest", func(t *testing.T) {
		up.simple("f", "1", 1000)
		up.copyTo(one)
		hostsFile(d, up.host, fmt.Sprintf("server = %q\n[host.%q]\ncapabilities = [\"pull\"]\n", up.server.URL, one.server.URL))
		pulled(t, pull("f"))
		if n := len(one.requests(http.MethodGet, "/manifests/1")); n != 0 {
			t.Error("the mirror was asked what the tag means")
		}
		if n, m := len(one.requests(http.MethodGet, "/blobs/")), len(up.requests(http.MethodGet, "/blobs/")); n != 2 || m != 0 {
			t.Errorf("%d blobs from the mirror, %d from the registry", n, m)
		}
		// Pushes go where they may go.
		hostsFile(d, up.host, fmt.Sprintf("server = %q\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n", up.server.URL, one.server.URL))
		one.forget()
		d.OK("tag", up.host+"/f:1", up.host+"/pushed:1")
		d.OK("push", up.host+"/pushed:1")
		if n := len(one.all()); n != 0 {
			t.Errorf("the mirror was asked %d times for a push", n)
		}
	})
	t.Run("builds", func(t *testing.T) {
		up.simple("g", "1", 1000)
		up.copyTo(one)
		hostsFile(d, up.host, fmt.Sprintf("server = %q\n[host.%q]\n", up.server.URL, one.server.URL))
		up.forget()
		one.forget()
		built(t, buildFrom(d, up.host+"/g:1", nil))
		if n, m := len(one.requests(http.MethodGet, "/manifests/")), len(up.all()); n == 0 || m != 0 {
			t.Errorf("the mirror was asked %d times, the registry %d", n, m)
		}
		// X-Registry-Config: credentials of several registries, each for its own.
		up.simple("private", "1", 1000)
		up.behave(basic)
		defer up.behave(nil)
		config := map[string]string{"X-Registry-Config": header(t, map[string]any{
			up.host: map[string]string{"username": "jane", "password": "secret"}, one.host: map[string]string{"username": "joe", "password": "other"},
		})}
		if out := buildFrom(d, up.host+"/private:1", nil); strings.Contains(out, "Successfully built") {
			t.Error("built without credentials")
		}
		built(t, buildFrom(d, up.host+"/private:1", config))
		for _, a := range one.all() {
			if v := a.header.Get("Authorization"); strings.Contains(v, base64.StdEncoding.EncodeToString([]byte("jane:secret"))) {
				t.Errorf("the mirror was shown %q", v)
			}
		}
	})
	t.Run("a file that is wrong", func(t *testing.T) {
		hostsFile(d, up.host, "server = [")
		if out := pull("a"); !strings.Contains(out, "hosts.toml") {
			t.Errorf("says %s", out)
		}
	})
}

func (h *hub) all() []asked {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen
}

func buildFrom(d *harness.Daemon, image string, headers map[string]string) string {
	d.T.Helper()
	file := []byte("FROM " + image + "\nLABEL a=" + image + "\n")
	return post(d, "/build?nocache=1&pull=1", bytes.NewReader(tarNamed(d.T, "Dockerfile", file)), headers)
}

func built(t *testing.T, out string) {
	t.Helper()
	if !strings.Contains(out, "Successfully built") {
		t.Error(out)
	}
}

// TestMirrorsOfDockerHub: registry-mirrors are for names without a host, and a broken one is passed over.
func TestMirrorsOfDockerHub(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	d.Up()
	h := newHub(d)
	d.Stop()
	d.Args = append(d.Args, "--registry-mirror", "http://127.0.0.1:1", "--registry-mirror", h.server.URL)
	d.Up()
	h.simple("library/app", "1", 1000)
	out := post(d, "/images/create?fromImage=app:1", nil, map[string]string{"X-Registry-Auth": header(t, map[string]string{"username": "jane", "password": "secret"})})
	if !strings.Contains(out, "Status: Downloaded newer image for app:1") {
		t.Fatal(out)
	}
	for _, a := range h.all() {
		if a.header.Get("Authorization") != "" {
			t.Error("the mirror was shown the hub's credentials")
		}
	}
}
