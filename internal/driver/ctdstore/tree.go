package ctdstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Links gives, for each stored document of an image, the labels by which the garbage collector finds what it refers to.
// Content that is not stored is left out: images may be sparse. What leads to the documents without, and what they
// refer to, is taken out.
func (s *Store) Links(ctx context.Context, target ocispec.Descriptor, without ...digest.Digest) (map[digest.Digest]map[string]string, error) {
	out := map[digest.Digest]map[string]string{}
	err := images.Walk(ctx, images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if out[d.Digest] != nil || slices.Contains(without, d.Digest) {
			return nil, images.ErrSkipDesc
		}
		children, err := images.Children(ctx, s.content, d)
		if errdefs.IsNotFound(err) {
			return nil, images.ErrSkipDesc
		}
		if err != nil || len(children) == 0 {
			return nil, err
		}
		labels, counts := map[string]string{}, map[string]int{}
		for _, c := range children {
			for _, key := range images.ChildGCLabels(c) {
				if key[len(key)-1] == '.' {
					n := counts[key]
					counts[key]++
					key = fmt.Sprintf("%s%d", key, n)
				}
				labels[key] = c.Digest.String()
				if slices.Contains(without, c.Digest) {
					labels[key] = "" // removes what an earlier image has left; the keys of the others stay what they are
				}
			}
		}
		out[d.Digest] = labels
		return children, nil
	}), target)
	if err != nil && !errors.Is(err, images.ErrEmptyWalk) {
		return nil, fmt.Errorf("walk image %s: %w", target.Digest, err)
	}
	return out, nil
}

// Link ties an image's stored content together, so that a name keeps all of it. Call it within Update together with
// the change of the name. links come from Links.
func (s *Store) Link(ctx context.Context, links map[digest.Digest]map[string]string) error {
	for d, labels := range links {
		if err := s.Label(ctx, d, maps.Clone(labels)); err != nil {
			return err
		}
	}
	return nil
}
