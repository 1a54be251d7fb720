package ocispec

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/boot/registryboot/registrytest"
)

func (r *repo) has(d digest.Digest, content []byte) {
	r.t.Helper()
	if a := r.want(r.do("GET", "/blobs/"+d.String(), nil), 200); a.Text != string(content) {
		r.t.Errorf("another content: %d bytes", len(a.Text))
	}
}

func TestPostThenPut(t *testing.T) {
	r := start(t)
	for _, content := range [][]byte{random(300), {}} {
		d := digest.FromBytes(content)
		at := r.begin()
		a := r.want(r.do("PUT", at+"?digest="+d.String(), content, octets), 201)
		r.header(a, "Location", "/v2/"+r.name+"/blobs/"+d.String())
		r.header(a, "Docker-Content-Digest", d.String())
		r.has(d, content)
		r.want(r.do("GET", at, nil), 404, "BLOB_UPLOAD_UNKNOWN")
	}
	at := r.begin()
	r.want(r.do("PUT", at+"?digest="+digest.FromString("other").String(), []byte("content"), octets), 400, "DIGEST_INVALID")
	at = r.begin()
	r.want(r.do("PUT", at+"?digest=sha256:x", []byte("content"), octets), 400, "DIGEST_INVALID")
	r.want(r.do("PUT", at+"?digest=md5:d41d8cd98f00b204e9800998ecf8427e", nil, octets), 400, "DIGEST_INVALID")
	r.want(r.do("PUT", at, []byte("content"), octets), 400, "DIGEST_INVALID")
	none := "/blobs/uploads/00000000-0000-4000-8000-000000000000"
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		r.want(r.do(method, none, nil), 404, "BLOB_UPLOAD_UNKNOWN")
	}
	r.want(r.do("PUT", none+"?digest="+digest.FromString("").String(), nil), 404, "BLOB_UPLOAD_UNKNOWN")
	// A session belongs to its repository.
	at = r.begin()
	r.want(open(t, r.Registry, "other").do("GET", at, nil), 404, "BLOB_UPLOAD_UNKNOWN")
}

func TestSinglePost(t *testing.T) {
	r := start(t)
	content := random(300)
	d := digest.FromBytes(content)
	a := r.want(r.do("POST", "/blobs/uploads/?digest="+d.String(), content, octets), 201)
	r.header(a, "Location", "/v2/"+r.name+"/blobs/"+d.String())
	r.has(d, content)
	r.want(r.do("POST", "/blobs/uploads/?digest="+d.String(), content, octets), 201)
	r.want(r.do("POST", "/blobs/uploads/?digest="+digest.FromString("").String(), nil, octets), 201)
	r.want(r.do("POST", "/blobs/uploads/?digest="+digest.FromString("other").String(), content, octets), 400, "DIGEST_INVALID")
	r.want(r.do("POST", "/blobs/uploads/?digest=sha256:x", content, octets), 400, "DIGEST_INVALID")
	r.want(r.do("POST", "/blobs/uploads/?digest="+digest.FromString("later").String(), nil, octets), 202)
	long := digest.SHA512.FromBytes(content)
	r.want(r.do("POST", "/blobs/uploads/?digest="+long.String(), content, octets), 201)
	r.has(long, content)
}

func TestPushingABlobInChunks(t *testing.T) {
	r := start(t)
	content := random(1000)
	d := digest.FromBytes(content)
	a := r.want(r.do("POST", "/blobs/uploads/", nil), 202)
	r.header(a, "Range", "0-0")
	id := a.Header.Get("Docker-Upload-UUID")
	if len(id) != 36 || !strings.HasSuffix(a.Header.Get("Location"), id) {
		t.Errorf("session %q", id)
	}
	at := r.location(a)
	a = r.want(r.do("PATCH", at, content[:400], octets, contentRange(0, 399)), 202)
	r.header(a, "Range", "0-399")
	at = r.location(a)
	a = r.want(r.do("GET", at, nil), 204)
	r.header(a, "Range", "0-399")
	r.location(a)
	a = r.want(r.do("PATCH", at, content[:400], octets, contentRange(0, 399)), 416) // again
	r.header(a, "Range", "0-399")
	r.want(r.do("PATCH", at, content[500:600], octets, contentRange(500, 599)), 416) // too far
	r.want(r.do("PATCH", at, content[400:500], octets, contentRange(400, 600)), 400, "SIZE_INVALID")
	r.want(r.do("PATCH", at, content[400:500], octets, registrytest.Header("Content-Range", "400-x")), 400, "BLOB_UPLOAD_INVALID")
	r.header(r.want(r.do("GET", at, nil), 204), "Range", "0-399")
	a = r.want(r.do("PATCH", at, content[400:700], octets, contentRange(400, 699)), 202)
	at = r.location(a)
	r.want(r.do("PUT", at+"?digest="+d.String(), content[800:], octets, contentRange(800, 999)), 416)
	a = r.want(r.do("PUT", at+"?digest="+d.String(), content[700:], octets, contentRange(700, 999)), 201)
	r.header(a, "Location", "/v2/"+r.name+"/blobs/"+d.String())
	r.has(d, content)

	at = r.begin() // all by PATCH, without ranges, as docker does
	r.want(r.do("PATCH", at, content[:500], octets), 202)
	r.want(r.do("PATCH", at, content[500:], octets), 202)
	r.want(r.do("PUT", at+"?digest="+d.String(), nil), 201)
	at = r.begin() // out of order from the start
	r.want(r.do("PATCH", at, content[100:200], octets, contentRange(100, 199)), 416)
}

