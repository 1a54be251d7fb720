package registryside

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore/test/harness"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	a := &authority{t: t, key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority of this test's own"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	must(t, err)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// sign makes a certificate for a name, and its key, as PEM.
func (a *authority) sign(name string) (cert, key []byte) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &k.PublicKey, a.key)
	must(a.t, err)
	raw, err := x509.MarshalECPrivateKey(k)
	must(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

// secure serves a hub with TLS under a name, outside of the daemon's network: only a proxy leads there. With clients set they
// must show a certificate of the authority.
func secure(t *testing.T, a *authority, name string, clients bool) *hub {
	t.Helper()
	h := emptyHub(t)
	cert, key := a.sign(name)
	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	h.server = httptest.NewUnstartedServer(h)
	h.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients {
		h.server.TLS.ClientAuth, h.server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		h.server.TLS.ClientCAs.AppendCertsFromPEM(a.pem)
	}
	h.server.Config.ErrorLog = quiet()
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	h.host = name
	return h
}

// proxy is an HTTP proxy in the daemon's network that knows where names are.
type proxy struct {
	url    string
	mu     sync.Mutex
	places map[string]string // host and port to the address that serves it
	asked  []string          // method and host
}

func newProxy(d *harness.Daemon) *proxy {
	p := &proxy{places: map[string]string{}}
	srv := &httptest.Server{Listener: d.Listen(), Config: &http.Server{Handler: p}}
	srv.Start()
	d.T.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

func (p *proxy) knows(name string, h *hub) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places[name] = h.server.Listener.Addr().String()
}

func (p *proxy) count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, a := range p.asked {
		if a == what {
			n++
		}
	}
	return n
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	place, ok := p.places[r.Host]
	p.mu.Unlock()
	if !ok {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	if r.Method != http.MethodConnect {
		p.forward(w, r, place)
		return
	}
	there, err := net.Dial("tcp", place)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	_, _ = io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(there, here)
		_ = there.Close()
	})
	_, _ = io.Copy(here, there)
	_ = here.Close()
	both.Wait()
}

func (p *proxy) forward(w http.ResponseWriter, r *http.Request, place string) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Host = place
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

func certificate(d *harness.Daemon, host string, files map[string][]byte) {
	d.T.Helper()
	dir := filepath.Join(certs(d), host)
	must(d.T, os.MkdirAll(dir, 0o755))
	for name, b := range files {
		must(d.T, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
}

// TestProxiesAndCertificates: registries that only a proxy leads to, with an authority of their own, that want to see a
// certificate of the client.
func TestProxiesAndCertificates(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	p := newProxy(d)
	must(t, os.WriteFile(filepath.Join(d.Dir, "daemon.json"), encode(t, map[string]any{
		"proxies":   map[string]string{"http-proxy": p.url, "https-proxy": p.url, "no-proxy": "direct.example"},
		"certs-dir": certs(d), "insecure-registries": []string{"plain.example:5000"},
	}), 0o600))
	d.Env = append(d.Env, "HTTPS_PROXY=http://127.0.0.1:1") // the file goes before the environment
	d.Up()
	a := newAuthority(t)
	h := secure(t, a, "reg.example", true)
	p.knows("reg.example:443", h)
	h.simple("app", "1", 100_000)
	cert, key := a.sign("the engine")

	t.Run("certificates", func(t *testing.T) {
		d.Fails("certificate signed by unknown authority", "pull", "reg.example/app:1")
		certificate(d, "reg.example", map[string][]byte{"ca.crt": a.pem})
		d.Fails("certificate required", "pull", "reg.example/app:1")
		certificate(d, "reg.example", map[string][]byte{"client.cert": cert})
		d.Fails("missing key client.key for client certificate client.cert. CA certificates must use the extension .crt", "pull", "reg.example/app:1")
		certificate(d, "reg.example", map[string][]byte{"client.key": key})
		d.OK("pull", "reg.example/app:1")
		d.OK("tag", "reg.example/app:1", "reg.example/copy:1")
		d.OK("push", "reg.example/copy:1")
		if p.count("CONNECT reg.example:443") == 0 {
			t.Error("the proxy was not asked")
		}
		built(t, buildFrom(d, "reg.example/app:1", nil))
	})
	t.Run("certificates of hosts.toml", func(t *testing.T) {
		mirror := secure(t, a, "mirror.example", true)
		p.knows("mirror.example:443", mirror)
		mirror.simple("app", "2", 1000)
		certificate(d, "other.example", map[string][]byte{"authority.pem": a.pem, "me.pem": cert, "mine.pem": key})
		text := "server = \"https://other.example\"\n[host.\"https://mirror.example\"]\n"
		hostsFile(d, "other.example", text+"skip_verify = true\n")
		d.Fails("other.example", "pull", "other.example/app:2")
		hostsFile(d, "other.example", text+"ca = \"authority.pem\"\nclient = [[\"me.pem\", \"mine.pem\"]]\n")
		d.OK("pull", "other.example/app:2")
		hostsFile(d, "other.example", text+"skip_verify = true\nclient = [[\"me.pem\", \"mine.pem\"]]\n")
		d.OK("rmi", "other.example/app:2")
		d.OK("pull", "other.example/app:2")
		hostsFile(d, "reg.example", "server = \"https://reg.example\"\n") // docker's files beside it hold as before
		d.OK("pull", "reg.example/app:1")
	})
	t.Run("http-proxy", func(t *testing.T) {
		plain := emptyHub(t)
		plain.server = httptest.NewServer(plain)
		t.Cleanup(plain.server.Close)
		p.knows("plain.example:5000", plain)
		plain.simple("app", "1", 1000)
		d.OK("pull", "plain.example:5000/app:1")
		if p.count("GET plain.example:5000") == 0 {
			t.Error("the proxy was not asked")
		}
	})
	t.Run("no-proxy", func(t *testing.T) {
		d.Fails("direct.example", "pull", "direct.example/app:1")
		if n := p.count("CONNECT direct.example:443"); n != 0 {
			t.Errorf("the proxy was asked %d times", n)
		}
	})
	if out := d.OK("info", "--format", "{{.HTTPSProxy}}"); out != p.url {
		t.Errorf("info tells of %s", out)
	}
}

// TestRegistryOnLoopback: a registry on this host needs no trusted certificate, but what it wants of the client is said.
func TestRegistryOnLoopback(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	d.Args = append(d.Args, "--certs-dir", certs(d))
	d.Up()
	a := newAuthority(t)
	h := emptyHub(t)
	cert, key := a.sign("127.0.0.1")
	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.pem)
	h.server = &httptest.Server{Listener: d.Listen(), Config: &http.Server{Handler: h, ErrorLog: quiet()}, TLS: &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}}
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	h.host = h.server.Listener.Addr().String()
	h.simple("app", "1", 1000)
	d.Fails("certificate required", "pull", h.host+"/app:1")
	certificate(d, h.host, map[string][]byte{"client.cert": cert, "client.key": key})
	d.OK("pull", h.host+"/app:1")
	certificate(d, h.host, map[string][]byte{"alone.key": key})
	d.Fails("missing client certificate alone.cert for key alone.key", "pull", h.host+"/app:1")
	if r := d.DockerIn(strings.NewReader("x"), "login", "-u", "jane", "--password-stdin", h.host); r.Code == 0 || !strings.Contains(r.Err, "alone.cert") {
		t.Errorf("login: %s", fmt.Sprint(r))
	}
}
