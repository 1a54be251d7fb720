package ocispec

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/boot/registryboot/registrytest"
)

// streamed sends a body without telling its length.
func streamed(r *http.Request) { r.ContentLength = -1 }

// TestEndpoints goes through the specification's table, in its order, with success and failure of each.
func TestEndpoints(t *testing.T) {
	r := start(t)
	content, none := random(200), digest.FromString("none").String()
	d := digest.FromBytes(content)
	body, md := r.push("v1", nil)
	blob := r.blob(content).Digest.String()
	manifest := mediaType(ocispec.MediaTypeImageManifest)

	r.want(r.Do(t, "GET", "/v2/", nil), 200) // end-1
	for _, method := range []string{"GET", "HEAD"} {
		r.want(r.do(method, "/blobs/"+blob, nil), 200) // end-2
		r.want(r.do(method, "/blobs/"+none, nil), 404, "BLOB_UNKNOWN")
		r.want(r.do(method, "/manifests/v1", nil), 200) // end-3
		r.want(r.do(method, "/manifests/"+md.String(), nil), 200)
		r.want(r.do(method, "/manifests/none", nil), 404, "MANIFEST_UNKNOWN")
	}
	at := r.location(r.want(r.do("POST", "/blobs/uploads/", nil), 202))                           // end-4a
	r.want(r.do("POST", "/blobs/uploads/?digest="+blob, content, octets), 201)                    // end-4b
	r.want(r.do("POST", "/blobs/uploads/?digest="+none, content, octets), 400, "DIGEST_INVALID")  // its failure
	long := r.location(r.want(r.do("POST", "/blobs/uploads/?digest-algorithm=sha512", nil), 202)) // end-4c
	r.want(r.do("PATCH", at, content[:50], octets, contentRange(0, 49)), 202)                     // end-5
	r.want(r.do("PATCH", at, content[:50], octets, contentRange(0, 49)), 416)
	r.want(r.do("GET", at, nil), 204)                                                               // end-13
	r.want(r.do("PUT", at+"?digest="+d.String(), content[10:], octets, contentRange(10, 199)), 416) // end-6
	r.want(r.do("PUT", at+"?digest="+d.String(), content[50:], octets, contentRange(50, 199)), 201)
	r.want(r.do("DELETE", long, nil), 204) // end-14
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		r.want(r.do(method, long, nil), 404, "BLOB_UPLOAD_UNKNOWN")
	}
	r.want(r.do("PUT", long+"?digest="+blob, nil), 404, "BLOB_UPLOAD_UNKNOWN")
	r.want(r.do("PUT", "/manifests/v2", body, manifest), 201)                            // end-7a
	r.want(r.do("PUT", "/manifests/"+md.String()+"?tag=v3&tag=v4", body, manifest), 201) // end-7b
	r.want(r.do("PUT", "/manifests/v5", bytes.Repeat([]byte(" "), 4<<20+1), manifest), 413)
	r.want(r.do("GET", "/tags/list", nil), 200)             // end-8a
	r.want(r.do("GET", "/tags/list?n=1&last=v1", nil), 200) // end-8b
	r.want(open(t, r.Registry, "none").do("GET", "/tags/list", nil), 404, "NAME_UNKNOWN")
	r.want(r.do("GET", "/referrers/"+md.String(), nil), 200)                               // end-12a
	r.want(r.do("GET", "/referrers/"+md.String()+"?artifactType=application/x", nil), 200) // end-12b
	r.want(r.do("GET", "/referrers/sha256:x", nil), 400, "DIGEST_INVALID")
	other := open(t, r.Registry, "other")
	other.want(other.do("POST", "/blobs/uploads/?mount="+blob+"&from="+r.name, nil), 201) // end-11
	other.want(other.do("POST", "/blobs/uploads/?mount="+none+"&from="+r.name, nil), 202)
	r.want(r.do("DELETE", "/manifests/v2", nil), 202) // end-9
	r.want(r.do("DELETE", "/manifests/v2", nil), 404)
	r.want(r.do("DELETE", "/manifests/"+md.String(), nil), 202)
	r.want(r.do("DELETE", "/manifests/"+md.String(), nil), 404)
	r.want(r.do("DELETE", "/blobs/"+blob, nil), 202) // end-10
	r.want(r.do("DELETE", "/blobs/"+blob, nil), 404, "BLOB_UNKNOWN")
}

