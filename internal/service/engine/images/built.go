package images

import (
	"context"
	"strings"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/images/catalog"
)

// Builds is what a builder sees of the engine's images: containerd's image store that also knows images by their IDs,
// and a way in for what was built.
type Builds struct {
	c8images.Store
	service *Service
}

// ForBuilds gives the builder's view.
func (s *Service) ForBuilds() Builds { return Builds{s.store.Images(), s} }

// Get finds an image by a full name. A Dockerfile's FROM may be a (short) ID too, which arrives here as the name of an
// official image.
func (b Builds) Get(ctx context.Context, name string) (c8images.Image, error) {
	img, err := b.Store.Get(ctx, name)
	if !errdefs.IsNotFound(err) {
		return img, err
	}
	asked := name
	if rest, ok := strings.CutPrefix(name, "docker.io/library/"); ok {
		rest = strings.TrimSuffix(rest, ":latest")
		if hex := strings.TrimPrefix(rest, "sha256:"); isHex(hex) {
			asked = rest
		}
	}
	f, findErr := b.service.cat.Find(asked)
	if findErr != nil {
		return img, err
	}
	return c8images.Image{Name: name, Target: f.Target, CreatedAt: f.Updated(), UpdatedAt: f.Updated()}, nil
}

func isHex(s string) bool {
	return len(s) >= 4 && strings.Trim(s, "0123456789abcdef") == ""
}

// Built makes what was built an image, under names (full references) or, without any, dangling: all at once, and
// durably before it returns. The caller holds a lease on its content.
func (b Builds) Built(ctx context.Context, target ocispec.Descriptor, names []string) error {
	if len(names) == 0 {
		_, err := b.service.add(ctx, target, nil, "")
		return err
	}
	s := b.service
	links, err := s.store.Links(ctx, target)
	if err != nil {
		return err
	}
	c := change{links: []map[digest.Digest]map[string]string{links}, reread: true}
	var refs []reference.Named
	for _, n := range names {
		ref, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return fault.Invalid("%w", err)
		}
		ref = reference.TagNameOnly(ref)
		refs = append(refs, ref)
		c.put = append(c.put, c8images.Image{Name: ref.String(), Target: target, CreatedAt: now()})
	}
	e, err := s.applyBuilt(ctx, c, target.Digest)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		s.publish(ctx, events.ActionTag, target.Digest.String(), reference.FamiliarString(ref), labels(e))
	}
	return nil
}

func (s *Service) applyBuilt(ctx context.Context, c change, id digest.Digest) (*catalog.Entry, error) {
	s.names.Lock()
	defer s.names.Unlock()
	if err := s.apply(ctx, c); err != nil {
		return nil, err
	}
	return s.cat.Target(id), nil
}
