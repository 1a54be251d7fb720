package archive

import (
	"context"
	"encoding/json"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
)

// saved is an element of manifest.json (docker save, image specification v1.2).
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerSave understands archives of docker save since 1.10.
func (r *reader) dockerSave(ctx context.Context) ([]Loaded, error) {
	var list []saved
	if err := json.Unmarshal(r.docs["manifest.json"], &list); err != nil {
		return nil, fault.Invalid("invalid manifest.json: %w", err)
	}
	var out []Loaded
	for _, m := range list {
		target, err := r.savedImage(ctx, m)
		if err != nil {
			return nil, err
		}
		if len(m.RepoTags) == 0 {
			out = append(out, Loaded{Target: target})
		}
		for _, t := range m.RepoTags {
			ref, err := reference.ParseNormalizedNamed(t)
			if err != nil {
				return nil, fault.Invalid("invalid tag %q", t)
			}
			out = append(out, Loaded{Name: reference.TagNameOnly(ref).String(), Target: target})
		}
	}
	if len(out) == 0 {
		return nil, fault.Invalid("invalid manifest.json: no images")
	}
	return out, nil
}

func (r *reader) savedImage(ctx context.Context, m saved) (ocispec.Descriptor, error) {
	config, ok := r.lookup(m.Config)
	if !ok {
		return config, fault.Invalid("invalid archive: config %q is missing", m.Config)
	}
	b, err := r.store.ReadBytes(ctx, config, maxDocument)
	if err != nil {
		return config, fault.Invalid("invalid archive: config %q: %w", m.Config, err)
	}
	var doc ocispec.Image
	if err := json.Unmarshal(b, &doc); err != nil {
		return config, fault.Invalid("invalid archive: config %q: %w", m.Config, err)
	}
	if expected, actual := len(m.Layers), len(doc.RootFS.DiffIDs); expected != actual {
		return config, fault.Invalid("invalid manifest, layers length mismatch: expected %d, got %d", expected, actual)
	}
	layers := make([]ocispec.Descriptor, 0, len(m.Layers))
	for i, name := range m.Layers {
		d, ok := r.lookup(name)
		if !ok {
			if diff := doc.RootFS.DiffIDs[i]; r.store.Has(ctx, diff) { // left out because it was known to be here
				d, ok = ocispec.Descriptor{Digest: diff}, true
			}
		}
		if !ok {
			return config, fault.Invalid("invalid archive: layer %q is missing", name)
		}
		d, diff, err := r.layer(ctx, d)
		if err != nil {
			return config, err
		}
		if diff != "" && diff != doc.RootFS.DiffIDs[i] {
			return config, fault.Invalid("invalid diffID for layer %d: expected %q, got %q", i, doc.RootFS.DiffIDs[i], diff)
		}
		if d.Size == 0 {
			if info, err := r.store.Content().Info(ctx, d.Digest); err == nil {
				d.Size = info.Size
			}
		}
		layers = append(layers, d)
	}
	config.MediaType = typeConfig
	return r.image(ctx, config, layers)
}

// layout understands OCI image layouts, those that docker save has written since 25 among them.
func (r *reader) layout(ctx context.Context) ([]Loaded, error) {
	var lay ocispec.ImageLayout
	if err := json.Unmarshal(r.docs["oci-layout"], &lay); err != nil || lay.Version == "" {
		return nil, fault.Invalid("invalid archive: oci-layout has no version")
	}
	if lay.Version != ocispec.ImageLayoutVersion {
		return nil, fault.Invalid("unsupported OCI version %s", lay.Version)
	}
	var idx ocispec.Index
	if err := json.Unmarshal(r.docs["index.json"], &idx); err != nil {
		return nil, fault.Invalid("invalid index.json: %w", err)
	}
	if len(idx.Manifests) == 0 {
		return nil, fault.Invalid("invalid index.json: no manifests")
	}
	var out []Loaded
	for _, d := range idx.Manifests {
		if err := d.Digest.Validate(); err != nil {
			return nil, fault.Invalid("invalid index.json: digest %q: %w", d.Digest, err)
		}
		if err := r.complete(ctx, d); err != nil {
			return nil, err
		}
		name := layoutName(d.Annotations)
		d.Annotations = nil
		out = append(out, Loaded{Name: name, Target: d})
	}
	return out, nil
}

// layoutName is the reference that a layout gives a manifest: containerd's full name, else the OCI reference name.
func layoutName(annotations map[string]string) string {
	for _, key := range []string{"io.containerd.image.name", ocispec.AnnotationRefName} {
		if ref, err := reference.ParseNormalizedNamed(annotations[key]); err == nil {
			return reference.TagNameOnly(ref).String()
		}
	}
	return ""
}

// complete checks that a manifest is whole. Of an index at least one manifest must be: other platforms may be missing.
func (r *reader) complete(ctx context.Context, d ocispec.Descriptor) error {
	b, err := r.store.ReadBytes(ctx, d, maxDocument)
	if err != nil {
		return fault.Invalid("invalid archive: manifest %s is missing: %w", d.Digest, err)
	}
	var doc struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return fault.Invalid("invalid archive: manifest %s: %w", d.Digest, err)
	}
	switch {
	case doc.Config != nil:
		for _, c := range append([]ocispec.Descriptor{*doc.Config}, doc.Layers...) {
			if c.Digest.Validate() != nil || !r.store.Has(ctx, c.Digest) {
				return fault.Invalid("invalid archive: content %s of manifest %s is missing", c.Digest, d.Digest)
			}
		}
		return nil
	case doc.Manifests != nil:
		var first error
		for _, m := range doc.Manifests {
			if m.Digest.Validate() != nil || !r.store.Has(ctx, m.Digest) {
				continue
			}
			err := r.complete(ctx, m)
			if err == nil {
				return nil
			}
			if first == nil {
				first = err
			}
		}
		if first == nil {
			first = fault.Invalid("invalid archive: no manifest of index %s is there", d.Digest)
		}
		return first
	}
	return fault.Invalid("invalid archive: %s is neither manifest nor index", d.Digest)
}
