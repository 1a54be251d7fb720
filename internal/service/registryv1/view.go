package registryv1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"longshore/internal/core/distribution"
	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
	"longshore/internal/core/manifest"
)

// Media types of docker's schema 2.
const (
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar"
)

// maxConfig bounds an image's configuration in bytes.
const maxConfig = 8 << 20

// Tags lists a repository's tags with the images that they stand for. What is no image of one platform is left out.
func (s *Service) Tags(ctx context.Context, repo distribution.RepoName) (map[distribution.Tag]imagev1.ID, error) {
	tops, err := s.graph.Tops(ctx, repo)
	if err != nil {
		return nil, told(err, errRepo)
	}
	if len(tops) == 0 { // a repository comes to be with its first tag
		return nil, errRepo
	}
	if err := s.ensure(ctx, repo, tops); err != nil {
		return nil, err
	}
	tags := make(map[distribution.Tag]imagev1.ID, len(tops))
	for _, t := range tops {
		if t.Top == "" {
			chain, err := s.chain(ctx, repo, Manifest{Digest: t.Digest, MediaType: t.MediaType})
			if errors.Is(err, imagev1.ErrNoImage) || errdefs.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			t.Top = chain[len(chain)-1].ID
		}
		tags[t.Tag] = t.Top
	}
	return tags, nil
}

// parallelChains is how many chains are made at a time: those that are kept together share a sync.
const parallelChains = 8

