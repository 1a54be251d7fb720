package ocispec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func decode[T any](t testing.TB, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

type tagList struct {
	Name string
	Tags []string
}

func TestListingTags(t *testing.T) {
	r := start(t)
	r.want(r.do("GET", "/tags/list", nil), 404, "NAME_UNKNOWN")
	body, _ := r.manifest(nil)
	want := []string{}
	for i := range 10 {
		tag := fmt.Sprintf("test%d", i)
		r.want(r.do("PUT", "/manifests/"+tag, body, mediaType(ocispec.MediaTypeImageManifest)), 201)
		want = append(want, tag)
	}
	r.want(r.do("PUT", "/manifests/Upper", body, mediaType(ocispec.MediaTypeImageManifest)), 201)
	want = append([]string{"Upper"}, want...)
	for query, expect := range map[string][]string{
		"": want, "?n=4": want[:4], "?n=0": {}, "?n=3&last=test1": want[3:6], "?last=test7": want[9:],
		"?n=100": want, "?last=zzz": {}, "?n=2&last=nothere": want[1:3],
	} {
		a := r.want(r.do("GET", "/tags/list"+query, nil), 200)
		got := decode[tagList](t, a.Text)
		if got.Name != r.name || !slices.Equal(got.Tags, expect) || got.Tags == nil {
			t.Errorf("%s: %s", query, a.Text)
		}
		if link := a.Header.Get("Link"); (link != "") != strings.Contains("?n=4?n=3&last=test1?n=2&last=nothere", query) && query != "" {
			t.Errorf("%s: link %q", query, link)
		}
	}
	for _, query := range []string{"?n=x", "?n=-1", "?n=1.5"} {
		r.want(r.do("GET", "/tags/list"+query, nil), 400)
	}
	if got := follow(t, r, "/v2/"+r.name+"/tags/list?n=3"); !slices.Equal(got, want) {
		t.Errorf("by links: %v", got)
	}
}

// follow reads a list page by page.
func follow(t testing.TB, r *repo, path string) (names []string) {
	t.Helper()
	for range 50 {
		a := r.want(r.Do(t, "GET", path, nil), 200)
		list := decode[struct{ Tags, Repositories []string }](t, a.Text)
		names = append(append(names, list.Tags...), list.Repositories...)
		link := a.Header.Get("Link")
		if link == "" {
			return names
		}
		next, ok := strings.CutSuffix(link, `>; rel="next"`)
		if !ok || !strings.HasPrefix(next, "<") {
			t.Fatalf("link %q", link)
		}
		path = next[1:]
	}
	t.Fatal("links without end")
	return nil
}

func TestCatalogue(t *testing.T) {
	reg := start(t).Registry
	var want []string
	for _, name := range []string{"a", "a/b", "b", "b-c", "c/d/e"} {
		open(t, reg, name).push("v1", nil)
		want = append(want, name)
	}
	open(t, reg, "untagged").blob([]byte("x"))
	r := open(t, reg, "a")
	if got := follow(t, r, "/v2/_catalog"); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := follow(t, r, "/v2/_catalog?n=2"); !slices.Equal(got, want) {
		t.Errorf("by links: %v", got)
	}
	r.want(r.Do(t, "GET", "/v2/_catalog?n=x", nil), 400)
	r.want(r.do("DELETE", "/manifests/v1", nil), 202) // the last tag
	if got := follow(t, r, "/v2/_catalog"); !slices.Equal(got, want[1:]) {
		t.Errorf("after the last tag: %v", got)
	}
}

func TestListingReferrers(t *testing.T) {
	r := start(t)
	subject, _ := r.push("v1", nil)
	of := descriptor(subject)
	path := "/referrers/" + of.Digest.String()
	a := r.want(r.do("GET", path, nil), 200)
	r.header(a, "Content-Type", ocispec.MediaTypeImageIndex)
	if i := decode[ocispec.Index](t, a.Text); i.SchemaVersion != 2 || i.MediaType != ocispec.MediaTypeImageIndex || i.Manifests == nil || len(i.Manifests) != 0 {
		t.Errorf("empty: %s", a.Text)
	}
	r.want(open(t, r.Registry, "no/such").do("GET", path, nil), 200)
	r.want(r.do("GET", "/referrers/sha256:x", nil), 400, "DIGEST_INVALID")
	r.want(r.do("GET", "/referrers/v1", nil), 400, "DIGEST_INVALID")

	sbom, sbomDigest := r.manifest(func(m *ocispec.Manifest) {
		m.Subject, m.ArtifactType, m.Annotations = &of, "application/x.sbom", map[string]string{"format": "json"}
	})
	plain, plainDigest := r.manifest(func(m *ocispec.Manifest) { m.Subject, m.Config.MediaType = &of, "application/x.config" })
	for d, body := range map[digest.Digest][]byte{sbomDigest: sbom, plainDigest: plain} {
		r.want(r.do("PUT", "/manifests/"+d.String(), body, mediaType(ocispec.MediaTypeImageManifest)), 201)
	}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}, Subject: &of}
	index.SchemaVersion = 2
	indexBody, _ := json.Marshal(index)
	r.want(r.do("PUT", "/manifests/"+digest.FromBytes(indexBody).String(), indexBody, mediaType(ocispec.MediaTypeImageIndex)), 201)

	list := func(query string) map[digest.Digest]ocispec.Descriptor {
		a := r.want(r.do("GET", path+query, nil), 200)
		out := map[digest.Digest]ocispec.Descriptor{}
		for _, d := range decode[ocispec.Index](t, a.Text).Manifests {
			out[d.Digest] = d
		}
		if query != "" {
			r.header(a, "OCI-Filters-Applied", "artifactType")
		}
		return out
	}
	all := list("")
	if d := all[sbomDigest]; len(all) != 3 || d.ArtifactType != "application/x.sbom" || d.Annotations["format"] != "json" || d.Size != int64(len(sbom)) || d.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("%+v", all)
	}
	if d := all[plainDigest]; d.ArtifactType != "application/x.config" {
		t.Errorf("the config's type: %+v", d)
	}
	if d := all[digest.FromBytes(indexBody)]; d.ArtifactType != "" || d.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("an index: %+v", d)
	}
	if some := list("?artifactType=application/x.sbom"); len(some) != 1 || some[sbomDigest].Size == 0 {
		t.Errorf("filtered: %+v", some)
	}
	if none := list("?artifactType=application/x.none"); len(none) != 0 {
		t.Errorf("filtered: %+v", none)
	}
	r.want(r.do("DELETE", "/manifests/"+sbomDigest.String(), nil), 202)
	if left := list(""); len(left) != 2 {
		t.Errorf("after a deletion: %+v", left)
	}

	a = r.want(r.Do(t, "GET", "/oras/artifacts/v1/"+r.name+"/manifests/"+of.Digest.String()+"/referrers?artifactType=application/x.config", nil), 200)
	if got := decode[struct{ References []ocispec.Descriptor }](t, a.Text); len(got.References) != 1 || got.References[0].Digest != plainDigest {
		t.Errorf("oras: %s", a.Text)
	}
	r.want(r.Do(t, "GET", "/oras/artifacts/v1/"+r.name+"/manifests/"+of.Digest.String()+"/referrers", nil), 400)
}

func TestReferrersTagSchema(t *testing.T) {
	r := start(t)
	subject, _ := r.push("v1", nil)
	of := descriptor(subject)
	_, d := r.push("sig", func(m *ocispec.Manifest) { m.Subject = &of })
	a := r.want(r.do("GET", "/manifests/"+strings.Replace(of.Digest.String(), ":", "-", 1), nil), 200)
	if i := decode[ocispec.Index](t, a.Text); len(i.Manifests) != 1 || i.Manifests[0].Digest != d {
		t.Errorf("fallback: %s", a.Text)
	}
}
