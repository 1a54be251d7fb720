// Package ocispec holds the registry against the OCI distribution specification, from outside, over HTTP. Each test is
// named after the section whose requirements it checks.
package ocispec

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/boot/registryboot/registrytest"
)

type repo struct {
	*registrytest.Registry
	t    testing.TB
	name string
	// config is what the registry was started with.
	config string
}

func open(t testing.TB, r *registrytest.Registry, name string) *repo {
	return &repo{Registry: r, t: t, name: name}
}

func start(t testing.TB) *repo {
	t.Helper()
	config := configured(t)
	r := open(t, registrytest.Start(t, config), "team/app")
	r.config = config
	return r
}

func (r *repo) do(method, path string, body []byte, options ...func(*http.Request)) registrytest.Answer {
	r.t.Helper()
	return r.Do(r.t, method, "/v2/"+r.name+path, body, options...)
}

// want checks a status, and that errors speak the specification's language.
func (r *repo) want(a registrytest.Answer, status int, codes ...string) registrytest.Answer {
	r.t.Helper()
	if a.StatusCode != status {
		r.t.Fatalf("%s %s: %d %s, want %d", a.Request.Method, a.Request.URL, a.StatusCode, a.Text, status)
	}
	if status < 400 || a.Request.Method == "HEAD" {
		return a
	}
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(a.Text), &body); err != nil || len(body.Errors) == 0 {
		r.t.Fatalf("%s %s: no error body: %s", a.Request.Method, a.Request.URL, a.Text)
	}
	if !regexp.MustCompile(`^[A-Z_]+$`).MatchString(body.Errors[0].Code) {
		r.t.Errorf("bad code %q", body.Errors[0].Code)
	}
	if len(codes) > 0 && body.Errors[0].Code != codes[0] {
		r.t.Errorf("%s %s: code %s, want %s", a.Request.Method, a.Request.URL, body.Errors[0].Code, codes[0])
	}
	return a
}

func (r *repo) header(a registrytest.Answer, name, want string) {
	r.t.Helper()
	if got := a.Header.Get(name); got != want {
		r.t.Errorf("%s %s: %s is %q, want %q", a.Request.Method, a.Request.URL, name, got, want)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func octets(r *http.Request) { r.Header.Set("Content-Type", "application/octet-stream") }

func contentRange(first, last int) func(*http.Request) {
	return registrytest.Header("Content-Range", fmt.Sprintf("%d-%d", first, last))
}

// blob pushes content in one request.
func (r *repo) blob(content []byte) ocispec.Descriptor {
	r.t.Helper()
	d := digest.FromBytes(content)
	r.want(r.do("POST", "/blobs/uploads/?digest="+d.String(), content, octets), 201)
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(content))}
}

// manifest makes an image manifest whose blobs are pushed.
func (r *repo) manifest(edit func(*ocispec.Manifest)) (body []byte, d digest.Digest) {
	r.t.Helper()
	config, layer := r.blob(append([]byte("{}"), random(4)...)), r.blob(random(100))
	config.MediaType, layer.MediaType = ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}}
	m.SchemaVersion = 2
	if edit != nil {
		edit(&m)
	}
	body, err := json.Marshal(m)
	if err != nil {
		r.t.Fatal(err)
	}
	return body, digest.FromBytes(body)
}

func mediaType(s string) func(*http.Request) { return registrytest.Header("Content-Type", s) }

// push makes and pushes a manifest.
func (r *repo) push(tag string, edit func(*ocispec.Manifest)) (body []byte, d digest.Digest) {
	r.t.Helper()
	body, d = r.manifest(edit)
	r.want(r.do("PUT", "/manifests/"+tag, body, mediaType(ocispec.MediaTypeImageManifest)), 201)
	return body, d
}

// begin opens an upload and returns its path below the repository.
func (r *repo) begin() string {
	r.t.Helper()
	return r.location(r.want(r.do("POST", "/blobs/uploads/", nil), 202))
}

func (r *repo) location(a registrytest.Answer) string {
	r.t.Helper()
	l := a.Header.Get("Location")
	path, ok := strings.CutPrefix(l, "/v2/"+r.name)
	if !ok {
		r.t.Fatalf("location %q", l)
	}
	return path
}

// descriptor of a manifest that may not be there.
func descriptor(body []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body))}
}
