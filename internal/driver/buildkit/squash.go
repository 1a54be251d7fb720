package buildkit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/util/progress"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
)

// squash makes one layer of those that the build put on its base, and gives the image that results. The target's own
// documents stay as they are.
func (e *mobyInstance) squash(ctx context.Context, src *exporter.Source, target ocispec.Descriptor) (ocispec.Descriptor, error) {
	if images.IsIndexType(target.MediaType) || src.Ref == nil {
		return target, fault.Invalid("squash is for images of one platform without attestations")
	}
	done := progress.OneOff(ctx, "squashing layers")
	out, err := e.squashed(ctx, src, target)
	return out, done(err)
}

func (e *mobyInstance) squashed(ctx context.Context, src *exporter.Source, target ocispec.Descriptor) (ocispec.Descriptor, error) {
	var m ocispec.Manifest
	if err := e.read(ctx, target, &m); err != nil {
		return target, err
	}
	var doc map[string]json.RawMessage
	if err := e.read(ctx, m.Config, &doc); err != nil {
		return target, err
	}
	var config ocispec.Image
	if err := e.read(ctx, m.Config, &config); err != nil {
		return target, err
	}
	base := baseLayers(src)
	if base >= len(m.Layers)-1 || base > len(config.RootFS.DiffIDs) {
		return target, nil // one layer, or none
	}
	layer, err := e.compare(ctx, src.Ref, base)
	if err != nil {
		return target, fmt.Errorf("squash layers: %w", err)
	}
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs[:base:base], digest.Digest(layer.Annotations[labels.LabelUncompressed]))
	layer.Annotations = nil
	m.Layers = append(m.Layers[:base:base], layer)
	config.History = squashedHistory(config.History, base)
	for key, v := range map[string]any{"rootfs": config.RootFS, "history": config.History} {
		if doc[key], err = json.Marshal(v); err != nil {
			return target, err
		}
	}
	if m.Config, err = e.write(ctx, m.Config.MediaType, doc); err != nil {
		return target, err
	}
	out, err := e.write(ctx, target.MediaType, m)
	out.Platform = target.Platform
	return out, err
}

// baseLayers is how many layers the image that the build began with has.
func baseLayers(src *exporter.Source) int {
	var base struct {
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	for key, text := range src.Metadata {
		if key == exptypes.ExporterImageBaseConfigKey || strings.HasPrefix(key, exptypes.ExporterImageBaseConfigKey+"/") {
			if json.Unmarshal(text, &base) == nil {
				return len(base.RootFS.DiffIDs)
			}
		}
	}
	return 0
}

// squashedHistory keeps the base's history; the build's steps have no layers of their own any more.
func squashedHistory(h []ocispec.History, base int) []ocispec.History {
	layers := 0
	for i := range h {
		if h[i].EmptyLayer {
			continue
		}
		if layers++; layers > base {
			h[i].EmptyLayer = true
		}
	}
	now := time.Now().UTC()
	return append(h, ocispec.History{Created: &now, Comment: "squashed"})
}

// compare writes the layer that leads from the base to the whole.
func (e *mobyInstance) compare(ctx context.Context, ref cache.ImmutableRef, base int) (ocispec.Descriptor, error) {
	if err := ref.Extract(ctx, nil); err != nil {
		return ocispec.Descriptor{}, err
	}
	upper, release, err := mountsOf(ctx, ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer release()
	var lower []mount.Mount
	if base > 0 {
		chain := ref.LayerChain()
		defer chain.Release(context.WithoutCancel(ctx))
		if base > len(chain) {
			return ocispec.Descriptor{}, fmt.Errorf("base has %d layers, the image %d", base, len(chain))
		}
		below, release, err := mountsOf(ctx, chain[base-1])
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		defer release()
		lower = below
	}
	d, err := e.worker.Differ.Compare(ctx, lower, upper, diff.WithMediaType(ocispec.MediaTypeImageLayerGzip))
	if err != nil {
		return d, err
	}
	info, err := e.worker.ContentStore().Info(ctx, d.Digest)
	if err != nil {
		return d, err
	}
	d.Annotations = map[string]string{labels.LabelUncompressed: info.Labels[labels.LabelUncompressed]}
	return d, nil
}

func mountsOf(ctx context.Context, ref cache.ImmutableRef) ([]mount.Mount, func(), error) {
	m, err := ref.Mount(ctx, true, nil)
	if err != nil {
		return nil, nil, err
	}
	mounts, release, err := m.Mount()
	if err != nil {
		return nil, nil, err
	}
	return mounts, func() { _ = release() }, nil
}

// write stores a document under the context's lease.
func (e *mobyInstance) write(ctx context.Context, media string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode %s: %w", media, err)
	}
	d := ocispec.Descriptor{MediaType: media, Digest: digest.FromBytes(b), Size: int64(len(b))}
	err = content.WriteBlob(ctx, e.worker.ContentStore(), "squash-"+d.Digest.String(), bytes.NewReader(b), d)
	return d, err
}

// renamed is a reference to what a result became.
type renamed struct {
	exporter.DescriptorReference
	desc ocispec.Descriptor
}

// Descriptor implements BuildKit's exporter.DescriptorReference.
func (r renamed) Descriptor() ocispec.Descriptor { return r.desc }
