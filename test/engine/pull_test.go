package engine

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"longshore/test/harness"
)

// store is a registry in the test's memory that the daemon reaches on its loopback interface.
type store struct {
	host    string
	handler http.Handler
	server  *httptest.Server

	mu    sync.Mutex
	check func(w http.ResponseWriter, r *http.Request) bool // false when it has answered
	blobs atomic.Int32                                      // bodies of blobs that were sent
}

func newStore(d *harness.Daemon) *store {
	s := &store{handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s.server = &httptest.Server{Listener: d.Listen(), Config: &http.Server{Handler: s}}
	s.server.Start()
	d.T.Cleanup(s.server.Close)
	s.host = strings.TrimPrefix(s.server.URL, "http://")
	return s
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	check := s.check
	s.mu.Unlock()
	if check != nil && !check(w, r) {
		return
	}
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:") {
		s.blobs.Add(1)
	}
	s.handler.ServeHTTP(w, r)
}

func (s *store) guard(check func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.check = check
}

// put puts an image or an index into the store, from the test's side, without the guard.
func (s *store) put(t *testing.T, ref string, what any) {
	t.Helper()
	n, err := name.ParseReference(s.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	inside := remote.WithTransport(direct{s.handler})
	switch w := what.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(n, w, inside)
	case v1.Image:
		err = remote.Write(n, w, inside)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// get reads an image out of the store.
func (s *store) get(t *testing.T, ref string) v1.Image {
	t.Helper()
	n, err := name.ParseReference(s.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(n, remote.WithTransport(direct{s.handler}))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// direct calls a handler in the place of a network, since the store's port is in another network namespace.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func image(t *testing.T, arch string, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(4096, layers)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config.Cmd = "linux", arch, []string{"/x"}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

func digestOf(t *testing.T, w interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := w.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// TestPullAndPush: what the registry's client of the engine must do, seen with the docker CLI.
func TestPullAndPush(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	s := newStore(d)
	part(t, d, "progress and tags", func(t *testing.T, d *harness.Daemon) { pullProgress(t, d, s) })
	part(t, d, "schema2, OCI, indexes, platforms", func(t *testing.T, d *harness.Daemon) { pullPlatforms(t, d, s) })
	part(t, d, "two pulls share the work", func(t *testing.T, d *harness.Daemon) { pullTwice(t, d, s) })
	part(t, d, "digests are verified", func(t *testing.T, d *harness.Daemon) { pullCorrupt(t, d, s) })
	part(t, d, "Basic", func(t *testing.T, d *harness.Daemon) { pullBasic(t, d, s) })
	part(t, d, "Bearer and identity tokens", func(t *testing.T, d *harness.Daemon) { pullBearer(t, d, s) })
}

func pullProgress(t *testing.T, d *harness.Daemon, s *store) {
	s.put(t, "app:v1", image(t, "amd64", 3))
	s.put(t, "app:v2", image(t, "amd64", 2))
	ref := s.host + "/app"
	tells(t, d, []string{"v1: Pulling from app", ": Pull complete", "Digest: sha256:", "Status: Downloaded newer image for " + ref + ":v1", ref + ":v1"}, "pull", ref+":v1")
	tells(t, d, []string{"Status: Image is up to date for " + ref + ":v1"}, "pull", ref+":v1")
	says(t, d, ref+":v2", "pull", "-q", ref+":v2")
	d.OK("rmi", ref+":v1", ref+":v2")
	tells(t, d, []string{"v1: Pulling from app", "v2: Pulling from app"}, "pull", "-a", ref)
	// The JSON of it, as every client sees it.
	s.put(t, "app:v3", image(t, "amd64", 1))
	out := raw(t, d, "POST", "/images/create?fromImage="+url.QueryEscape(ref)+"&tag=v3", "")
	for _, want := range []string{`"status":"Pulling fs layer"`, `"status":"Downloading","progressDetail":{"current":`, `"status":"Download complete"`, `"status":"Pull complete"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is missing in\n%s", want, out)
		}
	}
	s.put(t, "again:v3", s.get(t, "app:v3"))
	tells(t, d, []string{": Already exists", "Status: Downloaded newer image for " + s.host + "/again:v3"}, "pull", s.host+"/again:v3")
	d.Fails("manifest for "+ref+":none not found: manifest unknown", "pull", ref+":none")
	d.Fails("invalid reference format", "pull", s.host+"/UPPER")
	d.Fails("connection refused", "pull", "127.0.0.1:1/x")
	// Push: what is there already is said to be there.
	d.OK("tag", "busybox", s.host+"/mine:1")
	d.OK("tag", "busybox", s.host+"/mine:2")
	pushed := d.OK("push", s.host+"/mine:1")
	id := d.OK("image", "inspect", "-f", "{{.Id}}", "busybox")
	for _, want := range []string{"The push refers to repository [" + s.host + "/mine]", ": Pushed", "1: digest: " + id + " size: "} {
		if !strings.Contains(pushed, want) {
			t.Errorf("push: %q is missing in\n%s", want, pushed)
		}
	}
	tells(t, d, []string{": Layer already exists", "2: digest: " + id}, "push", s.host+"/mine:2")
	says(t, d, s.host+"/mine:1", "push", "-q", s.host+"/mine:1")
	tells(t, d, []string{"1: digest: " + id, "2: digest: " + id}, "push", "-a", s.host+"/mine")
	d.OK("tag", "busybox", s.host+"/other:1")
	d.Fails("An image does not exist locally with the tag: "+s.host+"/nothing", "push", s.host+"/nothing:1")
	says(t, d, "["+s.host+"/mine@"+id+"]", "image", "inspect", "-f", "["+s.host+"/mine@{{.Id}}]", s.host+"/mine:1")
	var dist struct {
		Descriptor struct{ Digest string }
		Platforms  []struct{ Architecture string }
	}
	if err := json.Unmarshal([]byte(raw(t, d, "GET", "/distribution/"+s.host+"/mine:1/json", "")), &dist); err != nil || dist.Descriptor.Digest != id || len(dist.Platforms) != 1 {
		t.Errorf("distribution: %+v %v", dist, err)
	}
}

func pullPlatforms(t *testing.T, d *harness.Daemon, s *store) {
	one, two := image(t, "amd64", 1), image(t, "arm64", 1)
	index := v1.ImageIndex(mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	for arch, img := range map[string]v1.Image{"amd64": one, "arm64": two} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	s.put(t, "multi:1", index)
	s.put(t, "schema2:1", mutate.MediaType(one, types.DockerManifestSchema2))
	oci := mutate.ConfigMediaType(mutate.MediaType(two, types.OCIManifestSchema1), types.OCIConfigJSON)
	s.put(t, "oci:1", oci)
	tells(t, d, []string{"Digest: " + digestOf(t, index)}, "pull", s.host+"/multi:1")
	says(t, d, "amd64", "image", "inspect", "-f", "{{.Architecture}}", s.host+"/multi:1")
	d.OK("pull", "--platform", "linux/arm64", s.host+"/multi:1")
	says(t, d, "arm64", "image", "inspect", "--platform", "linux/arm64", "-f", "{{.Architecture}}", s.host+"/multi:1")
	d.Fails("no matching manifest for linux/s390x in the manifest list entries", "pull", "--platform", "linux/s390x", s.host+"/multi:1")
	d.OK("pull", s.host+"/schema2:1")
	// What was pulled keeps its digest when it is pushed.
	d.OK("tag", s.host+"/multi:1", s.host+"/copy:1")
	tells(t, d, []string{"1: digest: " + digestOf(t, index)}, "push", s.host+"/copy:1")
	d.OK("tag", s.host+"/schema2:1", s.host+"/copy:2")
	tells(t, d, []string{"2: digest: " + digestOf(t, mutate.MediaType(one, types.DockerManifestSchema2))}, "push", s.host+"/copy:2")
	d.OK("pull", s.host+"/schema2@"+digestOf(t, mutate.MediaType(one, types.DockerManifestSchema2)))
	d.OK("pull", "--platform", "linux/arm64", s.host+"/oci:1")
	says(t, d, digestOf(t, oci), "image", "inspect", "-f", "{{.Id}}", s.host+"/oci:1")
	// run pulls what is missing; create --pull says how.
	d.OK("rmi", s.host+"/schema2:1")
	tells(t, d, []string{"Unable to find image '" + s.host + "/schema2:1' locally"}, "create", "--name", "puller", s.host+"/schema2:1")
	tells(t, d, []string{"Pulling from schema2"}, "create", "--pull", "always", "--name", "puller2", s.host+"/schema2:1")
	d.OK("rm", "puller", "puller2")
}

func pullTwice(t *testing.T, d *harness.Daemon, s *store) {
	s.put(t, "twice:1", image(t, "amd64", 4))
	entered, leave := make(chan struct{}, 16), make(chan struct{})
	proceed := sync.OnceFunc(func() { close(leave) })
	defer proceed()
	s.guard(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			select {
			case entered <- struct{}{}:
			default:
			}
			<-leave
		}
		return true
	})
	defer s.guard(nil)
	before := s.blobs.Load()
	_, one, waitOne := cli(t, d, "pull", s.host+"/twice:1")
	<-entered
	_, two, waitTwo := cli(t, d, "pull", s.host+"/twice:1")
	harness.Eventually(t, 20*time.Second, "the second pull is on its way", func() bool { return strings.Contains(two.String(), "Pulling from twice") })
	proceed()
	if err := errors.Join(waitOne(), waitTwo()); err != nil || !strings.Contains(one.String(), "Digest: sha256:") || !strings.Contains(two.String(), "Digest: sha256:") {
		t.Errorf("%v: %s\n%s", err, one, two)
	}
	if n := s.blobs.Load() - before; n != 5 {
		t.Errorf("%d blobs were sent to two clients that pull 4 layers and a configuration", n)
	}
}

func pullCorrupt(t *testing.T, d *harness.Daemon, s *store) {
	img := image(t, "amd64", 1)
	s.put(t, "corrupt:1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	bad := digestOf(t, layers[0])
	s.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/blobs/"+bad) {
			return true
		}
		size, _ := layers[0].Size()
		_, _ = io.WriteString(w, strings.Repeat("x", int(size)))
		return false
	})
	defer s.guard(nil)
	d.Fails("unexpected commit digest", "pull", s.host+"/corrupt:1")
	d.Fails("No such image", "image", "inspect", s.host+"/corrupt:1")
	s.guard(nil)
	d.OK("pull", s.host+"/corrupt:1")
}

func pullBasic(t *testing.T, d *harness.Daemon, s *store) {
	s.put(t, "private/app:1", image(t, "amd64", 1))
	s.guard(func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		if user == "jane" && password == "secret" {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="store"`)
		refuse(w, "UNAUTHORIZED", "authentication required")
		return false
	})
	defer s.guard(nil)
	ref := s.host + "/private/app:1"
	d.Fails("no basic auth credentials", "pull", ref)
	r := d.DockerIn(strings.NewReader("wrong"), "login", "-u", "jane", "--password-stdin", s.host)
	if r.Code != 1 || !strings.Contains(r.Err, "unauthorized") && !strings.Contains(r.Err, "401") {
		t.Errorf("login with a wrong password: %d %s", r.Code, r.Err)
	}
	r = d.DockerIn(strings.NewReader("secret"), "login", "-u", "jane", "--password-stdin", s.host)
	if r.Code != 0 || !strings.Contains(r.Out, "Login Succeeded") {
		t.Fatalf("login: %d %s%s", r.Code, r.Out, r.Err)
	}
	d.OK("pull", ref)
	d.OK("tag", ref, s.host+"/private/app:2")
	d.OK("push", s.host+"/private/app:2")
	d.OK("logout", s.host)
	d.Fails("no basic auth credentials", "push", s.host+"/private/app:2")
}

func refuse(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

// pullBearer guards the store with a token server that wants a password once and a refresh token from then on.
func pullBearer(t *testing.T, d *harness.Daemon, s *store) {
	s.put(t, "tokens/app:1", image(t, "amd64", 1))
	var scopes []string
	var mu sync.Mutex
	grant := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/token" {
			return true
		}
		mu.Lock()
		defer mu.Unlock()
		_ = r.ParseForm()
		scopes = append(scopes, r.Form["scope"]...)
		user, password, basic := r.BasicAuth()
		switch {
		case r.Method == http.MethodPost && r.Form.Get("grant_type") == "refresh_token" && r.Form.Get("refresh_token") == "identity",
			r.Method == http.MethodPost && r.Form.Get("grant_type") == "password" && r.Form.Get("password") == "secret",
			r.Method == http.MethodGet && basic && user == "jane" && password == "secret":
			_, _ = io.WriteString(w, `{"token":"good","access_token":"good","refresh_token":"identity","expires_in":300}`)
		default:
			refuse(w, "UNAUTHORIZED", "incorrect username or password")
		}
		return false
	}
	s.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if !grant(w, r) {
			return false
		}
		if r.Header.Get("Authorization") == "Bearer good" {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.server.URL+`/token",service="store",scope="repository:tokens/app:pull"`)
		refuse(w, "UNAUTHORIZED", "authentication required")
		return false
	})
	defer s.guard(nil)
	ref := s.host + "/tokens/app:1"
	d.Fails("incorrect username or password", "pull", ref)
	r := d.DockerIn(strings.NewReader("secret"), "login", "-u", "jane", "--password-stdin", s.host)
	if r.Code != 0 {
		t.Fatalf("login: %s%s", r.Out, r.Err)
	}
	d.OK("pull", ref)
	d.OK("tag", ref, s.host+"/tokens/app:2")
	d.OK("push", s.host+"/tokens/app:2")
	mu.Lock()
	if all := strings.Join(scopes, " "); !strings.Contains(all, "repository:tokens/app:pull") || !strings.Contains(all, "push") {
		t.Errorf("scopes that were asked for: %s", all)
	}
	mu.Unlock()
	d.OK("logout", s.host)
	// X-Registry-Auth with an identity token, as the CLI sends what a credential store holds.
	auth := base64.URLEncoding.EncodeToString(encode(t, map[string]string{"identitytoken": "identity", "serveraddress": s.host}))
	d.OK("rmi", ref)
	if out := raw(t, d, "POST", "/images/create?fromImage="+url.QueryEscape(ref), "", "X-Registry-Auth: "+auth); !strings.Contains(out, "Downloaded newer image") && !strings.Contains(out, "up to date") {
		t.Errorf("with an identity token: %s", out)
	}
}
