package catalog

import (
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
)

// Host is the platform that containers run on here.
func Host() ocispec.Platform { return platforms.DefaultSpec() }

// Others are the manifests of platforms that are not wanted, with the attestations about them; none when everything is, and
// not what was there before: known is the same image, nil if it is new.
func (e *Entry) Others(wanted []ocispec.Platform, known *Entry) []digest.Digest {
	if len(wanted) == 0 {
		return nil
	}
	chosen := map[digest.Digest]bool{}
	for _, p := range wanted {
		if m, err := e.Best(&p); err == nil {
			chosen[m.Desc.Digest] = true
		}
	}
	if known != nil {
		for _, m := range known.Manifests {
			chosen[m.Desc.Digest] = chosen[m.Desc.Digest] || m.Available
		}
	}
	var out []digest.Digest
	for _, m := range e.Manifests {
		if chosen[m.Desc.Digest] {
			continue
		}
		if m.Kind == image.ManifestKindImage || m.Kind == image.ManifestKindAttestation && !chosen[m.For] {
			out = append(out, m.Desc.Digest)
		}
	}
	return out
}

// Best is the stored image for a platform. Without one the host's is preferred and any other will do.
func (e *Entry) Best(p *ocispec.Platform) (*Manifest, error) {
	match := platforms.Default()
	if p != nil {
		match = platforms.OnlyStrict(*p)
	}
	var best *Manifest
	for _, m := range e.Manifests {
		if m.Kind != image.ManifestKindImage || !m.Available || p != nil && !match.Match(m.Platform) {
			continue
		}
		if best == nil || match.Match(m.Platform) && !match.Match(best.Platform) || match.Match(m.Platform) && match.Less(m.Platform, best.Platform) {
			best = m
		}
	}
	if best != nil {
		return best, nil
	}
	if p != nil {
		return nil, fault.NotFound("image with reference %s was found but does not provide the specified platform (%s)", e.Familiar(), platforms.FormatAll(*p))
	}
	return nil, fault.NotFound("image with reference %s was found but does not provide any platform", e.Familiar())
}
