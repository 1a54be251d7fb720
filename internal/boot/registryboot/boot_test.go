package registryboot_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/boot/registryboot"
	"longshore/internal/boot/registryboot/registrytest"
	"longshore/internal/core/distribution"
	"longshore/internal/service/registry"
)

func TestVerify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.json")
	registrytest.Write(t, path, `{"storage": {"rootDirectory": "/r", "dedupe": false}}`)
	warnings, err := registryboot.Verify(path)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "storage.dedupe") {
		t.Errorf("%v %v", warnings, err)
	}
	for doc, want := range map[string]string{
		`{"storage": {"rootDirectory": "/r"}, "extensions": {"sync": {}}}`:                                                                                                                                                                   "extensions.sync (line 1): not supported yet",
		`{"storage": {"rootDirectory": "/r"}, "http": {"auth": {"htpasswd": {"path": "/h"}}, "accessControl": {"repositories": {"[": {"defaultPolicy": ["read"]}}}}}`:                                                                        `"["`,
		`{"storage": {"rootDirectory": "/r"}, "http": {"auth": {"htpasswd": {"path": "/h"}}, "accessControl": {"repositories": {"**": {"policies": [{"users": ["a"], "actions": ["read"], "conditions": [{"expression": "req.frob"}]}]}}}}}`: "req.frob",
	} {
		registrytest.Write(t, path, doc)
		if _, err := registryboot.Verify(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
	if _, err := registryboot.Verify(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	registrytest.Passwd(t, filepath.Join(dir, "htpasswd"), "alice", "bob")
	const config = `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0", "auth": {"htpasswd": {"path": "DIR/htpasswd"}},
		"accessControl": {"repositories": {"**": {"policies": [{"users": ["NAME"], "actions": ["read", "create"]}]}}}}}`
	with := func(name string) string { return strings.ReplaceAll(config, "NAME", name) }
	r := registrytest.StartIn(t, dir, with("alice"))
	push(t, r, 201, "a", "v1", "alice")
	status(t, r, 403, "GET", "/v2/a/manifests/v1", "bob")
	reads := func(user string) bool {
		return r.Do(t, "GET", "/v2/a/manifests/v1", nil, as(user)).StatusCode == 200
	}
	registrytest.Write(t, r.Config, strings.ReplaceAll(with("bob"), "DIR", dir))
	registrytest.Eventually(t, "bob may read", func() bool { return reads("bob") })
	if reads("alice") {
		t.Error("alice still may")
	}
	registrytest.Write(t, r.Config, `{"storage": {`) // wrong: the old one stays
	registrytest.Passwd(t, filepath.Join(dir, "htpasswd"), "carol")
	registrytest.Eventually(t, "bob is gone", func() bool {
		return r.Do(t, "GET", "/v2/a/manifests/v1", nil, as("bob")).StatusCode == 401
	})
	registrytest.Write(t, r.Config, strings.ReplaceAll(with("carol"), "DIR", dir))
	registrytest.Eventually(t, "carol may read", func() bool { return reads("carol") })
}

func TestRetentionIsReloaded(t *testing.T) {
	const config = `{"storage": {"rootDirectory": "DIR/root", "gcInterval": "100ms", "gcDelay": "1ms", "retention": {"delay": "1ms", "policies": [
		{"repositories": ["**"], "keepTags": [{"patterns": ["KEEP"]}]}]}}, "http": {"port": "0"}}`
	with := func(keep string) string { return strings.ReplaceAll(config, "KEEP", keep) }
	r := registrytest.Start(t, with(".*"))
	push(t, r, 201, "a", "v1", "")
	push(t, r, 201, "a", "w1", "")
	status(t, r, 200, "GET", "/v2/a/manifests/v1", "")
	registrytest.Write(t, r.Config, strings.ReplaceAll(with("^w"), "DIR", r.Dir))
	registrytest.Eventually(t, "v1 goes", func() bool { return r.Do(t, "GET", "/v2/a/manifests/v1", nil).StatusCode == 404 })
	status(t, r, 200, "GET", "/v2/a/manifests/w1", "")
}

func TestFailedLoginsWait(t *testing.T) {
	dir := t.TempDir()
	registrytest.Passwd(t, filepath.Join(dir, "htpasswd"), "alice")
	r := registrytest.StartIn(t, dir, `{"storage": {"rootDirectory": "DIR/root"},
		"http": {"port": "0", "auth": {"htpasswd": {"path": "DIR/htpasswd"}, "failDelay": 1}}}`)
	started := time.Now()
	status(t, r, 401, "GET", "/v2/", "", registrytest.Basic("alice", "wrong"))
	if took := time.Since(started); took < time.Second {
		t.Errorf("answered after %v", took)
	}
	status(t, r, 200, "GET", "/v2/", "alice")
}

func TestRateLimits(t *testing.T) {
	r := registrytest.Start(t, `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0",
		"ratelimit": {"rate": 1000, "methods": [{"method": "GET", "rate": 3}]}}}`)
	limited := false
	for range 50 {
		a := r.Do(t, "GET", "/v2/", nil)
		if a.StatusCode == 429 {
			limited = true
			if a.Header.Get("Retry-After") == "" || !strings.Contains(a.Text, "TOOMANYREQUESTS") {
				t.Errorf("%v %s", a.Header, a.Text)
			}
			break
		}
	}
	if !limited {
		t.Error("no limit")
	}
	status(t, r, 202, "POST", "/v2/a/blobs/uploads/", "")
	status(t, r, 200, "GET", "/livez", "") // probes are not counted
}

func TestOtherOrigins(t *testing.T) {
	r := registrytest.Start(t, `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0", "allowOrigin": "https://ui.example,https://b.example/"}}`)
	ours, theirs := registrytest.Header("Origin", "https://b.example"), registrytest.Header("Origin", "https://evil.example")
	a := status(t, r, 204, "OPTIONS", "/v2/a/tags/list", "", ours, registrytest.Header("Access-Control-Request-Method", "DELETE"))
	if a.Header.Get("Access-Control-Allow-Origin") != "https://b.example" || a.Header.Get("Access-Control-Allow-Credentials") != "true" ||
		!strings.Contains(a.Header.Get("Access-Control-Allow-Methods"), "DELETE") || a.Header.Get("Vary") != "Origin" {
		t.Errorf("%v", a.Header)
	}
	if a := status(t, r, 200, "GET", "/v2/", "", ours); a.Header.Get("Access-Control-Allow-Origin") != "https://b.example" {
		t.Errorf("%v", a.Header)
	}
	for _, method := range []string{"OPTIONS", "GET"} {
		if a := r.Do(t, method, "/v2/", nil, theirs); a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%v", a.Header)
		}
	}
}

// startTLS runs a registry with a certificate of an authority, which signs clients' certificates too.
func startTLS(t *testing.T, authority *registrytest.Authority, more string) *registrytest.Registry {
	t.Helper()
	dir := t.TempDir()
	writePair(t, dir, authority, "first")
	registrytest.Write(t, filepath.Join(dir, "ca.pem"), authority.PEM)
	registrytest.Passwd(t, filepath.Join(dir, "htpasswd"), "alice")
	r := registrytest.StartIn(t, dir, `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0",
		"tls": {"cert": "DIR/cert.pem", "key": "DIR/key.pem", "cacert": "DIR/ca.pem"}`+more+`}}`)
	r.Scheme = "https"
	return r
}

func writePair(t *testing.T, dir string, authority *registrytest.Authority, name string) {
	t.Helper()
	cert, key := authority.Issue(t, name)
	registrytest.Write(t, filepath.Join(dir, "cert.pem"), cert)
	registrytest.Write(t, filepath.Join(dir, "key.pem"), key)
}

// client is a client that trusts the authority and shows a certificate for a name, unless that is empty.
func client(t *testing.T, authority *registrytest.Authority, name string) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(authority.PEM))
	cfg := &tls.Config{RootCAs: roots}
	if name != "" {
		cert, key := authority.Issue(t, name)
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
}

