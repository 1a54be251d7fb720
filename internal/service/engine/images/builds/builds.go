// Package builds is what a builder sees of the engine's images: containerd's image store that also knows images by their
// IDs, and a way in for what was built.
package builds

import (
	"context"
	"strings"
	"time"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
)

// Images is the image service behind the view.
type Images interface {
	// Lookup finds an image by name, digest, ID or short ID, and when a name was last pointed at it.
	Lookup(ref string) (ocispec.Descriptor, time.Time, error)
	// AddBuilt makes a new image visible under references with tags; without any it has no name.
	AddBuilt(ctx context.Context, target ocispec.Descriptor, refs []reference.Named) error
}

// Store is the view.
type Store struct {
	c8images.Store
	images Images
}

// New makes the view of images over the store that keeps their names.
func New(store c8images.Store, images Images) Store { return Store{store, images} }

// Get finds an image by a full name. A Dockerfile's FROM may be a (short) ID too, which arrives here as the name of an
// official image.
func (s Store) Get(ctx context.Context, name string) (c8images.Image, error) {
	img, err := s.Store.Get(ctx, name)
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
	target, updated, lookupErr := s.images.Lookup(asked)
	if lookupErr != nil {
		return img, err
	}
	return c8images.Image{Name: name, Target: target, CreatedAt: updated, UpdatedAt: updated}, nil
}

func isHex(s string) bool { return len(s) >= 4 && strings.Trim(s, "0123456789abcdef") == "" }

// Built makes what was built an image, under names or, without any, without one: all at once, and durably before it
// returns. The caller holds a lease on its content.
func (s Store) Built(ctx context.Context, target ocispec.Descriptor, names []string) error {
	refs := make([]reference.Named, 0, len(names))
	for _, n := range names {
		ref, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return fault.Invalid("%w", err)
		}
		refs = append(refs, reference.TagNameOnly(ref))
	}
	return s.images.AddBuilt(ctx, target, refs)
}