func TestOtherAlgorithms(t *testing.T) {
	r := start(t)
	content := random(500)
	d := digest.SHA512.FromBytes(content)
	at := r.location(r.want(r.do("POST", "/blobs/uploads/?digest-algorithm=sha512", nil), 202))
	r.want(r.do("PATCH", at, content[:100], octets, contentRange(0, 99)), 202)
	r.want(r.do("PUT", at+"?digest="+d.String(), content[100:], octets, contentRange(100, 499)), 201)
	r.has(d, content)
	at = r.begin() // announced nowhere
	r.want(r.do("PUT", at+"?digest="+d.String(), content, octets), 201)
	at = r.begin()
	r.want(r.do("PATCH", at, content, octets), 202)
	r.want(r.do("PUT", at+"?digest="+d.String(), nil), 201)
	r.want(r.do("POST", "/blobs/uploads/?digest-algorithm=md5", nil), 400, "DIGEST_INVALID")

	body, _ := r.manifest(nil)
	long := digest.SHA512.FromBytes(body)
	a := r.want(r.do("PUT", "/manifests/"+long.String(), body, mediaType(ocispec.MediaTypeImageManifest)), 201)
	r.header(a, "Docker-Content-Digest", long.String())
	a = r.want(r.do("GET", "/manifests/"+long.String(), nil), 200)
	r.header(a, "Docker-Content-Digest", long.String())
}

func TestCancelABlobUpload(t *testing.T) {
	r := start(t)
	at := r.begin()
	r.want(r.do("PATCH", at, random(10), octets), 202)
	r.want(r.do("DELETE", at, nil), 204)
	r.want(r.do("GET", at, nil), 404, "BLOB_UPLOAD_UNKNOWN")
	r.want(r.do("DELETE", at, nil), 404, "BLOB_UPLOAD_UNKNOWN")
}

func TestMountingABlob(t *testing.T) {
	from := start(t)
	content := random(100)
	d := from.blob(content).Digest
	to := open(t, from.Registry, "other/app")
	a := to.want(to.do("POST", "/blobs/uploads/?mount="+d.String()+"&from="+from.name, nil), 201)
	to.header(a, "Location", "/v2/other/app/blobs/"+d.String())
	to.header(a, "Docker-Content-Digest", d.String())
	to.has(d, content)
	third := open(t, from.Registry, "third")
	third.want(third.do("POST", "/blobs/uploads/?mount="+d.String(), nil), 201)
	third.has(d, content)
	for _, q := range []string{"mount=" + digest.FromString("none").String() + "&from=" + from.name, "mount=" + d.String() + "&from=no/such"} {
		a = third.want(third.do("POST", "/blobs/uploads/?"+q, nil), 202)
		third.location(a)
	}
	third.want(third.do("POST", "/blobs/uploads/?mount=sha256:x&from="+from.name, nil), 400, "DIGEST_INVALID")
}

