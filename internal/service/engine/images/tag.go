package images

import (
	"context"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/images/catalog"
)

// RepoTag reads docker's "repo" and "tag" parameters; nil without repo. The tag wins over one in repo.
func RepoTag(repo, tag string) (reference.Named, error) {
	if repo == "" {
		return nil, nil
	}
	ref, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	if _, digested := ref.(reference.Digested); digested {
		return nil, fault.Invalid("cannot import digest reference")
	}
	if tag != "" {
		if ref, err = reference.WithTag(reference.TrimNamed(ref), tag); err != nil {
			return nil, fault.Invalid("%w", err)
		}
	}
	return reference.TagNameOnly(ref), nil
}

// Tag points repo:tag at an image. The image that had the name before stays, dangling when it was its last.
func (s *Service) Tag(ctx context.Context, source, repo, tag string) error {
	ref, err := RepoTag(repo, tag)
	if err != nil {
		return err
	}
	if ref == nil {
		return fault.Invalid("invalid reference format")
	}
	if reference.FamiliarName(ref) == string(digest.Canonical) {
		return fault.Invalid("refusing to create an ambiguous tag using digest algorithm as name")
	}
	s.names.Lock()
	defer s.names.Unlock()
	f, err := s.cat.Find(source)
	if err != nil {
		return err
	}
	img := c8images.Image{Name: ref.String(), Target: f.Target, CreatedAt: now(), Labels: recordLabels(f.Entry)}
	if err := s.apply(ctx, change{put: []c8images.Image{img}}); err != nil {
		return err
	}
	s.publish(ctx, events.ActionTag, f.ID().String(), reference.FamiliarString(ref), labels(f.Entry))
	return nil
}

// recordLabels are the labels that all names of an image have in common by nature: its parent.
func recordLabels(e *catalog.Entry) map[string]string {
	if p := e.Label(parentLabel); p != "" {
		return map[string]string{parentLabel: p}
	}
	return nil
}

// add makes a new image visible: under ref when there is one, else dangling. parent may be empty. The caller holds a
// lease on its content.
func (s *Service) add(ctx context.Context, target ocispec.Descriptor, ref reference.Named, parent digest.Digest) (*catalog.Entry, error) {
	links, err := s.store.Links(ctx, target)
	if err != nil {
		return nil, err
	}
	img := c8images.Image{Name: catalog.DanglingName(target.Digest), Target: target, CreatedAt: now()}
	if ref != nil {
		img.Name = ref.String()
	}
	if parent != "" {
		img.Labels = map[string]string{parentLabel: parent.String()}
	}
	c := change{put: []c8images.Image{img}, links: []map[digest.Digest]map[string]string{links}, reread: true}
	s.names.Lock()
	defer s.names.Unlock()
	if have := s.cat.Target(target.Digest); ref == nil && have != nil && !have.Dangling() {
		c.put = nil
		return have, s.apply(ctx, c)
	}
	if err := s.apply(ctx, c); err != nil {
		return nil, err
	}
	return s.cat.Target(target.Digest), nil
}
