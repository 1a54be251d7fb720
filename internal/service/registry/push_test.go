package registry_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/distribution"
)

func TestPushAndPull(t *testing.T) {
	r := newRig(t)
	layer, config := random(100_000), random(500)
	doc := r.pushImage("team/app", "v1", config, layer)
	m, err := r.get("team/app", "v1")
	must(t, err)
	if !bytes.Equal(m.Payload, doc) || m.Digest != sha(doc) || m.MediaType != ocispec.MediaTypeImageManifest {
		t.Fatalf("got %s %s", m.Digest, m.MediaType)
	}
	m, err = r.get("team/app", sha(doc).String())
	must(t, err)
	got, err := r.read("team/app", sha(layer))
	must(t, err)
	if !bytes.Equal(got, layer) {
		t.Fatal("another layer came back")
	}
	tags, err := r.Tags(context.Background(), "team/app", distribution.All)
	must(t, err)
	if !slices.Equal(tags.Names, []string{"v1"}) {
		t.Fatalf("tags: %v", tags)
	}
	repos, err := r.Repositories(context.Background(), distribution.All, nil)
	must(t, err)
	if !slices.Equal(repos.Names, []string{"team/app"}) {
		t.Fatalf("catalogue: %v", repos)
	}
	_, err = r.read("other/app", sha(layer))
	wantCode(t, err, distribution.CodeBlobUnknown)
	must(t, r.DeleteManifest(context.Background(), "team/app", ref("v1")))
	repos, err = r.Repositories(context.Background(), distribution.All, nil)
	must(t, err)
	if len(repos.Names) != 0 {
		t.Fatalf("catalogue after the last tag: %v", repos)
	}
	_, err = r.get("team/app", "v1")
	wantCode(t, err, distribution.CodeManifestUnknown)
	_, err = r.get("nobody", "v1")
	wantCode(t, err, distribution.CodeNameUnknown)
}
