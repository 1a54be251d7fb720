package images

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/images/archive"
	"longshore/internal/service/engine/images/catalog"
)

// Saving is a save whose images have been found. Its content is protected until Close.
type Saving struct {
	svc     *Service
	ctx     context.Context //nolint:containedctx // carries the lease between Save and Write
	release func()
	images  []archive.Image
	ids     []digest.Digest
}

// Save finds what to save, so that errors are known before a byte is written. A name without tag means all tags of the
// repository. With platforms only those variants are saved. The caller closes the result.
func (s *Service) Save(ctx context.Context, names []string, wanted []ocispec.Platform) (*Saving, error) {
	if len(names) == 0 {
		return nil, fault.Invalid("no image names given")
	}
	ctx, release, err := s.store.Lease(ctx)
	if err != nil {
		return nil, err
	}
	out := &Saving{svc: s, ctx: ctx, release: release}
	if err := out.find(names, wanted); err != nil {
		release()
		return nil, err
	}
	return out, nil
}

// Close releases the saved content.
func (v *Saving) Close() { v.release() }

// Write writes the archive.
func (v *Saving) Write(ctx context.Context, w io.Writer) error {
	if err := archive.Write(ctx, v.svc.store.Content(), w, v.images); err != nil {
		return err
	}
	for _, id := range v.ids {
		v.svc.publish(ctx, events.ActionSave, id.String(), id.String(), labels(v.svc.cat.Target(id)))
	}
	return nil
}

func (v *Saving) find(names []string, wanted []ocispec.Platform) error {
	for _, name := range names {
		if err := v.findOne(name, wanted); err != nil {
			return err
		}
	}
	held := map[digest.Digest]int64{}
	for _, img := range v.images {
		maps.Copy(held, img.Blobs)
	}
	return v.svc.store.Hold(v.ctx, slices.Collect(maps.Keys(held))...)
}

func (v *Saving) findOne(name string, wanted []ocispec.Platform) error {
	ref, refErr := reference.ParseNormalizedNamed(name)
	f, err := v.svc.cat.Find(name)
	byID := err == nil && f.Ref == nil
	if refErr == nil && reference.IsNameOnly(ref) && !byID {
		return v.repository(ref, wanted)
	}
	if err != nil {
		return err
	}
	var names []reference.Named
	if f.Exact && !byID {
		if _, digested := f.Ref.(reference.Digested); !digested {
			names = []reference.Named{f.Ref}
		}
	}
	return v.add(f.Entry, names, wanted)
}

// repository adds all tags of a repository.
func (v *Saving) repository(repo reference.Named, wanted []ocispec.Platform) error {
	found := false
	for _, e := range v.svc.cat.All() {
		var names []reference.Named
		for _, n := range e.Refs() {
			if _, tagged := n.Ref.(reference.Tagged); tagged && n.Ref.Name() == repo.Name() {
				names = append(names, n.Ref)
			}
		}
		if len(names) == 0 {
			continue
		}
		found = true
		if err := v.add(e, names, wanted); err != nil {
			return err
		}
	}
	if !found {
		return catalog.NoSuchImage(repo)
	}
	return nil
}

func (v *Saving) add(e *catalog.Entry, names []reference.Named, wanted []ocispec.Platform) error {
	if len(wanted) > 0 {
		return v.addVariants(e, names, wanted)
	}
	img := archive.Image{Target: e.Target, Blobs: e.Blobs(), Names: names}
	if best, err := e.Best(nil); err == nil {
		img.Config, img.Layers = parts(best)
	}
	v.put(e.ID(), img)
	return nil
}

// addVariants saves one variant as an image of its own, several as an index that lacks the others.
func (v *Saving) addVariants(e *catalog.Entry, names []reference.Named, wanted []ocispec.Platform) error {
	img := archive.Image{Target: e.Target, Blobs: maps.Clone(e.Own), Names: names}
	for i, p := range wanted {
		m, err := e.Best(&p)
		if err != nil {
			return err
		}
		if len(wanted) == 1 {
			img.Target, img.Blobs = m.Desc, map[digest.Digest]int64{}
		}
		maps.Copy(img.Blobs, m.Blobs)
		if i == 0 {
			img.Config, img.Layers = parts(m)
		}
	}
	v.put(img.Target.Digest, img)
	return nil
}

// put adds an image, or names to one that is there already.
func (v *Saving) put(id digest.Digest, img archive.Image) {
	for i, have := range v.images {
		if have.Target.Digest != img.Target.Digest {
			continue
		}
		for _, n := range img.Names {
			same := func(o reference.Named) bool { return o.String() == n.String() }
			if !slices.ContainsFunc(have.Names, same) {
				v.images[i].Names = append(v.images[i].Names, n)
			}
		}
		slices.SortFunc(v.images[i].Names, func(a, b reference.Named) int { return strings.Compare(a.String(), b.String()) })
		return
	}
	v.images = append(v.images, img)
	v.ids = append(v.ids, id)
}

func parts(m *catalog.Manifest) (config digest.Digest, layers []digest.Digest) {
	for _, l := range m.Layers {
		layers = append(layers, l.Digest)
	}
	return m.Config.Digest, layers
}
