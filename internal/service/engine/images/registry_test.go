package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/moby/moby/api/types/registry"

	"longshore/internal/driver/registryclient"
	"longshore/internal/service/engine/images/transfer"
)

func testClient(t testing.TB) *registryclient.Client {
	t.Helper()
	c, err := registryclient.New(registryclient.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// peer is a registry of another make, in process, with what a test wants in front of it.
type peer struct {
	*httptest.Server
	host  string
	mu    sync.Mutex
	calls []string
	// wrap sees each request first; true means that it has answered.
	wrap func(w http.ResponseWriter, r *http.Request) bool
}

func newPeer(t testing.TB, wrap func(w http.ResponseWriter, r *http.Request) bool) *peer {
	t.Helper()
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true))
	p := &peer{wrap: wrap}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.calls = append(p.calls, r.Method+" "+r.URL.Path)
		wrap := p.wrap
		p.mu.Unlock()
		if wrap == nil || !wrap(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.Close)
	p.host = strings.TrimPrefix(p.URL, "http://")
	return p
}

// intercept sets wrap while the peer runs.
func (p *peer) intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrap = f
}

func (p *peer) count(prefix string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, c := range p.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

// pushed puts a two-layer image named app:v1 on a registry and gives its reference.
func pushed(t testing.TB, r *rig, host string, auth *registry.AuthConfig) string {
	t.Helper()
	r.load(t, savedArchive(t, []string{host + "/team/app:v1"}, nil, busyboxLayer(t), tarOf(t, file{name: "etc/x", body: []byte("x")})))
	var out []string
	if err := r.Push(t.Context(), PushOptions{Image: host + "/team/app", Tag: "v1", Auth: auth}, collect(t, &out)); err != nil {
		t.Fatalf("push: %v\n%s", err, strings.Join(out, "\n"))
	}
	text := strings.Join(out, "\n")
	for _, want := range []string{
		`{"status":"The push refers to repository [` + host + `/team/app]"}`, `"status":"Preparing"`, `"status":"Pushed"`,
		`v1: digest: sha256:`, `"aux":{"Tag":"v1","Digest":"sha256:`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("push did not say %s:\n%s", want, text)
		}
	}
	return host + "/team/app:v1"
}

