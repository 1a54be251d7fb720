package images

import (
	"context"
	"sort"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/service/engine/images/catalog"
)

// parentLabel on a name is the image that the classic builder, or a commit, started from.
const parentLabel = "org.mobyproject.image.parent"

// ListOptions selects and enriches what List gives.
type ListOptions struct {
	// All shows intermediate images too.
	All bool
	// Filters are docker's: before, since, dangling, label, label!, reference, until.
	Filters    map[string][]string
	SharedSize bool
	Manifests  bool
	// Identity adds origins to the manifests.
	Identity bool
}

// List gives the images that pass the filters, newest first.
func (s *Service) List(ctx context.Context, o ListOptions) ([]*image.Summary, error) {
	keep, err := s.filter(o.Filters)
	if err != nil {
		return nil, err
	}
	all := s.cat.All()
	hidden := map[digest.Digest]bool{}
	if !o.All {
		for _, e := range all {
			if p := e.Label(parentLabel); p != "" {
				hidden[digest.Digest(p)] = true
			}
		}
	}
	counts := s.uses.counts()
	out := make([]*image.Summary, 0, len(all))
	shown := make([]*catalog.Entry, 0, len(all))
	for _, e := range all {
		if hidden[e.ID()] && e.Dangling() {
			continue
		}
		names := keep(e)
		if len(names) == 0 {
			continue
		}
		sum := s.summary(ctx, e, names, o)
		sum.Containers = counts[e.ID()]
		out = append(out, sum)
		shown = append(shown, e)
	}
	if o.SharedSize {
		s.fillShared(ctx, shown, out)
	}
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].Created != out[j].Created {
			return out[i].Created > out[j].Created
		}
		return out[i].ID < out[j].ID
	})
	return out, nil
}

// summary describes an image under the given names.
func (s *Service) summary(ctx context.Context, e *catalog.Entry, names []catalog.Name, o ListOptions) *image.Summary {
	target := e.Target
	sum := &image.Summary{
		ID: e.ID().String(), ParentID: e.Label(parentLabel), SharedSize: -1, Containers: -1, Descriptor: &target,
	}
	sum.RepoTags, sum.RepoDigests = repoNames(names, e.ID())
	for _, m := range e.Manifests {
		ms := s.manifestSummary(ctx, m, e, o.Identity)
		sum.Size += ms.Size.Total
		if o.Manifests {
			sum.Manifests = append(sum.Manifests, ms)
		}
	}
	if best, err := e.Best(nil); err == nil {
		sum.Labels = best.Image.Config.Labels
		if best.Image.Created != nil {
			sum.Created = best.Image.Created.Unix()
		}
	}
	return sum
}

// repoNames are RepoTags and RepoDigests; both non-nil.
func repoNames(names []catalog.Name, id digest.Digest) (tags, digests []string) {
	tags, digests = []string{}, []string{}
	seen := map[string]bool{}
	for _, n := range names {
		if n.Ref == nil {
			if n.Name != catalog.DanglingName(id) {
				tags = append(tags, n.Name)
			}
			continue
		}
		if _, ok := n.Ref.(reference.Tagged); ok {
			tags = append(tags, reference.FamiliarString(n.Ref))
		}
		d, err := reference.WithDigest(reference.TrimNamed(n.Ref), id)
		if err != nil {
			continue
		}
		if f := reference.FamiliarString(d); !seen[f] {
			seen[f] = true
			digests = append(digests, f)
		}
	}
	return tags, digests
}

func (s *Service) manifestSummary(ctx context.Context, m *catalog.Manifest, e *catalog.Entry, identity bool) image.ManifestSummary {
	ms := image.ManifestSummary{ID: m.Desc.Digest.String(), Descriptor: m.Desc, Available: m.Available, Kind: m.Kind}
	ms.Size.Content = m.ContentSize()
	ms.Size.Total = ms.Size.Content
	switch m.Kind {
	case image.ManifestKindAttestation:
		ms.AttestationData = &image.AttestationProperties{For: m.For}
	case image.ManifestKindImage:
		p := &image.ImageProperties{Platform: m.Platform, Containers: []string{}}
		p.Size.Unpacked, _ = s.store.ChainSize(ctx, m.ChainID().String())
		ms.Size.Total += p.Size.Unpacked
		if best, err := e.Best(nil); err == nil && best == m {
			p.Containers = append(p.Containers, s.uses.of(e.ID())...)
			sort.Strings(p.Containers)
		}
		if identity {
			p.Identity = originOf(e)
		}
		ms.ImageData = p
	}
	return ms
}

// originOf tells where an image came from; nil when that is not known.
func originOf(e *catalog.Entry) *image.Identity {
	if len(e.Sources) == 0 {
		return nil
	}
	id := &image.Identity{}
	for _, src := range e.Sources {
		id.Pull = append(id.Pull, image.PullIdentity{Repository: src})
	}
	return id
}

// fillShared computes the size of the layers that each image shares with another one of the list.
func (s *Service) fillShared(ctx context.Context, entries []*catalog.Entry, sums []*image.Summary) {
	users := map[digest.Digest]int{}
	chains := make([]map[digest.Digest]bool, len(entries))
	for i, e := range entries {
		chains[i] = chainsOf(e)
		for c := range chains[i] {
			users[c]++
		}
	}
	for i := range entries {
		sums[i].SharedSize = 0
		for c := range chains[i] {
			if users[c] > 1 {
				sums[i].SharedSize += s.store.LayerSize(ctx, c.String())
			}
		}
	}
}

func chainsOf(e *catalog.Entry) map[digest.Digest]bool {
	out := map[digest.Digest]bool{}
	for _, m := range e.Manifests {
		for _, c := range m.ChainIDs {
			out[c] = true
		}
	}
	return out
}

// DiskUsage gives all images with shared sizes and container counts, and what images take on disk in bytes: blobs and
// unpacked layers, each counted once.
func (s *Service) DiskUsage(ctx context.Context) (layersSize int64, images []*image.Summary, err error) {
	images, err = s.List(ctx, ListOptions{All: true, SharedSize: true})
	if err != nil {
		return 0, nil, err
	}
	blobs, chains := map[digest.Digest]int64{}, map[digest.Digest]bool{}
	for _, e := range s.cat.All() {
		for d, n := range e.Blobs() {
			blobs[d] = n
		}
		for c := range chainsOf(e) {
			chains[c] = true
		}
	}
	for _, n := range blobs {
		layersSize += n
	}
	for c := range chains {
		layersSize += s.store.LayerSize(ctx, c.String())
	}
	return layersSize, images, nil
}

// Count is the number of images, for /info.
func (s *Service) Count() int { return len(s.cat.All()) }

// InspectOptions selects what Inspect shows; the two exclude each other.
type InspectOptions struct {
	Manifests bool
	Platform  *ocispec.Platform
}