// TestHeadsTellWhatGetsTell: RFC 9110, which holds where the specification says nothing else.
func TestHeadsTellWhatGetsTell(t *testing.T) {
	r := start(t)
	_, d := r.push("v1", nil)
	blob := r.blob(random(300)).Digest.String()
	for _, path := range []string{"/manifests/v1", "/manifests/" + d.String(), "/blobs/" + blob} {
		get, head := r.want(r.do("GET", path, nil), 200), r.want(r.do("HEAD", path, nil), 200)
		get.Header.Del("Date")
		head.Header.Del("Date")
		for name := range get.Header {
			r.header(head, name, get.Header.Get(name))
		}
		if head.Text != "" {
			t.Errorf("HEAD %s has a body", path)
		}
		if strings.Contains(get.Header.Get("Content-Type"), ";") {
			t.Errorf("%s: parameters: %s", path, get.Header.Get("Content-Type"))
		}
	}
}

// TestPushingWithoutALength: bodies in chunks of HTTP, as docker sends layers.
func TestPushingWithoutALength(t *testing.T) {
	r := start(t)
	content := random(100_000)
	d := digest.FromBytes(content)
	at := r.begin()
	r.header(r.want(r.do("PATCH", at, content[:60_000], octets, streamed), 202), "Range", "0-59999")
	r.header(r.want(r.do("PATCH", at, content[60_000:70_000], octets, streamed, contentRange(60_000, 69_999)), 202), "Range", "0-69999")
	r.want(r.do("PUT", at+"?digest="+d.String(), content[70_000:], octets, streamed), 201)
	r.has(d, content)
	again := random(1000)
	r.want(r.do("POST", "/blobs/uploads/?digest="+digest.FromBytes(again).String(), again, octets, streamed), 201)
	r.has(digest.FromBytes(again), again)
	at = r.begin()
	r.want(r.do("PATCH", at, content[:100], octets, streamed, contentRange(0, 199)), 400, "SIZE_INVALID")
	body, _ := r.manifest(nil)
	r.want(r.do("PUT", "/manifests/v1", body, mediaType(ocispec.MediaTypeImageManifest), streamed), 201)
	if a := r.do("GET", "/manifests/v1", nil); a.Text != string(body) {
		t.Error("not byte for byte")
	}
}

// TestReferrersTagOfALongDigest: the tag schema cuts sha512 to 64 digits.
func TestReferrersTagOfALongDigest(t *testing.T) {
	r := start(t)
	subject, _ := r.manifest(nil)
	of := descriptor(subject)
	of.Digest = digest.SHA512.FromBytes(subject)
	r.want(r.do("PUT", "/manifests/"+of.Digest.String(), subject, mediaType(ocispec.MediaTypeImageManifest)), 201)
	body, d := r.manifest(func(m *ocispec.Manifest) { m.Subject = &of })
	r.header(r.want(r.do("PUT", "/manifests/sig", body, mediaType(ocispec.MediaTypeImageManifest)), 201), "OCI-Subject", of.Digest.String())
	for _, path := range []string{"/referrers/" + of.Digest.String(), "/manifests/sha512-" + of.Digest.Encoded()[:64]} {
		a := r.want(r.do("GET", path, nil), 200)
		if i := decode[ocispec.Index](t, a.Text); len(i.Manifests) != 1 || i.Manifests[0].Digest != d {
			t.Errorf("%s: %s", path, a.Text)
		}
	}
	r.want(r.do("GET", "/manifests/sha512-"+strings.Repeat("0", 64), nil), 404, "MANIFEST_UNKNOWN")
}

// TestReferrersOfDeletedSubjects are still listed: subject and referrers come and go in either order.
func TestReferrersOfDeletedSubjects(t *testing.T) {
	r := start(t)
	subject, sd := r.push("v1", nil)
	of := descriptor(subject)
	_, d := r.push("sig", func(m *ocispec.Manifest) { m.Subject = &of })
	r.want(r.do("DELETE", "/manifests/"+sd.String(), nil), 202)
	a := r.want(r.do("GET", "/referrers/"+sd.String(), nil), 200)
	if i := decode[ocispec.Index](t, a.Text); len(i.Manifests) != 1 || i.Manifests[0].Digest != d {
		t.Errorf("%s", a.Text)
	}
}