func TestPushPull(t *testing.T) {
	a, b := newRig(t, Config{}), newRig(t, Config{Limits: transfer.Limits{Downloads: 1}})
	p := newPeer(t, nil)
	ref := pushed(t, a, p.host, nil)
	var out []string
	if err := b.Pull(t.Context(), PullOptions{Image: p.host + "/team/app", Tag: "v1"}, collect(t, &out)); err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(out, "\n"))
	}
	text := strings.Join(out, "\n")
	for _, want := range []string{
		`{"status":"Pulling from team/app","id":"v1"}`, `"status":"Pulling fs layer","progressDetail":{}`, `"status":"Downloading","progressDetail":{"current":`,
		`"status":"Verifying Checksum"`, `"status":"Download complete"`, `"status":"Extracting"`, `"status":"Pull complete"`,
		`"status":"Digest: sha256:`, `"Status: Downloaded newer image for ` + ref + `"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("pull did not say %s:\n%s", want, text)
		}
	}
	x, err := a.Resolve(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Resolve(t.Context(), ref, nil)
	if err != nil || x.ID != y.ID {
		t.Fatalf("pushed %s, pulled %s: %v", x.ID, y.ID, err)
	}
	out = nil
	if err := b.Pull(t.Context(), PullOptions{Image: ref}, collect(t, &out)); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(out, "\n"); !strings.Contains(text, "Status: Image is up to date for "+ref) || strings.Contains(text, "Pull") && strings.Contains(text, "fs layer") {
		t.Errorf("second pull said\n%s", text)
	}
	if got := b.events.actions(); !slices.Contains(got, "pull") {
		t.Errorf("events %v", got)
	}
	digestRef := p.host + "/team/app@" + x.ID.String()
	if err := b.Pull(t.Context(), PullOptions{Image: digestRef}, collect(t, &out)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Resolve(t.Context(), digestRef, nil); err != nil {
		t.Error(err)
	}
	ins, err := b.Inspect(t.Context(), ref, InspectOptions{})
	if err != nil || ins.Identity == nil || ins.Identity.Pull[0].Repository != p.host+"/team/app" || !slices.Equal(ins.RepoDigests, []string{digestRef}) {
		t.Errorf("inspect %+v %v", ins, err)
	}
}

func TestPushSkipsAndMounts(t *testing.T) {
	r := newRig(t, Config{})
	p := newPeer(t, nil)
	ref := pushed(t, r, p.host, nil)
	uploads := p.count("PUT /v2/team/app/blobs")
	var out []string
	if err := r.Push(t.Context(), PushOptions{Image: ref}, collect(t, &out)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(out, "\n"), "Layer already exists") || p.count("PUT /v2/team/app/blobs") != uploads {
		t.Errorf("second push sent layers again: %v", out)
	}
	if err := r.Tag(t.Context(), ref, p.host+"/other/app", "v2"); err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 16)
	p.intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodHead && strings.HasPrefix(req.URL.Path, "/v2/other/app/blobs/") {
			w.WriteHeader(http.StatusNotFound) // this peer keeps blobs for all repositories together
			return true
		}
		if m := req.URL.Query().Get("mount"); m != "" {
			asked <- req.URL.Query().Get("from")
			w.WriteHeader(http.StatusCreated)
			return true
		}
		return false
	})
	out = nil
	if err := r.Push(t.Context(), PushOptions{Image: p.host + "/other/app", Tag: "v2"}, collect(t, &out)); err != nil {
		t.Fatal(err)
	}
	if from := <-asked; from != "team/app" || !strings.Contains(strings.Join(out, "\n"), "Mounted from team/app") {
		t.Errorf("mount from %q: %v", from, out)
	}
}

// tokens is a token service and the check of its tokens, as a wrap of a peer.
type tokens struct {
	user, password string
	identity       string // accepted as refresh token
	asked          atomic.Int32
	scopes         sync.Map
	self           func() string
}

func (k *tokens) wrap(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path == "/token" {
		k.token(w, r)
		return true
	}
	if r.Header.Get("Authorization") == "Bearer good" {
		return false
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test, registry",scope="x"`, k.self()))
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	return true
}