func TestCertificatesAreReloaded(t *testing.T) {
	authority := registrytest.NewAuthority(t)
	r := startTLS(t, authority, "")
	r.Client = client(t, authority, "alice")
	served := func() string {
		return status(t, r, 200, "GET", "/v2/", "").TLS.PeerCertificates[0].Subject.CommonName
	}
	if served() != "first" {
		t.Error("another certificate")
	}
	writePair(t, r.Dir, authority, "second")
	registrytest.Eventually(t, "the second certificate", func() bool { return served() == "second" })
	registrytest.Write(t, filepath.Join(r.Dir, "cert.pem"), "rubbish")
	if served() != "second" {
		t.Error("a broken file is taken")
	}
}

func TestClientCertificates(t *testing.T) {
	authority, stranger := registrytest.NewAuthority(t), registrytest.NewAuthority(t)
	r := startTLS(t, authority, `, "accessControl": {"repositories": {
		"**": {"policies": [{"users": ["alice"], "actions": ["read", "create"]}]}, "open": {"anonymousPolicy": ["read"]}}}`)
	r.Client = client(t, authority, "alice")
	push(t, r, 201, "team/app", "v1", "")
	if a := status(t, r, 200, "GET", "/v2/team/app/manifests/v1", ""); a.ProtoMajor != 2 {
		t.Errorf("%s", a.Proto)
	}
	r.Client = client(t, authority, "bob")
	status(t, r, 403, "GET", "/v2/team/app/manifests/v1", "")
	r.Client = client(t, authority, "")
	status(t, r, 401, "GET", "/v2/team/app/manifests/v1", "")
	status(t, r, 404, "GET", "/v2/open/manifests/v1", "")
	cert, key := stranger.Issue(t, "alice")
	pair, _ := tls.X509KeyPair([]byte(cert), []byte(key))
	r.Client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	if resp, err := r.Client.Get(r.URL("/v2/team/app/manifests/v1")); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode == 200 {
			t.Error("a stranger's certificate")
		}
	}
}

