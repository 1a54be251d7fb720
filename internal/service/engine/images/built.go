package images

import (
	"context"
	"time"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/service/engine/images/builds"
)

// ForBuilds gives the builder's view of the images.
func (s *Service) ForBuilds() builds.Store { return builds.New(s.store.Images(), s) }

// Lookup implements builds.Images.
func (s *Service) Lookup(ref string) (ocispec.Descriptor, time.Time, error) {
	f, err := s.cat.Find(ref)
	if err != nil {
		return ocispec.Descriptor{}, time.Time{}, err
	}
	return f.Target, f.Updated(), nil
}

// AddBuilt implements builds.Images.
func (s *Service) AddBuilt(ctx context.Context, target ocispec.Descriptor, refs []reference.Named) error {
	id := target.Digest.String()
	if len(refs) == 0 {
		e, err := s.add(ctx, target, nil, "")
		if err == nil {
			s.publish(ctx, events.ActionCreate, id, id, labels(e))
		}
		return err
	}
	links, err := s.store.Links(ctx, target)
	if err != nil {
		return err
	}
	c := change{links: []map[digest.Digest]map[string]string{links}, reread: true}
	for _, ref := range refs {
		c.put = append(c.put, c8images.Image{Name: ref.String(), Target: target, CreatedAt: now()})
	}
	s.names.Lock()
	defer s.names.Unlock()
	if err := s.apply(ctx, c); err != nil {
		return err
	}
	s.publish(ctx, events.ActionCreate, id, id, labels(s.cat.Target(target.Digest)))
	for _, ref := range refs {
		s.publish(ctx, events.ActionTag, id, reference.FamiliarString(ref), labels(s.cat.Target(target.Digest)))
	}
	return nil
}
