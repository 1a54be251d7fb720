package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDocument bounds manifests, indexes and configurations in bytes.
const maxDocument = 8 << 20

// maxDepth bounds how deep indexes may lie in indexes.
const maxDepth = 4

// Annotations of BuildKit's attestation manifests.
const (
	annotationType   = "vnd.docker.reference.type"
	annotationDigest = "vnd.docker.reference.digest"
	attestation      = "attestation-manifest"
)

// NewEntry describes an image from what is stored of it. Missing or broken content makes the entry poorer, never an
// error: such an image must still be listed and removed.
func NewEntry(ctx context.Context, store content.Store, target ocispec.Descriptor, names []images.Image) *Entry {
	e := &Entry{Target: target, Own: map[digest.Digest]int64{}}
	e.setNames(names)
	r := reader{ctx: ctx, store: store}
	r.walk(e, target, 0)
	if info, err := store.Info(ctx, target.Digest); err == nil {
		e.Sources = sources(info.Labels)
	}
	return e
}

// WithNames is the entry with other names.
func (e *Entry) WithNames(names []images.Image) *Entry {
	c := *e
	c.setNames(names)
	return &c
}

func (e *Entry) setNames(names []images.Image) {
	e.Names = make([]Name, 0, len(names))
	for _, img := range names {
		n := Name{Image: img}
		if img.Name != DanglingName(e.Target.Digest) {
			if ref, err := reference.ParseNormalizedNamed(img.Name); err == nil {
				n.Ref = ref
			}
		}
		e.Names = append(e.Names, n)
	}
	sort.Slice(e.Names, func(i, j int) bool { return e.Names[i].Name < e.Names[j].Name })
}

// SourceLabel is the start of the label that tells the repositories of a host a blob was seen in, separated by commas.
const SourceLabel = "containerd.io/distribution.source."

func sources(labels map[string]string) []string {
	var out []string
	for k, v := range labels {
		host, ok := strings.CutPrefix(k, SourceLabel)
		if !ok {
			continue
		}
		for repo := range strings.SplitSeq(v, ",") {
			out = append(out, host+"/"+repo)
		}
	}
	sort.Strings(out)
	return out
}

type reader struct {
	ctx   context.Context //nolint:containedctx // lives for one call of NewEntry
	store content.Store
}

func (r reader) walk(e *Entry, d ocispec.Descriptor, depth int) {
	if images.IsIndexType(d.MediaType) {
		size, ok := r.size(d.Digest)
		if !ok || depth > maxDepth {
			return
		}
		e.Own[d.Digest] = size
		var idx ocispec.Index
		if r.json(d, &idx) != nil {
			return
		}
		for _, m := range idx.Manifests {
			r.walk(e, m, depth+1)
		}
		return
	}
	e.Manifests = append(e.Manifests, r.manifest(d))
}

// manifest reads one manifest and its configuration.
func (r reader) manifest(d ocispec.Descriptor) *Manifest {
	m := &Manifest{Desc: d, Kind: image.ManifestKindUnknown, Blobs: map[digest.Digest]int64{}}
	if d.Platform != nil {
		m.Platform = *d.Platform
	}
	switch {
	case d.Annotations[annotationType] == attestation:
		m.Kind = image.ManifestKindAttestation
		m.For = digest.Digest(d.Annotations[annotationDigest])
	case images.IsManifestType(d.MediaType) && (d.Platform == nil || d.Platform.OS != "unknown"):
		m.Kind = image.ManifestKindImage
	}
	if !r.take(m, d.Digest) {
		return m
	}
	var doc ocispec.Manifest
	if r.json(d, &doc) != nil {
		return m
	}
	m.Config, m.Layers = doc.Config, doc.Layers
	m.Available = true
	for _, b := range append([]ocispec.Descriptor{doc.Config}, doc.Layers...) {
		if !r.take(m, b.Digest) {
			m.Available = false
		}
	}
	if m.Kind != image.ManifestKindImage {
		return m
	}
	if !images.IsConfigType(doc.Config.MediaType) || r.json(doc.Config, &m.Image) != nil {
		if !images.IsConfigType(doc.Config.MediaType) {
			m.Kind = image.ManifestKindUnknown
		}
		m.Image = dockerspec.DockerOCIImage{}
		m.Available = false
		return m
	}
	if d.Platform == nil {
		m.Platform = platforms.Normalize(m.Image.Platform)
	}
	if len(m.Image.RootFS.DiffIDs) > 0 {
		m.ChainIDs = identity.ChainIDs(append([]digest.Digest(nil), m.Image.RootFS.DiffIDs...))
	}
	return m
}

func (r reader) take(m *Manifest, d digest.Digest) bool {
	size, ok := r.size(d)
	if ok {
		m.Blobs[d] = size
	}
	return ok
}

func (r reader) size(d digest.Digest) (int64, bool) {
	info, err := r.store.Info(r.ctx, d)
	return info.Size, err == nil
}

func (r reader) json(d ocispec.Descriptor, v any) error {
	return ReadJSON(r.ctx, r.store, d, v)
}

// ReadJSON reads a stored document of bounded size.
func ReadJSON(ctx context.Context, store content.Provider, d ocispec.Descriptor, v any) error {
	ra, err := store.ReaderAt(ctx, ocispec.Descriptor{Digest: d.Digest})
	if err != nil {
		return fmt.Errorf("read %s: %w", d.Digest, err)
	}
	defer ra.Close()
	if ra.Size() > maxDocument {
		return fmt.Errorf("read %s: %d bytes are too many for a document", d.Digest, ra.Size())
	}
	b := make([]byte, ra.Size())
	if _, err := ra.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", d.Digest, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", d.Digest, err)
	}
	return nil
}