func TestPushingManifests(t *testing.T) {
	r := start(t)
	body, d := r.manifest(nil)
	a := r.want(r.do("PUT", "/manifests/v1", body, mediaType(ocispec.MediaTypeImageManifest+"; charset=utf-8")), 201)
	r.header(a, "Location", "/v2/"+r.name+"/manifests/v1")
	r.header(a, "Docker-Content-Digest", d.String())
	a = r.want(r.do("GET", "/manifests/v1", nil), 200)
	r.header(a, "Content-Type", ocispec.MediaTypeImageManifest)
	r.want(r.do("PUT", "/manifests/"+d.String(), body, mediaType(ocispec.MediaTypeImageManifest)), 201)
	r.want(r.do("PUT", "/manifests/"+digest.FromString("x").String(), body, mediaType(ocispec.MediaTypeImageManifest)), 400, "DIGEST_INVALID")
	spaced := append(slices.Clone(body), "\n "...)
	r.want(r.do("PUT", "/manifests/exact", spaced, mediaType(ocispec.MediaTypeImageManifest)), 201)
	if a := r.do("GET", "/manifests/exact", nil); a.Text != string(spaced) {
		t.Error("not byte for byte")
	}
	missing, _ := r.manifest(func(m *ocispec.Manifest) { m.Config.Digest = digest.FromString("none") })
	if a := r.do("PUT", "/manifests/v2", missing, mediaType(ocispec.MediaTypeImageManifest)); !strings.Contains(a.Text, "MANIFEST_BLOB_UNKNOWN") {
		t.Errorf("missing blob: %d %s", a.StatusCode, a.Text)
	}
	for _, bad := range []string{"", "{", "[]", "null", `{"schemaVersion":2}x`, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`} {
		r.want(r.do("PUT", "/manifests/bad", []byte(bad), mediaType(ocispec.MediaTypeImageManifest)), 400, "MANIFEST_INVALID")
	}
	r.want(r.do("GET", "/manifests/bad", nil), 404)
	if a := r.do("PUT", "/manifests/untyped", body); a.StatusCode != 201 || !strings.HasPrefix(a.Header.Get("Warning"), "299 - ") {
		t.Errorf("without a type: %d %q %s", a.StatusCode, a.Header.Get("Warning"), a.Text)
	}
}

func TestPushingManifestsOverTheLimit(t *testing.T) {
	r := start(t)
	pad := func(n int) []byte {
		body, _ := r.manifest(func(m *ocispec.Manifest) { m.Annotations = map[string]string{"pad": strings.Repeat("x", n)} })
		return body
	}
	fits := pad(4<<20 - len(pad(0)))
	r.want(r.do("PUT", "/manifests/fits", fits, mediaType(ocispec.MediaTypeImageManifest)), 201)
	over := pad(4<<20 - len(pad(0)) + 1)
	r.want(r.do("PUT", "/manifests/over", over, mediaType(ocispec.MediaTypeImageManifest)), 413)
	chunked := func(q *http.Request) { q.ContentLength = -1 }
	r.want(r.do("PUT", "/manifests/over", over, mediaType(ocispec.MediaTypeImageManifest), chunked), 413)
}

func TestPushingTagsBesideADigest(t *testing.T) {
	r := start(t)
	body, d := r.manifest(nil)
	a := r.want(r.do("PUT", "/manifests/"+d.String()+"?tag=1.2.3&tag=1.2&tag=1&tag=latest&tag=1", body, mediaType(ocispec.MediaTypeImageManifest)), 201)
	if got := strings.Join(a.Header.Values("OCI-Tag"), ", "); got != "1.2.3, 1.2, 1, latest" {
		t.Errorf("OCI-Tag: %s", got)
	}
	for _, tag := range []string{"1.2.3", "1.2", "1", "latest"} {
		r.header(r.want(r.do("HEAD", "/manifests/"+tag, nil), 200), "Docker-Content-Digest", d.String())
	}
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("tag=t%d", i)
	}
	r.want(r.do("PUT", "/manifests/"+d.String()+"?"+strings.Join(many, "&"), body, mediaType(ocispec.MediaTypeImageManifest)), 414)
	r.want(r.do("PUT", "/manifests/"+d.String()+"?tag=.bad", body, mediaType(ocispec.MediaTypeImageManifest)), 400)
	r.want(r.do("PUT", "/manifests/v1?tag=v2", body, mediaType(ocispec.MediaTypeImageManifest)), 400)
}

func TestPushingManifestsWithSubject(t *testing.T) {
	r := start(t)
	subject, _ := r.manifest(nil)
	of := descriptor(subject)
	body, d := r.manifest(func(m *ocispec.Manifest) { m.Subject, m.ArtifactType = &of, "application/x.sbom" })
	a := r.want(r.do("PUT", "/manifests/"+d.String(), body, mediaType(ocispec.MediaTypeImageManifest)), 201) // before its subject
	r.header(a, "OCI-Subject", of.Digest.String())
	a = r.want(r.do("PUT", "/manifests/v1", subject, mediaType(ocispec.MediaTypeImageManifest)), 201)
	r.header(a, "OCI-Subject", "")
}

func TestIndexesAndArtifacts(t *testing.T) {
	r := start(t)
	child, _ := r.push("child", nil)
	index := func(manifests ...ocispec.Descriptor) []byte {
		i := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: append([]ocispec.Descriptor{}, manifests...)}
		i.SchemaVersion = 2
		b, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r.want(r.do("PUT", "/manifests/index", index(descriptor(child)), mediaType(ocispec.MediaTypeImageIndex)), 201)
	r.header(r.do("GET", "/manifests/index", nil), "Content-Type", ocispec.MediaTypeImageIndex)
	r.want(r.do("PUT", "/manifests/sparse", index(descriptor(child), descriptor([]byte("elsewhere"))), mediaType(ocispec.MediaTypeImageIndex)), 201)
	r.want(r.do("PUT", "/manifests/empty", index(), mediaType(ocispec.MediaTypeImageIndex)), 201)

	empty := r.blob([]byte("{}"))
	empty.MediaType = ocispec.MediaTypeEmptyJSON
	artifact, _ := r.manifest(func(m *ocispec.Manifest) {
		m.Config, m.Layers, m.ArtifactType = empty, []ocispec.Descriptor{empty}, "application/x.thing"
	})
	r.want(r.do("PUT", "/manifests/artifact", artifact, mediaType(ocispec.MediaTypeImageManifest)), 201)

	none, _ := r.manifest(func(m *ocispec.Manifest) { m.Layers = []ocispec.Descriptor{} })
	r.want(r.do("PUT", "/manifests/no-layers", none, mediaType(ocispec.MediaTypeImageManifest)), 201)
	foreign, _ := r.manifest(func(m *ocispec.Manifest) {
		m.Layers[0] = ocispec.Descriptor{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Digest: digest.FromString("far"), Size: 3, URLs: []string{"https://store.example/x"}}
	})
	r.want(r.do("PUT", "/manifests/foreign", foreign, mediaType(ocispec.MediaTypeImageManifest)), 201)
	custom := []byte(strings.Replace(string(none), `"layers":[]`, `"layers":[],"org.example.field":{"a":[1]}`, 1))
	r.want(r.do("PUT", "/manifests/custom", custom, mediaType(ocispec.MediaTypeImageManifest)), 201)

	const docker = "application/vnd.docker.distribution.manifest.v2+json"
	schema2, _ := r.manifest(func(m *ocispec.Manifest) { m.MediaType = docker })
	r.want(r.do("PUT", "/manifests/docker", schema2, mediaType(docker)), 201)
	r.header(r.do("GET", "/manifests/docker", nil), "Content-Type", docker)
}

// TestSparseImages: a manifest may come before its layers, and keeps them once they are there; its config must be there.
func TestSparseImages(t *testing.T) {
	r := start(t)
	content := random(500)
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(content), Size: 500}
	body, d := r.push("sparse", func(m *ocispec.Manifest) { m.Layers = append(m.Layers, layer) })
	if a := r.want(r.do("GET", "/manifests/"+d.String(), nil), 200); a.Text != string(body) {
		t.Error("another body")
	}
	r.want(r.do("GET", "/blobs/"+layer.Digest.String(), nil), 404, "BLOB_UNKNOWN")
	r.has(r.blob(content).Digest, content)
	r.want(r.do("DELETE", "/blobs/"+layer.Digest.String(), nil), 405) // the manifest has it now
	r.want(r.do("DELETE", "/manifests/"+d.String(), nil), 202)
	r.want(r.do("DELETE", "/blobs/"+layer.Digest.String(), nil), 202)

	strict := open(t, registrytest.Start(t, `{"storage": {"rootDirectory": "DIR/root", "requireLayers": true}, "http": {"port": "0"}}`), "a")
	body, _ = strict.manifest(func(m *ocispec.Manifest) { m.Layers = append(m.Layers, layer) })
	strict.want(strict.do("PUT", "/manifests/sparse", body, mediaType(ocispec.MediaTypeImageManifest)), 404, "MANIFEST_BLOB_UNKNOWN")
	strict.want(strict.do("GET", "/manifests/sparse", nil), 404)
}
