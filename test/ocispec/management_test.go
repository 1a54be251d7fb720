package ocispec

import (
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/boot/registryboot/registrytest"
)

func TestDeletingTags(t *testing.T) {
	r := start(t)
	body, d := r.push("v1", nil)
	r.want(r.do("PUT", "/manifests/v2", body, mediaType(ocispec.MediaTypeImageManifest)), 201)
	r.want(r.do("DELETE", "/manifests/v1", nil), 202)
	r.want(r.do("GET", "/manifests/v1", nil), 404, "MANIFEST_UNKNOWN")
	r.want(r.do("GET", "/manifests/v2", nil), 200)
	r.want(r.do("GET", "/manifests/"+d.String(), nil), 200)
	r.want(r.do("DELETE", "/manifests/v1", nil), 404)
	r.want(r.do("DELETE", "/manifests/.INVALID", nil), 404)
}

func TestDeletingManifests(t *testing.T) {
	r := start(t)
	body, d := r.push("v1", nil)
	r.want(r.do("PUT", "/manifests/v2", body, mediaType(ocispec.MediaTypeImageManifest)), 201)
	r.want(r.do("DELETE", "/manifests/"+d.String(), nil), 202)
	for _, ref := range []string{"v1", "v2", d.String()} {
		r.want(r.do("GET", "/manifests/"+ref, nil), 404, "MANIFEST_UNKNOWN")
	}
	r.want(r.do("DELETE", "/manifests/"+d.String(), nil), 404)
	r.want(r.do("DELETE", "/manifests/sha256:x", nil), 400, "DIGEST_INVALID")
	r.want(open(t, r.Registry, "no/such").do("DELETE", "/manifests/"+d.String(), nil), 404)
}

func TestDeletingBlobs(t *testing.T) {
	r := start(t)
	d := r.blob(random(10)).Digest
	r.want(r.do("DELETE", "/blobs/"+d.String(), nil), 202)
	r.want(r.do("GET", "/blobs/"+d.String(), nil), 404, "BLOB_UNKNOWN")
	r.want(r.do("DELETE", "/blobs/"+d.String(), nil), 404, "BLOB_UNKNOWN")
	r.want(r.do("DELETE", "/blobs/"+digest.FromString("none").String(), nil), 404, "BLOB_UNKNOWN")
	r.want(r.do("DELETE", "/blobs/sha256:x", nil), 400, "DIGEST_INVALID")
	again := random(10)
	r.blob(again)
	r.has(r.blob(again).Digest, again)
}

func TestMethods(t *testing.T) {
	r := start(t)
	r.push("v1", nil)
	for path, methods := range map[string][]string{
		"/manifests/v1":   {"POST", "PATCH"},
		"/tags/list":      {"PUT", "DELETE"},
		"/blobs/uploads/": {"GET", "PUT"},
		"/blobs/" + digest.FromString("x").String(): {"PUT", "POST"},
	} {
		for _, m := range methods {
			a := r.want(r.do(m, path, nil), 405, "UNSUPPORTED")
			if a.Header.Get("Allow") == "" {
				t.Errorf("%s %s: no Allow", m, path)
			}
		}
	}
	for _, path := range []string{"/v2/a", "/v2/a/b/c", "/v2/a/tags/list/", "/v2/manifests/v1", "/v3/", "/v2/_nothing/x", "/v2//tags/list"} {
		a := r.Do(t, "GET", path, nil)
		if a.StatusCode != 404 && a.StatusCode != 400 {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
}

// TestUploadsGoOnAfterARestart: a session outlives the process.
func TestUploadsGoOnAfterARestart(t *testing.T) {
	r := start(t)
	content := random(1000)
	at := r.begin()
	r.want(r.do("PATCH", at, content[:600], octets, contentRange(0, 599)), 202)
	kept := random(50)
	r.blob(kept)
	r.Stop()
	again := open(t, registrytest.StartIn(t, r.Dir, r.config), r.name)
	again.header(again.want(again.do("GET", at, nil), 204), "Range", "0-599")
	d := digest.FromBytes(content)
	again.want(again.do("PUT", at+"?digest="+d.String(), content[600:], octets, contentRange(600, 999)), 201)
	again.has(d, content)
	again.has(digest.FromBytes(kept), kept)
}
