// Package registrytest runs whole registries for tests, on loopback, from configurations as users write them.
//
//	r := registrytest.Start(t, `{"storage": {"rootDirectory": "DIR"}, "http": {"port": "0"}}`)
//	resp := r.Do(t, "GET", "/v2/", nil)
package registrytest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"longshore/internal/boot/registryboot"
)

// Registry is a registry that runs.
type Registry struct {
	// Dir is the folder of its configuration and content; Config is the configuration's file.
	Dir, Config string
	Addr        string
	// Client speaks to it; its transport may be replaced.
	Client *http.Client
	// Scheme is "http" or "https".
	Scheme string
	stop   func()
}

// Plain is the smallest configuration.
const Plain = `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0"}}`

// Start runs a registry until the test ends. DIR in the configuration is an empty folder of its own.
func Start(t testing.TB, config string, options ...func(*registryboot.Options)) *Registry {
	t.Helper()
	return StartIn(t, t.TempDir(), config, options...)
}

// StartIn is Start in a folder that is there.
func StartIn(t testing.TB, dir, config string, options ...func(*registryboot.Options)) *Registry {
	t.Helper()
	r := &Registry{Dir: dir, Config: filepath.Join(dir, "config.json"), Scheme: "http", Client: &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // a test on loopback
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	Write(t, r.Config, strings.ReplaceAll(config, "DIR", dir))
	ctx, cancel := context.WithCancel(context.Background())
	listening, done := make(chan net.Addr, 1), make(chan error, 1)
	o := registryboot.Options{
		Version: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Listening: func(a net.Addr) { listening <- a },
	}
	for _, f := range options {
		f(&o)
	}
	go func() { done <- registryboot.Serve(ctx, r.Config, o) }()
	select {
	case a := <-listening:
		r.Addr = a.String()
	case err := <-done:
		cancel()
		t.Fatalf("the registry does not start: %v", err)
	}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		r.Client.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the registry ended with: %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// Stop ends the registry before the test does.
func (r *Registry) Stop() { r.stop() }

// URL is an absolute address.
func (r *Registry) URL(path string) string {
	if strings.HasPrefix(path, "http") {
		return path
	}
	return r.Scheme + "://" + r.Addr + path
}

// Answer is an answer with its body read.
type Answer struct {
	*http.Response
	Text string
}

// Do sends one request. Options change it before.
func (r *Registry) Do(t testing.TB, method, path string, body []byte, options ...func(*http.Request)) Answer {
	t.Helper()
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequest(method, r.URL(path), reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range options {
		o(req)
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return Answer{resp, string(text)}
}

// Header sets a header.
func Header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// Basic sets a name and a password.
func Basic(user, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(user, password) }
}

// Write writes a file by rename, as an administrator's tools do.
func Write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Passwd writes a password file for users whose password is their name and "-secret".
func Passwd(t testing.TB, path string, users ...string) {
	t.Helper()
	text := ""
	for _, u := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(u+"-secret"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		text += u + ":" + string(hash) + "\n"
	}
	Write(t, path, text)
}

// Eventually waits for something that takes a moment.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("it did not happen: %s", what)
		}
	}
}

// Authority signs certificates for tests.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	PEM  string
}

// NewAuthority makes an authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a.PEM = block("CERTIFICATE", der)
	return a
}

// Issue makes a certificate for a name, good for 127.0.0.1 as server and client, and its key.
func (a *Authority) Issue(t testing.TB, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", keyDER)
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