// ensure makes the chains of tags that nobody has asked for before. What is no image is left out.
func (s *Service) ensure(ctx context.Context, repo distribution.RepoName, tops []graph.TagTop) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelChains)
	seen := map[digest.Digest]bool{}
	for _, t := range tops {
		if t.Top != "" || seen[t.Digest] || manifest.IsIndex(t.MediaType) {
			continue
		}
		seen[t.Digest] = true
		g.Go(func() error {
			_, err := s.chain(ctx, repo, Manifest{Digest: t.Digest, MediaType: t.MediaType})
			if errors.Is(err, imagev1.ErrNoImage) || errdefs.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

// Tag finds the image that a tag stands for. It counts as a pull.
func (s *Service) Tag(ctx context.Context, repo distribution.RepoName, tag string) (imagev1.ID, error) {
	chain, err := s.tagged(ctx, repo, tag, true)
	if err != nil {
		return "", err
	}
	return chain[len(chain)-1].ID, nil
}

func (s *Service) tagged(ctx context.Context, repo distribution.RepoName, tag string, pull bool) ([]graph.Image, error) {
	t, err := distribution.ParseTag(tag)
	if err != nil {
		return nil, errTag
	}
	m, err := s.registry.Manifest(ctx, repo, distribution.Reference{Tag: t}, pull)
	if err != nil {
		return nil, told(err, errTag)
	}
	chain, err := s.chain(ctx, repo, m)
	if errors.Is(err, imagev1.ErrNoImage) {
		return nil, errTag
	}
	return chain, told(err, errTag)
}

// chain gives the images that a manifest stands for, base first; they are made when nobody has asked before. Of an index it
// is the image for linux on amd64. ErrNoImage when there is none. m needs no payload.
func (s *Service) chain(ctx context.Context, repo distribution.RepoName, m Manifest) ([]graph.Image, error) {
	if manifest.IsIndex(m.MediaType) {
		child, err := s.platform(ctx, repo, m)
		if err != nil {
			return nil, err
		}
		m = child
	}
	list, err := s.graph.Chain(ctx, repo, m.Digest)
	if !errdefs.IsNotFound(err) {
		return list, err
	}
	if list, err = s.images(ctx, repo, m); err != nil {
		return nil, err
	}
	if err := s.graph.PutChain(ctx, repo, m.Digest, list); err != nil {
		return nil, err
	}
	s.summon()
	return s.graph.Chain(ctx, repo, m.Digest)
}

func (s *Service) payload(ctx context.Context, repo distribution.RepoName, m Manifest) (Manifest, error) {
	if m.Payload != nil {
		return m, nil
	}
	return s.registry.Manifest(ctx, repo, distribution.Reference{Digest: m.Digest}, false)
}

// platform finds the manifest in an index that clients of this API can run.
func (s *Service) platform(ctx context.Context, repo distribution.RepoName, m Manifest) (Manifest, error) {
	m, err := s.payload(ctx, repo, m)
	if err != nil {
		return m, err
	}
	doc, err := manifest.Parse(m.MediaType, m.Payload)
	if err != nil {
		return m, fmt.Errorf("%w: %w", imagev1.ErrNoImage, err)
	}
	for _, c := range doc.Children {
		if c.Platform != nil && c.Platform.OS == "linux" && c.Platform.Architecture == "amd64" && manifest.IsImage(c.MediaType) {
			return s.registry.Manifest(ctx, repo, distribution.Reference{Digest: c.Digest}, false)
		}
	}
	return m, fmt.Errorf("%w: nothing for linux/amd64", imagev1.ErrNoImage)
}

// images makes images of a manifest of today.
func (s *Service) images(ctx context.Context, repo distribution.RepoName, m Manifest) ([]graph.Image, error) {
	m, err := s.payload(ctx, repo, m)
	if err != nil {
		return nil, err
	}
	var doc ocispec.Manifest
	if !manifest.IsImage(m.MediaType) || json.Unmarshal(m.Payload, &doc) != nil {
		return nil, fmt.Errorf("%w: a manifest of type %q", imagev1.ErrNoImage, m.MediaType)
	}
	if t := doc.Config.MediaType; t != dockerConfig && t != ocispec.MediaTypeImageConfig {
		return nil, fmt.Errorf("%w: a configuration of type %q", imagev1.ErrNoImage, t)
	}
	config, err := s.read(ctx, repo, doc.Config.Digest)
	if err != nil {
		return nil, err
	}
	layers, err := imagev1.Images(config)
	if err != nil {
		return nil, err
	}
	if len(layers) != len(doc.Layers) && !(len(doc.Layers) == 0 && layers[0].Empty) {
		return nil, fmt.Errorf("%w: %d layers and %d digests of them", imagev1.ErrNoImage, len(doc.Layers), len(layers))
	}
	list := make([]graph.Image, len(layers))
	for n, l := range layers {
		list[n] = graph.Image{
			ID: l.ID, Parent: l.Parent, JSON: l.JSON, DiffID: l.DiffID, Empty: l.Empty, State: graph.Complete, Added: s.cfg.Now(),
		}
		if l.Empty {
			continue
		}
		d := doc.Layers[n]
		if list[n].Encoding, err = encodingOfType(d); err != nil {
			return nil, err
		}
		list[n].Layer, list[n].Size = d.Digest, d.Size
	}
	return list, nil
}

// encodingOfType reads a layer's media type.
func encodingOfType(d ocispec.Descriptor) (graph.Encoding, error) {
	base := strings.TrimSuffix(strings.TrimSuffix(d.MediaType, "+gzip"), ".gzip")
	switch {
	case len(d.URLs) > 0:
	case d.MediaType == ocispec.MediaTypeImageLayerZstd:
		return graph.Zstd, nil
	case base != dockerLayer && base != ocispec.MediaTypeImageLayer:
	case base == d.MediaType:
		return graph.Plain, nil
	default:
		return graph.Gzip, nil
	}
	return "", fmt.Errorf("%w: a layer of type %q", imagev1.ErrNoImage, d.MediaType)
}

// read reads a small blob whole.
func (s *Service) read(ctx context.Context, repo distribution.RepoName, d digest.Digest) ([]byte, error) {
	content, err := s.registry.Open(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	if content.Size > maxConfig {
		return nil, fmt.Errorf("%w: a configuration of %d bytes", imagev1.ErrNoImage, content.Size)
	}
	return io.ReadAll(io.LimitReader(content, maxConfig))
}

// Records lists the images of a repository's tags as the index tells of them: each once, those with a tag at its place.
func (s *Service) Records(ctx context.Context, repo distribution.RepoName) ([]graph.Record, error) {
	tops, err := s.graph.Tops(ctx, repo)
	if err != nil {
		return nil, told(err, errRepo)
	}
	if err := s.ensure(ctx, repo, tops); err != nil {
		return nil, err
	}
	var list []graph.Record
	at := map[imagev1.ID]int{}
	for _, t := range tops {
		chain, err := s.chain(ctx, repo, Manifest{Digest: t.Digest, MediaType: t.MediaType})
		if errors.Is(err, imagev1.ErrNoImage) || errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for n, i := range chain {
			if _, ok := at[i.ID]; !ok {
				at[i.ID] = len(list)
				list = append(list, graph.Record{ID: i.ID, Checksum: known(i.Payload)})
			}
			if n == len(chain)-1 {
				list[at[i.ID]].Tag = string(t.Tag)
			}
		}
	}
	return list, nil
}

// Summary is what the old registry told of a repository's newest image.
type Summary struct {
	imagev1.Facts
	// Updated is in seconds since 1970.
	Updated int64
}

// Summary tells of a tag's image; of the one that was pushed last when tag is empty.
func (s *Service) Summary(ctx context.Context, repo distribution.RepoName, tag string) (Summary, error) {
	tops, err := s.graph.Tops(ctx, repo)
	if err != nil {
		return Summary{}, told(err, errRepo)
	}
	var newest graph.TagTop
	for _, t := range tops {
		if tag == "" && t.Pushed.After(newest.Pushed) || tag != "" && string(t.Tag) == tag {
			newest = t
		}
	}
	if newest.Tag == "" {
		return Summary{}, errTag
	}
	chain, err := s.tagged(ctx, repo, string(newest.Tag), false)
	if err != nil {
		return Summary{}, err
	}
	img, err := imagev1.Parse(chain[len(chain)-1].JSON)
	if err != nil {
		return Summary{}, err
	}
	return Summary{img.Facts(), newest.Pushed.Unix()}, nil
}