// TestEnablingTheReferrersAPI: what older clients list in an index of the tag schema and what was pushed since are both
// told, by the API and by the tag.
func TestEnablingTheReferrersAPI(t *testing.T) {
	r := start(t)
	subject, sd := r.push("v1", nil)
	of := descriptor(subject)
	old, oldDigest := r.push("old", func(m *ocispec.Manifest) { m.Subject, m.ArtifactType = &of, "application/x.old" })
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{descriptor(old)}}
	index.SchemaVersion = 2
	tag := "/manifests/" + strings.Replace(sd.String(), ":", "-", 1)
	list, err := json.Marshal(index)
	must(t, err)
	r.want(r.do("PUT", tag, list, mediaType(ocispec.MediaTypeImageIndex)), 201)
	_, newDigest := r.push("new", func(m *ocispec.Manifest) { m.Subject, m.ArtifactType = &of, "application/x.new" })
	for _, path := range []string{"/referrers/" + sd.String(), tag} {
		a := r.want(r.do("GET", path, nil), 200)
		if n := strings.Count(a.Text, oldDigest.String()) + strings.Count(a.Text, newDigest.String()); n != 2 {
			t.Errorf("%s: %s", path, a.Text)
		}
	}
}

// TestTagsOfAnEmptiedRepository: it is known still, and has none.
func TestTagsOfAnEmptiedRepository(t *testing.T) {
	r := start(t)
	r.push("v1", nil)
	r.want(r.do("DELETE", "/manifests/v1", nil), 202)
	a := r.want(r.do("GET", "/tags/list", nil), 200)
	if got := decode[tagList](t, a.Text); got.Name != r.name || got.Tags == nil || len(got.Tags) != 0 {
		t.Errorf("%s", a.Text)
	}
}

// TestWarnings have a form of their own and few bytes.
func TestWarnings(t *testing.T) {
	r := start(t)
	body, _ := r.manifest(nil)
	a := r.want(r.do("PUT", "/manifests/v1", body), 201)
	all := a.Header.Values("Warning")
	if len(all) == 0 || len(strings.Join(all, "")) > 4096 {
		t.Errorf("%q", all)
	}
	for _, w := range all {
		if !regexp.MustCompile(`^299 - "[^"]+"$`).MatchString(w) {
			t.Errorf("%q", w)
		}
	}
}

// TestErrorCodes: errors are of the specification's list, and carry a message.
func TestErrorCodes(t *testing.T) {
	r := start(t)
	known := regexp.MustCompile(`^(BLOB_UNKNOWN|BLOB_UPLOAD_INVALID|BLOB_UPLOAD_UNKNOWN|DIGEST_INVALID|MANIFEST_BLOB_UNKNOWN|MANIFEST_INVALID|` +
		`MANIFEST_UNKNOWN|NAME_INVALID|NAME_UNKNOWN|SIZE_INVALID|UNAUTHORIZED|DENIED|UNSUPPORTED|TOOMANYREQUESTS)$`)
	none := digest.FromString("none").String()
	for _, request := range []string{
		"GET /v2/a/manifests/v1", "GET /v2/A/manifests/v1", "PUT /v2/a/manifests/v1", "PUT /v2/a/manifests/.v1", "DELETE /v2/a/manifests/v1",
		"GET /v2/a/blobs/" + none, "GET /v2/a/blobs/sha256:x", "DELETE /v2/a/blobs/" + none, "POST /v2/a/blobs/uploads/?mount=x",
		"POST /v2/a/blobs/uploads/?digest=x", "PATCH /v2/a/blobs/uploads/x", "PUT /v2/a/blobs/uploads/x?digest=" + none, "GET /v2/a/tags/list",
		"GET /v2/a/tags/list?n=-1", "GET /v2/_catalog?n=-1", "GET /v2/a/referrers/x", "POST /v2/a/manifests/v1", "GET /v2/nothing", "DELETE /v2/_catalog",
	} {
		method, path, _ := strings.Cut(request, " ")
		a := r.Do(t, method, path, nil)
		var found struct {
			Errors []struct{ Code, Message string }
		}
		if strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
			found = decode[struct {
				Errors []struct{ Code, Message string }
			}](t, a.Text)
		}
		if a.StatusCode < 400 || a.StatusCode >= 500 || len(found.Errors) == 0 || !known.MatchString(found.Errors[0].Code) || found.Errors[0].Message == "" {
			t.Errorf("%s: %d %s", request, a.StatusCode, a.Text)
		}
	}
}

// TestExpectContinue: a push that is refused costs no bytes, one that is taken is told to go on.
func TestExpectContinue(t *testing.T) {
	r := start(t)
	content := random(50_000)
	d := digest.FromBytes(content)
	r.want(r.do("POST", "/blobs/uploads/?digest="+d.String(), content, octets, registrytest.Header("Expect", "100-continue")), 201)
	r.has(d, content)
	resp := raw(t, r.Addr, "PUT /v2/team/app/blobs/uploads/x?digest="+d.String()+" HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\nExpect: 100-continue\r\n\r\n")
	if resp == nil || resp.StatusCode != 404 {
		t.Errorf("%+v", resp)
	}
	if resp != nil {
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}