func (k *tokens) token(w http.ResponseWriter, r *http.Request) {
	k.asked.Add(1)
	_ = r.ParseForm()
	for _, s := range r.Form["scope"] {
		k.scopes.Store(s, true)
	}
	u, p, _ := r.BasicAuth()
	ok := u == k.user && p == k.password
	if r.Method == http.MethodPost {
		ok = r.Form.Get("grant_type") == "refresh_token" && r.Form.Get("refresh_token") == k.identity
	}
	if !ok || r.Form.Get("service") != "test, registry" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`)
		return
	}
	answer := map[string]any{"token": "good", "expires_in": 300}
	if r.Form.Get("offline_token") == "true" {
		answer["refresh_token"] = k.identity
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func TestBearer(t *testing.T) {
	r := newRig(t, Config{})
	k := &tokens{user: "ann", password: "secret", identity: "idtoken"}
	p := newPeer(t, k.wrap)
	k.self = func() string { return p.URL }
	good := &registry.AuthConfig{Username: "ann", Password: "secret"}
	ref := pushed(t, r, p.host, good)
	if n := k.asked.Load(); n > 2 {
		t.Errorf("asked for %d tokens in one push", n)
	}
	if _, ok := k.scopes.Load("repository:team/app:pull,push"); !ok {
		t.Error("scope of push not asked for")
	}
	ctx := t.Context()
	for _, auth := range []*registry.AuthConfig{good, {IdentityToken: "idtoken"}, {RegistryToken: "good"}} {
		if err := r.Pull(ctx, PullOptions{Image: ref, Auth: auth}, func(any) error { return nil }); err != nil {
			t.Errorf("pull with %+v: %v", auth, err)
		}
	}
	for _, auth := range []*registry.AuthConfig{nil, {Username: "ann", Password: "wrong"}, {IdentityToken: "old"}} {
		err := r.Pull(ctx, PullOptions{Image: ref, Auth: auth}, func(any) error { return nil })
		if err == nil || !strings.HasPrefix(err.Error(), "pull access denied for "+p.host+"/team/app, repository does not exist or may require 'docker login': ") {
			t.Errorf("pull with %+v: %v", auth, err)
		}
	}
	status, token, err := r.CheckAuth(ctx, registry.AuthConfig{Username: "ann", Password: "secret", ServerAddress: p.host})
	if err != nil || status != "Login Succeeded" || token != "idtoken" {
		t.Errorf("login: %q %q %v", status, token, err)
	}
	_, _, err = r.CheckAuth(ctx, registry.AuthConfig{Username: "ann", Password: "bad", ServerAddress: p.host})
	if err == nil || !strings.Contains(err.Error(), "unauthorized: incorrect username or password") {
		t.Errorf("bad login: %v", err)
	}
}

func TestBasic(t *testing.T) {
	r := newRig(t, Config{})
	p := newPeer(t, func(w http.ResponseWriter, req *http.Request) bool {
		if u, pw, _ := req.BasicAuth(); u == "ann" && pw == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	ref := pushed(t, r, p.host, &registry.AuthConfig{Username: "ann", Password: "secret"})
	err := r.Pull(t.Context(), PullOptions{Image: ref}, func(any) error { return nil })
	if err == nil || errors.Is(err, errdefs.ErrUnauthenticated) || !strings.Contains(err.Error(), "no basic auth credentials") {
		t.Errorf("pull without credentials: %v", err)
	}
	if _, _, err := r.CheckAuth(t.Context(), registry.AuthConfig{Username: "ann", Password: "secret", ServerAddress: p.URL}); err != nil {
		t.Errorf("login: %v", err)
	}
	d, err := r.Distribution(t.Context(), ref, &registry.AuthConfig{Username: "ann", Password: "secret"})
	if err != nil || len(d.Platforms) != 1 || d.Platforms[0].OS != "linux" || d.Descriptor.Size == 0 {
		t.Errorf("distribution: %+v %v", d, err)
	}
}

func TestPullErrors(t *testing.T) {
	r := newRig(t, Config{})
	p := newPeer(t, nil)
	pushed(t, r, p.host, nil)
	discard := func(any) error { return nil }
	cases := map[string]string{
		p.host + "/team/app:nope": "manifest for " + p.host + "/team/app:nope not found: manifest unknown: ",
		p.host + "/none/app:v1":   "pull access denied for " + p.host + "/none/app, repository does not exist or may require 'docker login': name unknown: ",
		"127.0.0.1:1/x:y":         `Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused`,
		"Upper":                   "invalid reference format: repository name (library/Upper) must be lowercase",
		"scratch":                 "'scratch' is a reserved name",
	}
	for ref, want := range cases {
		err := r.Pull(t.Context(), PullOptions{Image: ref}, discard)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("pull %s: %v\nwant %s", ref, err, want)
		}
	}
	err := r.Push(t.Context(), PushOptions{Image: p.host + "/none", Tag: "x"}, discard)
	if err == nil || err.Error() != "An image does not exist locally with the tag: "+p.host+"/none" {
		t.Error(err)
	}
}

func TestPullResumesAndVerifies(t *testing.T) {
	a := newRig(t, Config{})
	p := newPeer(t, nil)
	ref := pushed(t, a, p.host, nil)
	var broken, ranges atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, _ := url.Parse(p.URL + r.URL.RequestURI())
		req, _ := http.NewRequestWithContext(r.Context(), r.Method, u.String(), nil)
		req.Header = r.Header.Clone()
		rng := req.Header.Get("Range")
		req.Header.Del("Range")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		if rng != "" {
			ranges.Add(1)
		}
		w.WriteHeader(resp.StatusCode)
		if strings.Contains(r.URL.Path, "/blobs/") && resp.ContentLength > 100_000 && broken.Add(1) == 1 {
			_, _ = io.CopyN(w, resp.Body, 50_000)
			panic(http.ErrAbortHandler)
		}
		_, _ = io.Copy(w, resp.Body)
	}))
	defer proxy.Close()
	host := strings.TrimPrefix(proxy.URL, "http://")
	b := newRig(t, Config{})
	if err := b.Pull(t.Context(), PullOptions{Image: host + "/team/app:v1"}, func(any) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if ranges.Load() == 0 {
		t.Error("download was not resumed")
	}
	p.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = w.Write([]byte("something else"))
			return true
		}
		return false
	})
	c := newRig(t, Config{})
	if err := c.Pull(t.Context(), PullOptions{Image: ref}, func(any) error { return nil }); err == nil {
		t.Error("wrong bytes were taken")
	}
	if len(c.cat.All()) != 0 {
		t.Error("a failed pull left an image")
	}
}

func TestPullsShareWork(t *testing.T) {
	a, b := newRig(t, Config{}), newRig(t, Config{})
	p := newPeer(t, nil)
	ref := pushed(t, a, p.host, nil)
	gate := make(chan struct{})
	started := make(chan struct{}, 64)
	p.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			started <- struct{}{}
			<-gate
		}
		return false
	})
	before := p.count("GET /v2/team/app/blobs/")
	var wait sync.WaitGroup
	for range 5 {
		wait.Go(func() {
			var out []string
			if err := b.Pull(t.Context(), PullOptions{Image: ref}, collect(t, &out)); err != nil {
				t.Error(err)
			}
			if n := len(out); n == 0 || !strings.Contains(out[n-1], "Downloaded newer image") {
				t.Errorf("a sharing pull said %v", out)
			}
		})
	}
	<-started
	close(gate)
	wait.Wait()
	if n := p.count("GET /v2/team/app/blobs/") - before; n != 3 {
		t.Errorf("%d blob downloads, want 3", n)
	}
}

func TestPullAllTags(t *testing.T) {
	a, b := newRig(t, Config{}), newRig(t, Config{})
	p := newPeer(t, nil)
	ref := pushed(t, a, p.host, nil)
	if err := a.Tag(t.Context(), ref, p.host+"/team/app", "v2"); err != nil {
		t.Fatal(err)
	}
	if err := a.Push(t.Context(), PushOptions{Image: p.host + "/team/app"}, func(any) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := b.Pull(t.Context(), PullOptions{Image: p.host + "/team/app"}, func(any) error { return nil }); err != nil {
		t.Fatal(err)
	}
	img, err := b.Resolve(t.Context(), p.host+"/team/app:v2", nil)
	if err != nil || len(img.Names) != 2 {
		t.Errorf("%v %v", img.Names, err)
	}
}

// TestMirror pulls a name of Docker Hub through a mirror, without showing it the hub's credentials.
func TestMirror(t *testing.T) {
	a := newRig(t, Config{})
	leaked := make(chan string, 64)
	p := newPeer(t, nil)
	ref := pushed(t, a, p.host, nil)
	p.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if h := r.Header.Get("Authorization"); h != "" {
			leaked <- h
		}
		r.URL.Path = strings.Replace(r.URL.Path, "/v2/library/app/", "/v2/team/app/", 1)
		return false
	})
	client, err := registryclient.New(registryclient.Config{Mirrors: []string{p.URL}})
	if err != nil {
		t.Fatal(err)
	}
	b := newRig(t, Config{})
	b.remote.Client = client
	err = b.Pull(t.Context(), PullOptions{Image: "app", Tag: "v1", Auth: &registry.AuthConfig{Username: "u", Password: "p"}}, func(any) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	x, _ := a.Resolve(t.Context(), ref, nil)
	if y, err := b.Resolve(t.Context(), "app:v1", nil); err != nil || x.ID != y.ID {
		t.Errorf("%v %v", y.ID, err)
	}
	if len(leaked) > 0 {
		t.Errorf("the mirror got %s", <-leaked)
	}
}
