package ocispec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/boot/registryboot/registrytest"
)

func TestDeterminingSupport(t *testing.T) {
	r := start(t)
	a := r.want(r.Do(t, "GET", "/v2/", nil), 200)
	r.header(a, "Docker-Distribution-Api-Version", "registry/2.0")
	r.want(r.Do(t, "GET", "/v2", nil), 200)
	r.want(r.Do(t, "HEAD", "/v2/", nil), 200)
}

func TestPullingManifests(t *testing.T) {
	r := start(t)
	body, d := r.push("v1", nil)
	for _, ref := range []string{"v1", d.String()} {
		a := r.want(r.do("GET", "/manifests/"+ref, nil, registrytest.Header("Accept", ocispec.MediaTypeImageManifest)), 200)
		if a.Text != string(body) {
			t.Errorf("another body: %s", a.Text)
		}
		r.header(a, "Content-Type", ocispec.MediaTypeImageManifest)
		r.header(a, "Docker-Content-Digest", d.String())
		r.header(a, "Content-Length", fmt.Sprint(len(body)))
		r.header(a, "Etag", `"`+d.String()+`"`)
	}
	r.want(r.do("GET", "/manifests/v1", nil, registrytest.Header("If-None-Match", `"x", W/"`+d.String()+`"`)), 304)
	r.want(r.do("GET", "/manifests/none", nil), 404, "MANIFEST_UNKNOWN")
	r.want(r.do("GET", "/manifests/.INVALID_MANIFEST_NAME", nil), 404, "MANIFEST_UNKNOWN")
	r.want(r.do("GET", "/manifests/"+digest.FromString("x").String(), nil), 404, "MANIFEST_UNKNOWN")
	r.want(r.do("GET", "/manifests/sha256:short", nil), 400, "DIGEST_INVALID")
	r.want(open(t, r.Registry, "no/such").do("GET", "/manifests/v1", nil), 404)
	r.want(open(t, r.Registry, "UPPER").do("GET", "/manifests/v1", nil), 400, "NAME_INVALID")
}

func TestPullingBlobs(t *testing.T) {
	r := start(t)
	content := random(1000)
	d := r.blob(content).Digest.String()
	a := r.want(r.do("GET", "/blobs/"+d, nil), 200)
	if a.Text != string(content) {
		t.Error("another content")
	}
	r.header(a, "Docker-Content-Digest", d)
	r.header(a, "Content-Length", "1000")
	r.header(a, "Accept-Ranges", "bytes")
	r.want(r.do("GET", "/blobs/"+digest.FromString("x").String(), nil), 404, "BLOB_UNKNOWN")
	r.want(r.do("GET", "/blobs/sha256:x", nil), 400, "DIGEST_INVALID")
	r.want(r.do("GET", "/blobs/"+d, nil, registrytest.Header("If-None-Match", `"`+d+`"`)), 304)
	r.want(open(t, r.Registry, "other").do("GET", "/blobs/"+d, nil), 404)
}