func TestGarbageCollectionByCommand(t *testing.T) {
	ctx := context.Background()
	r := registrytest.Start(t, registrytest.Plain)
	push(t, r, 201, "a", "v1", "")
	if a := r.Do(t, "POST", "/v2/a/blobs/uploads/?digest=sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", []byte("foo")); a.StatusCode != 201 {
		t.Fatal(a.Status)
	}
	var now time.Duration
	none := registry.GCOptions{DryRun: true, Delay: &now}
	if _, err := registryboot.GC(ctx, r.Config, none); err != nil { // beside the running registry
		t.Error(err)
	}
	if _, err := registryboot.GC(ctx, r.Config, registry.GCOptions{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("beside the running registry: %v", err)
	}
	r.Stop()
	report, err := registryboot.GC(ctx, r.Config, registry.GCOptions{Delay: &now})
	if err != nil || report.Blobs != 1 {
		t.Errorf("%+v %v", report, err)
	}
	again := registrytest.StartIn(t, r.Dir, registrytest.Plain)
	status(t, again, 200, "GET", "/v2/a/manifests/v1", "")
	status(t, again, 404, "HEAD", "/v2/a/blobs/sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", "")
}

func TestTwoRegistriesInOneFolder(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain)
	if err := registryboot.Serve(context.Background(), r.Config, registryboot.Options{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("%v", err)
	}
}

func TestSubPaths(t *testing.T) {
	r := registrytest.Start(t, `{"storage": {"rootDirectory": "DIR/root", "subPaths": {"/a": {"rootDirectory": "DIR/a"}}}, "http": {"port": "0"}}`)
	put := func(repo string) {
		if a := r.Do(t, "POST", "/v2/"+repo+"/blobs/uploads/?digest=sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", []byte("foo")); a.StatusCode != 201 {
			t.Fatal(a.Status, a.Text)
		}
	}
	find := func(dir string) bool {
		_, err := os.Stat(filepath.Join(r.Dir, dir, "_longshore/blobs/sha256/2c/2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"))
		return err == nil
	}
	put("a/x")
	if !find("a") || find("root") {
		t.Error("the wrong store")
	}
	put("ab")
	if !find("root") {
		t.Error("the wrong store")
	}
}

func TestEmbedded(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, err := registryboot.New(ctx, registryboot.Embedded(t.TempDir(), "5000"), registryboot.Options{Listener: l, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	// Everybody may come in, and is sent for a token first; other requests need none.
	for path, want := range map[string]int{"/v2/": 401, "/v2/_catalog": 200, "/v2/app/tags/list": 404, "/token?service=longshore": 200, "/api/v1.1/users/jane/": 401} {
		resp, err := http.Get("http://" + r.Addr().String() + path)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v %v", path, resp, err)
		} else {
			_ = resp.Body.Close()
		}
	}
	if list, err := r.Service().Repositories(ctx, distribution.All, nil); err != nil || len(list.Names) != 0 {
		t.Errorf("%v %v", list, err)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	again, err := registryboot.New(context.Background(), registryboot.Embedded(t.TempDir(), "0"), registryboot.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil { // never run
		t.Error(err)
	}
}
