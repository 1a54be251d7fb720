package images

import (
	"context"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/images/catalog"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Inspect describes one image.
func (s *Service) Inspect(ctx context.Context, ref string, o InspectOptions) (*image.InspectResponse, error) {
	if o.Manifests && o.Platform != nil {
		return nil, fault.Invalid("conflicting options: manifests and platform options cannot both be set")
	}
	f, err := s.cat.Find(ref)
	if err != nil {
		return nil, err
	}
	best, err := f.Best(o.Platform)
	if err != nil && o.Platform != nil {
		return nil, err
	}
	target := f.Target
	if o.Platform != nil {
		target = best.Desc
	}
	out := &image.InspectResponse{
		ID: target.Digest.String(), Descriptor: &target, Identity: originOf(f.Entry),
		Metadata: image.Metadata{LastTagTime: f.Updated()},
	}
	out.RepoTags, out.RepoDigests = repoNames(f.Names, f.ID())
	if o.Manifests {
		for _, m := range f.Manifests {
			out.Manifests = append(out.Manifests, s.manifestSummary(ctx, m, f.Entry, true))
		}
	}
	if best != nil {
		s.inspectVariant(ctx, out, best)
	}
	return out, nil
}

func (s *Service) inspectVariant(ctx context.Context, out *image.InspectResponse, m *catalog.Manifest) {
	unpacked, _ := s.store.ChainSize(ctx, m.ChainID().String())
	out.Size = m.ContentSize() + unpacked
	cfg := m.Image
	out.Config = &cfg.Config
	out.Author, out.Architecture, out.Variant = cfg.Author, cfg.Architecture, cfg.Variant
	out.Os, out.OsVersion = cfg.OS, cfg.OSVersion
	if n := len(cfg.History); n > 0 {
		out.Comment = cfg.History[n-1].Comment
	}
	if cfg.Created != nil {
		out.Created = cfg.Created.Format(time.RFC3339Nano)
	}
	out.RootFS.Type = cfg.RootFS.Type
	for _, d := range cfg.RootFS.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, d.String())
	}
}

// History lists an image's build steps, newest first. Only the newest has an ID; sizes are those of unpacked layers.
func (s *Service) History(ctx context.Context, ref string, p *ocispec.Platform) ([]image.HistoryResponseItem, error) {
	f, m, err := s.find(ref, p)
	if err != nil {
		return nil, err
	}
	steps := m.Image.History
	if len(steps) == 0 {
		for range m.ChainIDs {
			steps = append(steps, ocispec.History{})
		}
	}
	out := make([]image.HistoryResponseItem, 0, len(steps))
	layer := 0
	for _, h := range steps {
		item := image.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && layer < len(m.ChainIDs) {
			item.Size = s.store.LayerSize(ctx, m.ChainIDs[layer].String())
			layer++
		}
		out = append(out, item)
	}
	slices.Reverse(out)
	if len(out) > 0 {
		out[0].ID = f.ID().String()
		for _, n := range f.Refs() {
			if _, tagged := n.Ref.(reference.Tagged); tagged {
				out[0].Tags = append(out[0].Tags, reference.FamiliarString(n.Ref))
			}
		}
	}
	return out, nil
}

// AttestationOptions selects attestation statements.
type AttestationOptions struct {
	Platform *ocispec.Platform
	// Types keeps only these predicate types; empty keeps all.
	Types []string
	// Statement includes the statements themselves.
	Statement bool
}

// Attestations lists the in-toto statements attached to an image's variant.
func (s *Service) Attestations(ctx context.Context, ref string, o AttestationOptions) ([]image.AttestationStatement, error) {
	f, err := s.cat.Find(ref)
	if err != nil {
		return nil, err
	}
	p := o.Platform
	if p == nil {
		host := catalog.Host()
		p = &host
	}
	best, err := f.Best(p)
	if err != nil {
		return nil, err
	}
	out := []image.AttestationStatement{}
	for _, m := range f.Manifests {
		if m.Kind != image.ManifestKindAttestation || m.For != best.Desc.Digest {
			continue
		}
		for _, l := range m.Layers {
			st, ok, err := catalog.Attestation(ctx, s.store.Content(), l, o.Types, o.Statement)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, st)
			}
		}
	}
	return out, nil
}
