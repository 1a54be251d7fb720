package registryv1

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/distribution"
	"longshore/internal/core/fault"
	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
	"longshore/internal/core/manifest"
)

// HasTag says whether a repository has a tag: who sets it needs another permission then.
func (s *Service) HasTag(ctx context.Context, repo distribution.RepoName, tag string) (bool, error) {
	t, err := distribution.ParseTag(tag)
	if err != nil {
		return false, fault.Invalid("Invalid tag name (%.200s)", tag)
	}
	_, err = s.registry.Manifest(ctx, repo, distribution.Reference{Tag: t}, false)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// PutTag points a tag at an image, which is complete from then on with all its parents: who sets a tag says that the push is
// over. Nothing of it is seen before everything is there.
func (s *Service) PutTag(ctx context.Context, c Caller, repo distribution.RepoName, tag string, id imagev1.ID) error {
	t, err := distribution.ParseTag(tag)
	if err != nil {
		return fault.Invalid("Invalid tag name (%.200s)", tag)
	}
	again, err := s.retag(ctx, repo, t, id)
	if again || err != nil {
		return err
	}
	chain, err := s.gather(ctx, c, repo, id)
	if err != nil {
		return err
	}
	m, err := s.manifest(ctx, repo, chain)
	if err != nil {
		return err
	}
	if m.Digest, err = s.registry.PutManifest(ctx, repo, m); err != nil {
		return err
	}
	images := make([]graph.Image, len(chain))
	for n := range chain {
		images[n] = chain[n].Image
		images[n].State, images[n].Announced = graph.Complete, ""
	}
	if err := s.graph.PutChain(ctx, repo, m.Digest, images); err != nil {
		if errdefs.IsAlreadyExists(err) {
			return errExists
		}
		return told(err, errImage)
	}
	_, err = s.registry.PutManifest(ctx, repo, m, t)
	return err
}

// retag is for images that a manifest of the repository stands for already: the tag gets that manifest, whoever made it.
func (s *Service) retag(ctx context.Context, repo distribution.RepoName, tag distribution.Tag, id imagev1.ID) (bool, error) {
	d, err := s.graph.Standing(ctx, repo, id)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m, err := s.registry.Manifest(ctx, repo, distribution.Reference{Digest: d}, false)
	if errdefs.IsNotFound(err) {
		return false, nil // deleted meanwhile
	}
	if err != nil {
		return false, err
	}
	_, err = s.registry.PutManifest(ctx, repo, m, tag)
	return err == nil, err
}

// gather finds an image with its parents, base first, and makes their layers visible in the repository.
func (s *Service) gather(ctx context.Context, c Caller, repo distribution.RepoName, id imagev1.ID) ([]found, error) {
	var chain []found
	within := Caller{Repo: repo, Narrow: true}
	for id != "" {
		if len(chain) == maxAncestry {
			return nil, fault.Invalid("Image depends on more than %d parents", maxAncestry)
		}
		f, err := s.find(ctx, within, id)
		if !c.Narrow && (errdefs.IsNotFound(err) || err == nil && f.State == graph.Pending) {
			f, err = s.find(ctx, c, id)
		}
		switch {
		case err != nil:
			return nil, err
		case f.State == graph.Pending:
			return nil, errProgress
		}
		chain = append(chain, f)
		id = f.Parent
	}
	slices.Reverse(chain)
	for _, f := range chain {
		if f.repo == repo || f.Layer == "" {
			continue
		}
		if err := s.registry.Share(ctx, f.repo, repo, f.Layer); err != nil {
			return nil, told(err, errImage)
		}
	}
	return chain, nil
}

// manifest makes a manifest of schema 2 of a chain, and keeps the configuration.
func (s *Service) manifest(ctx context.Context, repo distribution.RepoName, chain []found) (Manifest, error) {
	layers := make([]imagev1.Layer, len(chain))
	doc := ocispec.Manifest{MediaType: manifest.DockerManifest, Layers: []ocispec.Descriptor{}}
	doc.SchemaVersion = 2
	for n, f := range chain {
		img, err := imagev1.Parse(f.JSON)
		if err != nil {
			return Manifest{}, err
		}
		layers[n] = imagev1.Layer{Image: img, DiffID: f.DiffID, Empty: f.Empty}
		if f.Empty {
			continue
		}
		d, err := s.descriptor(ctx, repo, f)
		if err != nil {
			return Manifest{}, err
		}
		doc.Layers = append(doc.Layers, d)
	}
	config, err := imagev1.Config(layers)
	if err != nil {
		return Manifest{}, err
	}
	d, err := s.put(ctx, repo, config)
	if err != nil {
		return Manifest{}, err
	}
	doc.Config = ocispec.Descriptor{MediaType: dockerConfig, Digest: d, Size: int64(len(config))}
	payload, err := json.Marshal(doc)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return Manifest{MediaType: manifest.DockerManifest, Payload: payload}, nil
}

// descriptor is a layer's in a manifest. The bytes are those that were sent, where anybody can unpack them today.
func (s *Service) descriptor(ctx context.Context, repo distribution.RepoName, f found) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: dockerLayer, Digest: f.Layer, Size: f.Size}
	switch f.Encoding {
	case graph.Plain:
	case graph.Gzip:
		d.MediaType += ".gzip"
	case graph.Zstd, graph.Bzip2, graph.Xz: // schema 2 has no words for them
		info, err := s.repack(ctx, f, repo)
		if err != nil {
			return d, err
		}
		d.MediaType, d.Digest, d.Size = d.MediaType+".gzip", info.Digest, info.Size
	}
	return d, nil
}

// CheckRecords compares the payloads' checksums that a client tells the index with those of images that the repository has.
// Those of other images are nobody's business yet, and tarsums were looked at when the layers came: reading all layers again
// would keep the client waiting at the end of its push.
func (s *Service) CheckRecords(ctx context.Context, repo distribution.RepoName, records []graph.Record) error {
	for _, r := range records {
		want, err := imagev1.ParseChecksum(r.Checksum)
		if err != nil || want.Version != "" {
			continue
		}
		i, err := s.graph.Image(ctx, repo, r.ID)
		if errdefs.IsNotFound(err) || err == nil && i.State == graph.Pending {
			continue
		}
		if err != nil {
			return err
		}
		if have := known(i.Payload); have != "" && have != want.String() {
			return fault.Invalid("Checksum mismatch for the image %s", r.ID)
		}
	}
	return nil
}

// known is a checksum that was computed; empty when none was, or none can be.
func known(payload string) string {
	if payload == unsummable {
		return ""
	}
	return payload
}

// unsummable stands where a layer could not be read.
const unsummable = "none"
