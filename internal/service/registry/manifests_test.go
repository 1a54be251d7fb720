package registry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/distribution"
	"longshore/internal/core/manifest"
	"longshore/internal/service/registry"
)

const (
	ociManifest = ocispec.MediaTypeImageManifest
	ociIndex    = ocispec.MediaTypeImageIndex
)

func TestManifestMissingBlob(t *testing.T) {
	r := newRig(t)
	config, layer := random(10), random(20)
	r.push("r", config)
	r.push("other", layer)
	_, err := r.put("r", "v1", ociManifest, image(nil, config, layer))
	wantCode(t, err, distribution.CodeManifestBlobUnknown)
	var e *distribution.Error
	errors.As(err, &e)
	detail, _ := json.Marshal(e.Detail)
	if !strings.Contains(string(detail), sha(layer).String()) || strings.Contains(string(detail), sha(config).String()) {
		t.Fatalf("detail %s", detail)
	}
	_, err = r.get("r", "v1")
	wantCode(t, err, distribution.CodeManifestUnknown)
}

// TestManifestElsewhere: foreign layers, and an index's absent manifests, need not be here.
func TestManifestElsewhere(t *testing.T) {
	r := newRig(t)
	config := random(10)
	r.push("r", config)
	foreign := image(func(m *ocispec.Manifest) {
		m.Layers = []ocispec.Descriptor{
			{MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: sha([]byte("a")), Size: 1},
			{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar", Digest: sha([]byte("b")), Size: 1},
			{MediaType: ocispec.MediaTypeImageLayer, Digest: sha([]byte("c")), Size: 1, URLs: []string{"https://example.com/c"}},
		}
	}, config)
	_, err := r.put("r", "foreign", ociManifest, foreign)
	must(t, err)
	sparse := index(ocispec.Descriptor{MediaType: ociManifest, Digest: sha([]byte("absent")), Size: 6})
	_, err = r.put("r", "sparse", ociIndex, sparse)
	must(t, err)
	m, err := r.get("r", "sparse")
	must(t, err)
	if !bytes.Equal(m.Payload, sparse) || m.MediaType != ociIndex {
		t.Fatalf("got %s %s", m.MediaType, m.Payload)
	}
	_, err = r.put("r", "empty", ociIndex, index())
	must(t, err)
}

func TestManifestByDigest(t *testing.T) {
	r := newRig(t)
	config := random(10)
	r.push("r", config)
	doc := image(nil, config)
	_, err := r.put("r", sha([]byte("x")).String(), ociManifest, doc)
	wantCode(t, err, distribution.CodeDigestInvalid)
	d512 := digest.SHA512.FromBytes(doc)
	pushed, err := r.PutManifest(ctx, registry.ManifestPut{Repo: "r", Reference: ref(d512.String()), MediaType: ociManifest + "; charset=utf-8",
		Tags: []distribution.Tag{"1", "1.2", "latest"}, Size: -1, Body: bytes.NewReader(doc)})
	must(t, err)
	if pushed.Digest != d512 || !slices.Equal(pushed.Tags, []distribution.Tag{"1", "1.2", "latest"}) || pushed.MediaType != ociManifest {
		t.Fatalf("got %+v", pushed)
	}
	for _, reference := range []string{"1", "1.2", "latest", d512.String()} {
		m, err := r.get("r", reference)
		must(t, err)
		if m.Digest != d512 || !bytes.Equal(m.Payload, doc) {
			t.Fatalf("%s is %s", reference, m.Digest)
		}
	}
	must(t, r.DeleteManifest(ctx, "r", ref(d512.String())))
	_, err = r.get("r", "1.2")
	wantCode(t, err, distribution.CodeManifestUnknown)
	wantCode(t, r.DeleteManifest(ctx, "r", ref(d512.String())), distribution.CodeManifestUnknown)
	wantCode(t, r.DeleteManifest(ctx, "r", ref("1")), distribution.CodeManifestUnknown)
	wantCode(t, r.DeleteManifest(ctx, "nobody", ref("1")), distribution.CodeNameUnknown)
	got, err := r.read("r", d512)
	wantCode(t, err, distribution.CodeBlobUnknown)
	_ = got
}

func TestManifestLimits(t *testing.T) {
	r := newRig(t)
	config := random(10)
	r.push("r", config)
	fill := func(n int) []byte {
		doc := image(func(m *ocispec.Manifest) { m.Annotations = map[string]string{"fill": ""} }, config)
		return bytes.Replace(doc, []byte(`"fill":""`), []byte(`"fill":"`+strings.Repeat("x", n-len(doc))+`"`), 1)
	}
	large := fill(registry.MaxManifest)
	if len(large) != registry.MaxManifest {
		t.Fatal(len(large))
	}
	_, err := r.put("r", "large", ociManifest, large)
	must(t, err)
	m, err := r.get("r", "large")
	must(t, err)
	if !bytes.Equal(m.Payload, large) {
		t.Fatal("other bytes came back")
	}
	for _, size := range []int64{-1, registry.MaxManifest + 1, 100} {
		_, err = r.PutManifest(ctx, registry.ManifestPut{Repo: "r", Reference: ref("larger"), MediaType: ociManifest, Size: size,
			Body: bytes.NewReader(fill(registry.MaxManifest + 1))})
		if size == 100 {
			continue // the HTTP layer bounds the body by Content-Length
		}
		if !errors.Is(err, distribution.ErrTooLarge) {
			t.Fatalf("size %d: %v", size, err)
		}
	}
	doc := image(nil, config)
	_, err = r.PutManifest(ctx, registry.ManifestPut{Repo: "r", Reference: ref("short"), MediaType: ociManifest, Size: int64(len(doc)) + 1, Body: bytes.NewReader(doc)})
	wantCode(t, err, distribution.CodeSizeInvalid)
	_, err = r.PutManifest(ctx, registry.ManifestPut{Repo: "r", Reference: ref("x"), MediaType: "text/plain", Size: -1, Body: bytes.NewReader(doc)})
	if !errors.Is(err, distribution.ErrMediaType) && code(err) != distribution.CodeManifestInvalid {
		t.Fatalf("got %v", err)
	}
}

// TestAccept: a client that knows no index gets the linux/amd64 manifest of one, by tag.
func TestAccept(t *testing.T) {
	r := newRig(t)
	arm, amd := r.pushImage("r", "arm"), r.pushImage("r", "amd")
	list := index(
		ocispec.Descriptor{MediaType: ociManifest, Digest: sha(arm), Size: int64(len(arm)), Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}},
		ocispec.Descriptor{MediaType: ociManifest, Digest: sha(amd), Size: int64(len(amd)), Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	_, err := r.put("r", "multi", ociIndex, list)
	must(t, err)
	cases := []struct {
		reference string
		accept    []string
		want      []byte
	}{
		{"multi", nil, list},
		{"multi", []string{ociIndex, ociManifest}, list},
		{"multi", []string{"*/*"}, list},
		{"multi", []string{ociManifest}, amd},
		{"multi", []string{manifest.DockerManifest}, list}, // nothing that it knows: the truth
		{sha(list).String(), []string{ociManifest}, list},
		{"arm", []string{manifest.DockerManifest}, arm},
	}
	for _, c := range cases {
		m, err := r.Manifest(ctx, "r", ref(c.reference), registry.ManifestOptions{Accept: c.accept})
		must(t, err)
		if !bytes.Equal(m.Payload, c.want) {
			t.Errorf("%s accepting %v: got %s", c.reference, c.accept, m.Digest)
		}
	}
}

// TestManifestAsBlob: some clients ask for manifests at the blobs' address.
func TestManifestAsBlob(t *testing.T) {
	r := newRig(t)
	doc := r.pushImage("r", "v1")
	info, err := r.StatBlob(ctx, "r", sha(doc))
	must(t, err)
	got, err := r.read("r", sha(doc))
	must(t, err)
	if info.Size != int64(len(doc)) || !bytes.Equal(got, doc) {
		t.Fatal("other bytes came back")
	}
	_, err = r.read("other", sha(doc))
	wantCode(t, err, distribution.CodeBlobUnknown)
}

func referrer(kind string, subject []byte, config []byte) []byte {
	return image(func(m *ocispec.Manifest) {
		m.ArtifactType = kind
		m.Subject = &ocispec.Descriptor{MediaType: ociManifest, Digest: sha(subject), Size: int64(len(subject))}
		m.Annotations = map[string]string{"kind": kind}
	}, config)
}

func TestReferrers(t *testing.T) {
	r := newRig(t)
	subject := r.pushImage("r", "v1")
	empty, err := r.Referrers(ctx, "nobody", sha(subject), "")
	must(t, err)
	if string(empty.Payload) != `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}` {
		t.Fatalf("got %s", empty.Payload)
	}
	config := []byte("{}")
	r.push("r", config)
	sbom, sig, plain := referrer("application/sbom", subject, config), referrer("application/sig", subject, config), referrer("", subject, config)
	for i, doc := range [][]byte{sbom, sig, plain} {
		pushed, err := r.put("r", sha(doc).String(), ociManifest, doc)
		must(t, err)
		if pushed.Subject != sha(subject) {
			t.Fatalf("%d: subject %q", i, pushed.Subject)
		}
	}
	all, err := r.Referrers(ctx, "r", sha(subject), "")
	must(t, err)
	if len(all.Descriptors) != 3 || all.Filtered {
		t.Fatalf("got %+v", all)
	}
	one, err := r.Referrers(ctx, "r", sha(subject), "application/sbom")
	must(t, err)
	if len(one.Descriptors) != 1 || !one.Filtered || one.Descriptors[0].Annotations["kind"] != "application/sbom" || one.Descriptors[0].Size != int64(len(sbom)) {
		t.Fatalf("got %+v", one)
	}
	// Without an artifactType, the config's media type stands for it.
	byConfig, err := r.Referrers(ctx, "r", sha(subject), ocispec.MediaTypeImageConfig)
	must(t, err)
	if len(byConfig.Descriptors) != 1 || byConfig.Descriptors[0].Digest != sha(plain) {
		t.Fatalf("got %+v", byConfig)
	}
	must(t, r.DeleteManifest(ctx, "r", ref(sha(sig).String())))
	all, err = r.Referrers(ctx, "r", sha(subject), "")
	must(t, err)
	if len(all.Descriptors) != 2 {
		t.Fatalf("got %+v", all)
	}
}

// TestReferrersTag: clients from before the referrers API find the list at the tag, by the digest they were told, and
// see what was pushed through the API after they have pushed a list of their own.
func TestReferrersTag(t *testing.T) {
	r := newRig(t)
	subject := r.pushImage("r", "v1")
	tag := string(distribution.ReferrersTag(sha(subject)))
	_, err := r.get("r", tag)
	wantCode(t, err, distribution.CodeManifestUnknown)
	config := []byte("{}")
	r.push("r", config)
	sbom, sig := referrer("application/sbom", subject, config), referrer("application/sig", subject, config)
	_, err = r.put("r", sha(sbom).String(), ociManifest, sbom)
	must(t, err)
	list, err := r.get("r", tag)
	must(t, err)
	byDigest, err := r.get("r", list.Digest.String())
	must(t, err)
	if !bytes.Equal(list.Payload, byDigest.Payload) || !strings.Contains(string(list.Payload), sha(sbom).String()) {
		t.Fatalf("got %s", list.Payload)
	}
	tags, err := r.Tags(ctx, "r", distribution.All)
	must(t, err)
	if !slices.Equal(tags.Names, []string{"v1"}) {
		t.Fatalf("the list is listed as a tag: %v", tags.Names)
	}
	_, err = r.put("r", tag, ociIndex, list.Payload) // an old client writes it
	must(t, err)
	_, err = r.put("r", sha(sig).String(), ociManifest, sig) // a new one uses the API
	must(t, err)
	list, err = r.get("r", tag)
	must(t, err)
	for _, d := range [][]byte{sbom, sig} {
		if strings.Count(string(list.Payload), sha(d).String()) != 1 {
			t.Fatalf("got %s", list.Payload)
		}
	}
	_, err = r.get("r", list.Digest.String())
	must(t, err)
}

func TestTagPages(t *testing.T) {
	r := newRig(t)
	config := random(10)
	r.push("r", config)
	doc := image(nil, config)
	for i := range 7 {
		_, err := r.put("r", fmt.Sprint("t", i), ociManifest, doc)
		must(t, err)
	}
	cases := []struct {
		page distribution.Page
		want string
		more bool
	}{
		{distribution.All, "t0 t1 t2 t3 t4 t5 t6", false},
		{distribution.Page{N: 0}, "", false},
		{distribution.Page{N: 3}, "t0 t1 t2", true},
		{distribution.Page{N: 3, Last: "t3"}, "t4 t5 t6", false},
		{distribution.Page{N: 2, Last: "t3"}, "t4 t5", true},
		{distribution.Page{N: 100, Last: "t6"}, "", false},
		{distribution.Page{N: -1, Last: "t4x"}, "t5 t6", false},
	}
	for _, c := range cases {
		got, err := r.Tags(ctx, "r", c.page)
		must(t, err)
		if strings.Join(got.Names, " ") != c.want || got.More != c.more || got.Names == nil {
			t.Errorf("%+v: got %+v", c.page, got)
		}
	}
	_, err := r.Tags(ctx, "nobody", distribution.All)
	wantCode(t, err, distribution.CodeNameUnknown)
}

func TestCatalogueFiltered(t *testing.T) {
	r := newRig(t)
	for i := range 9 {
		_, err := r.put(distribution.RepoName(fmt.Sprint("r", i)), "v1", ociIndex, index())
		must(t, err)
	}
	odd := func(n distribution.RepoName) bool { return (n[1]-'0')%2 == 1 }
	got, err := r.Repositories(ctx, distribution.Page{N: 2}, odd)
	must(t, err)
	if !slices.Equal(got.Names, []string{"r1", "r3"}) || !got.More {
		t.Fatalf("got %+v", got)
	}
	got, err = r.Repositories(ctx, distribution.Page{N: 2, Last: "r3"}, odd)
	must(t, err)
	if !slices.Equal(got.Names, []string{"r5", "r7"}) || got.More {
		t.Fatalf("got %+v", got)
	}
	got, err = r.Repositories(ctx, distribution.All, odd)
	must(t, err)
	if len(got.Names) != 4 || got.More {
		t.Fatalf("got %+v", got)
	}
}

// TestWritersLoseNoTag: sixteen writers, a thousand tags each, and one tag that all fight for.
func TestWritersLoseNoTag(t *testing.T) {
	const writers, each = 16, 1000
	r := newRig(t)
	docs := make([][]byte, writers)
	for w := range docs {
		docs[w] = image(nil, func() []byte { b := random(10); r.push("r", b); return b }())
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				_, err := r.PutManifest(ctx, registry.ManifestPut{Repo: "r", Reference: ref(fmt.Sprintf("w%d-%d", w, i)), MediaType: ociManifest,
					Tags: []distribution.Tag{"shared"}, Size: -1, Body: bytes.NewReader(docs[w])})
				if err != nil {
					t.Error(err)
					return
				}
				// What was acknowledged is what is read, by whoever wrote last.
				if _, err := r.get("r", "shared"); err != nil {
					t.Error(err)
				}
			}
			m, err := r.get("r", fmt.Sprintf("w%d-%d", w, each-1))
			if err != nil || m.Digest != sha(docs[w]) {
				t.Error(m.Digest, err)
			}
		})
	}
	wg.Wait()
	tags, err := r.Tags(ctx, "r", distribution.All)
	must(t, err)
	if len(tags.Names) != writers*each+1 || !slices.IsSorted(tags.Names) {
		t.Fatalf("%d tags", len(tags.Names))
	}
}
