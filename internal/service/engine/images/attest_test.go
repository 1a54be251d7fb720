package images

import (
	"bytes"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	imagetypes "github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layout builds OCI image layouts for tests.
type layout struct {
	t     testing.TB
	files []file
}

func (l *layout) blob(media string, body []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: media, Digest: digest.FromBytes(body), Size: int64(len(body))}
	l.files = append(l.files, file{name: "blobs/sha256/" + d.Digest.Encoded(), body: body})
	return d
}

func (l *layout) image(arch string) ocispec.Descriptor {
	layer := l.blob(ocispec.MediaTypeImageLayer, tarOf(l.t, file{name: "arch", body: []byte(arch)}))
	config := l.blob(ocispec.MediaTypeImageConfig, mustJSON(l.t, map[string]any{
		"os": "linux", "architecture": arch, "rootfs": map[string]any{"type": "layers", "diff_ids": []string{layer.Digest.String()}},
	}))
	d := l.manifest(config, layer)
	d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
	return d
}

func (l *layout) manifest(config ocispec.Descriptor, layers ...ocispec.Descriptor) ocispec.Descriptor {
	return l.blob(ocispec.MediaTypeImageManifest, mustJSON(l.t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config, "layers": layers,
	}))
}

func (l *layout) index(name string, manifests ...ocispec.Descriptor) (digest.Digest, []byte) {
	top := l.blob(ocispec.MediaTypeImageIndex, mustJSON(l.t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": manifests,
	}))
	top.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	files := append(l.files, file{name: "oci-layout", body: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		file{name: "index.json", body: mustJSON(l.t, map[string]any{"schemaVersion": 2, "manifests": []any{top}})})
	return top.Digest, tarOf(l.t, files...)
}

func TestAttestations(t *testing.T) {
	r := newRig(t, Config{})
	l := &layout{t: t}
	img := l.image("amd64")
	statement := `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2","predicate":{}}`
	layer := l.blob("application/vnd.in-toto+json", []byte(statement))
	bill := l.blob("application/vnd.in-toto+json", []byte(`{"predicateType":"https://spdx.dev/Document"}`))
	layer.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
	att := l.manifest(l.blob(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"unknown","os":"unknown"}`)), layer, bill)
	att.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	att.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": img.Digest.String()}
	id, archive := l.index("app:1", img, att)
	r.load(t, archive)
	ctx := t.Context()
	amd := &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	list, err := r.Attestations(ctx, "app:1", AttestationOptions{Platform: amd, Statement: true})
	if err != nil || len(list) != 2 || list[0].PredicateType != "https://slsa.dev/provenance/v0.2" || string(*list[0].Statement) != statement || list[1].PredicateType != "https://spdx.dev/Document" {
		t.Errorf("%+v %v", list, err)
	}
	list, err = r.Attestations(ctx, "app:1", AttestationOptions{Platform: amd, Types: []string{"https://spdx.dev/Document"}})
	if err != nil || len(list) != 1 || list[0].Statement != nil {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := r.Attestations(ctx, "app:1", AttestationOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	ins, err := r.Inspect(ctx, "app:1", InspectOptions{Manifests: true})
	if err != nil || ins.ID != id.String() || len(ins.Manifests) != 2 || ins.Manifests[1].Kind != imagetypes.ManifestKindAttestation || ins.Manifests[1].AttestationData.For != img.Digest {
		t.Errorf("%+v %v", ins, err)
	}
	// The whole index, attestations and all, goes out and comes back with the same digest.
	p := newPeer(t, nil)
	if err := r.Tag(ctx, "app:1", p.host+"/app", "1"); err != nil {
		t.Fatal(err)
	}
	var out []string
	if err := r.Push(ctx, PushOptions{Image: p.host + "/app", Tag: "1"}, collect(t, &out)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(out, "\n"), "1: digest: "+id.String()) {
		t.Errorf("pushed another digest: %v", out)
	}
}

func TestPlatformOfLoadAndSparseSave(t *testing.T) {
	r, b := newRig(t, Config{}), newRig(t, Config{})
	l := &layout{t: t}
	id, archive := l.index("app:1", l.image("amd64"), l.image("arm64"))
	err := r.Load(t.Context(), bytes.NewReader(archive), []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}, func(any) error { return nil })
	if !errdefs.IsNotFound(err) || err.Error() != "image app:1 was loaded, but doesn't provide the requested platform (linux/s390x)" {
		t.Errorf("%v", err)
	}
	if len(r.cat.All()) != 0 {
		t.Error("a refused load left an image")
	}
	r.load(t, archive)
	p := newPeer(t, nil)
	if err := r.Tag(t.Context(), "app:1", p.host+"/app", "1"); err != nil {
		t.Fatal(err)
	}
	discard := func(any) error { return nil }
	if err := r.Push(t.Context(), PushOptions{Image: p.host + "/app", Tag: "1"}, discard); err != nil {
		t.Fatal(err)
	}
	// A pull brings one platform; what is saved of it is an index that lacks the other, and loads again as such.
	if err := b.Pull(t.Context(), PullOptions{Image: p.host + "/app:1"}, discard); err != nil {
		t.Fatal(err)
	}
	v, err := b.Save(t.Context(), []string{p.host + "/app:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var buf bytes.Buffer
	if err := v.Write(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	c := newRig(t, Config{})
	c.load(t, buf.Bytes())
	img, err := c.Resolve(t.Context(), p.host+"/app:1", nil)
	if err != nil || img.ID != id {
		t.Errorf("%v %v", img.ID, err)
	}
	// Pushing it elsewhere sends the variant that is here and says so.
	if err := c.Tag(t.Context(), p.host+"/app:1", p.host+"/copy", "1"); err != nil {
		t.Fatal(err)
	}
	var out []string
	if err := c.Push(t.Context(), PushOptions{Image: p.host + "/copy", Tag: "1"}, collect(t, &out)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(out, "\n"), `"manifestPushedInsteadOfIndex":true`) {
		t.Errorf("%v", out)
	}
}