func TestPullingBlobsWithRange(t *testing.T) {
	r := start(t)
	content := string(random(1000))
	d := r.blob([]byte(content)).Digest.String()
	for header, want := range map[string]struct {
		status      int
		text, where string
	}{
		"bytes=0-0":                     {206, content[:1], "bytes 0-0/1000"},
		"bytes=10-19":                   {206, content[10:20], "bytes 10-19/1000"},
		"bytes=990-":                    {206, content[990:], "bytes 990-999/1000"},
		"bytes=-10":                     {206, content[990:], "bytes 990-999/1000"},
		"bytes=0-9999":                  {206, content, "bytes 0-999/1000"},
		"bytes=-5000":                   {206, content, "bytes 0-999/1000"},
		"bytes=1000-":                   {416, "", "bytes */1000"},
		"bytes=-0":                      {416, "", "bytes */1000"},
		"bytes=5-1":                     {416, "", "bytes */1000"},
		"lines=1-2":                     {200, content, ""},
		"bytes=0-1,4-5":                 {200, content, ""},
		"bytes=abc":                     {200, content, ""},
		"bytes= 10-19":                  {206, content[10:20], "bytes 10-19/1000"},
		"bytes=0x1-5":                   {200, content, ""},
		"bytes=1-2-3":                   {200, content, ""},
		"bytes=9999999999999999999999-": {200, content, ""},
	} {
		a := r.want(r.do("GET", "/blobs/"+d, nil, registrytest.Header("Range", header)), want.status)
		if want.status < 400 && a.Text != want.text {
			t.Errorf("%s: %d bytes", header, len(a.Text))
		}
		r.header(a, "Content-Range", want.where)
	}
	same := r.want(r.do("GET", "/blobs/"+d, nil, registrytest.Header("Range", "bytes=0-0"), registrytest.Header("If-Range", `"`+d+`"`)), 206)
	r.header(same, "Content-Length", "1")
	r.want(r.do("GET", "/blobs/"+d, nil, registrytest.Header("Range", "bytes=0-0"), registrytest.Header("If-Range", `"other"`)), 200)
}

func TestCheckingIfContentExists(t *testing.T) {
	r := start(t)
	body, d := r.push("v1", nil)
	content := r.blob(random(77))
	a := r.want(r.do("HEAD", "/manifests/v1", nil), 200)
	r.header(a, "Docker-Content-Digest", d.String())
	r.header(a, "Content-Length", fmt.Sprint(len(body)))
	r.header(a, "Content-Type", ocispec.MediaTypeImageManifest)
	a = r.want(r.do("HEAD", "/blobs/"+content.Digest.String(), nil), 200)
	r.header(a, "Docker-Content-Digest", content.Digest.String())
	r.header(a, "Content-Length", "77")
	r.want(r.do("HEAD", "/manifests/none", nil), 404)
	r.want(r.do("HEAD", "/manifests/.INVALID_MANIFEST_NAME", nil), 404)
	r.want(r.do("HEAD", "/blobs/"+digest.FromString("x").String(), nil), 404)
	r.want(r.do("HEAD", "/blobs/"+content.Digest.String(), nil, registrytest.Header("If-None-Match", `"`+content.Digest.String()+`"`)), 304)
}

func TestNames(t *testing.T) {
	reg := start(t).Registry
	for _, name := range []string{"a", "a/b/c/d/e", "a.b_c__d---e/f", "0/1", "blobs/uploads/x", "manifests/tags/list", strings.Repeat("a", 255)} {
		r := open(t, reg, name)
		body, _ := r.push("v1", nil)
		if a := r.want(r.do("GET", "/manifests/v1", nil), 200); a.Text != string(body) {
			t.Errorf("%s: another body", name)
		}
	}
	for _, name := range []string{"A", "a//b", "a/", "-a", "a-", "a___b", "a..b", "a/.hidden", "..", "a/../b", "ä", "a b", "a%00b", strings.Repeat("a", 256), "%2e%2e/x", "a%2f%2e%2e"} {
		a := open(t, reg, name).do("GET", "/manifests/v1", nil)
		if a.StatusCode != 400 && a.StatusCode != 404 {
			t.Errorf("%q: %d", name, a.StatusCode)
		}
	}
	r := open(t, reg, "tags")
	for _, tag := range []string{"_", "A.b-C_9", strings.Repeat("t", 128)} {
		r.push(tag, nil)
	}
	body, _ := r.manifest(nil)
	for _, tag := range []string{".a", "-a", "a+b", strings.Repeat("t", 129), "ä"} {
		a := r.do("PUT", "/manifests/"+tag, body, mediaType(ocispec.MediaTypeImageManifest))
		if a.StatusCode != 400 {
			t.Errorf("tag %q: %d", tag, a.StatusCode)
		}
	}
}
