package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/driver/registryclient"
)

// Distribution tells what a registry has under a name: descriptor and platforms.
func (e *Engine) Distribution(ctx context.Context, name string, auth *registry.AuthConfig) (registry.DistributionInspect, error) {
	var out registry.DistributionInspect
	parsed, err := reference.ParseAnyReference(name)
	if err != nil {
		return out, fault.Invalid("%w", err)
	}
	ref, ok := parsed.(reference.Named)
	if !ok {
		return out, fault.Internal("no manifest found for full image ID")
	}
	ref = reference.TagNameOnly(ref)
	repos, err := e.Client.Repositories(ctx, ref, auth, registryclient.Pull)
	if err != nil {
		return out, err
	}
	from := newSources(repos)
	defer from.Close()
	last := from.each(ctx, func(s *source) bool { return s.Resolves() && s.Holds() }, func(src *source) (err error) {
		out, err = distribution(ctx, src.Repository, ref)
		return err
	}, nil)
	if last == nil {
		return out, nil
	}
	var re *registryclient.Error
	if errors.As(last, &re) {
		if re.Code == "DENIED" || re.Code == "UNAUTHORIZED" || re.Code == "NAME_UNKNOWN" {
			return out, fault.New(re.Unwrap(), "%w", re)
		}
		return out, registryError(re)
	}
	return out, last
}

func distribution(ctx context.Context, r *registryclient.Repository, ref reference.Named) (registry.DistributionInspect, error) {
	out := registry.DistributionInspect{Platforms: []ocispec.Platform{}}
	tag := ""
	switch x := ref.(type) {
	case reference.Digested:
		tag = x.Digest().String()
	case reference.Tagged:
		tag = x.Tag()
	}
	d, body, err := r.Manifest(ctx, tag)
	if err != nil {
		return out, err
	}
	out.Descriptor = d
	if c8images.IsIndexType(d.MediaType) {
		var idx ocispec.Index
		if err := json.Unmarshal(body, &idx); err != nil {
			return out, fault.Internal("invalid index: %w", err)
		}
		for _, m := range idx.Manifests {
			if m.Platform != nil {
				out.Platforms = append(out.Platforms, *m.Platform)
			}
		}
		return out, nil
	}
	var doc ocispec.Manifest
	if err := json.Unmarshal(body, &doc); err != nil || doc.Config.Digest.Validate() != nil {
		return out, nil
	}
	if p, ok := configPlatform(ctx, r, doc.Config); ok {
		out.Platforms = append(out.Platforms, p)
	}
	return out, nil
}

func configPlatform(ctx context.Context, r *registryclient.Repository, d ocispec.Descriptor) (ocispec.Platform, bool) {
	var p ocispec.Platform
	if d.Size > 8<<20 {
		return p, false
	}
	rc, err := r.Blob(ctx, d, registryclient.Start{})
	if err != nil {
		return p, false
	}
	defer rc.Close()
	if err := json.NewDecoder(io.LimitReader(rc, 8<<20)).Decode(&p); err != nil {
		return p, false
	}
	return p, p.OS != "" || p.Architecture != ""
}
