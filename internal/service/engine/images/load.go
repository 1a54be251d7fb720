package images

import (
	"context"
	"io"
	"slices"
	"sync"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/driver/ctdstore"
	"longshore/internal/service/engine/images/archive"
	"longshore/internal/service/engine/images/catalog"
	"longshore/internal/service/engine/images/transfer"
)

// Emit sends one progress object to the client. It is called by one goroutine at a time.
type Emit = transfer.Emit

// Load stores the images of an archive and names them; all of them or, when the archive is broken, none. With
// platforms, each image must provide them all, and what the archive has of others is not kept.
func (s *Service) Load(ctx context.Context, r io.Reader, wanted []ocispec.Platform, emit Emit) error {
	ctx, release, err := s.store.Lease(ctx)
	if err != nil {
		return err
	}
	release = sync.OnceFunc(release)
	defer release()
	ahead := s.store.Ahead(len(wanted) == 0) // else it takes the archive's end to tell which layers are wanted
	defer ahead.Close(ctx)
	loaded, err := archive.Read(ctx, ahead, r)
	if err != nil {
		return err
	}
	entries, err := s.checkLoaded(ctx, loaded, wanted, ahead)
	if err != nil {
		return err
	}
	if err := s.addLoaded(ctx, loaded, entries, wanted); err != nil {
		return err
	}
	if len(wanted) > 0 {
		release()
		if err := s.collectNow(ctx, entries); err != nil {
			return err
		}
	}
	for _, l := range loaded {
		e := entries[l.Target.Digest]
		text := "Loaded image ID: " + e.ID().String()
		if ref, err := reference.ParseNormalizedNamed(l.Name); err == nil {
			text = "Loaded image: " + reference.FamiliarString(ref)
		}
		s.publish(ctx, events.ActionLoad, e.ID().String(), e.ID().String(), labels(e))
		if err := emit(jsonstream.Message{Stream: text + "\n"}); err != nil {
			return err
		}
	}
	return nil
}

// checkLoaded unpacks what this host can run, or the wanted platforms, before any name makes the images visible.
func (s *Service) checkLoaded(ctx context.Context, loaded []archive.Loaded, wanted []ocispec.Platform, ahead *ctdstore.Ahead) (map[digest.Digest]*catalog.Entry, error) {
	out := map[digest.Digest]*catalog.Entry{}
	for _, l := range loaded {
		if out[l.Target.Digest] != nil {
			continue
		}
		e := catalog.NewEntry(ctx, s.store.Content(), l.Target, nil)
		out[l.Target.Digest] = e
		for _, p := range wanted {
			if _, err := e.Best(&p); err != nil {
				name := l.Name
				if ref, err := reference.ParseNormalizedNamed(name); err == nil {
					name = reference.FamiliarString(ref)
				}
				return nil, fault.NotFound("image %s was loaded, but doesn't provide the requested platform (%s)", name, platforms.FormatAll(p))
			}
		}
		if err := s.unpackLoaded(ctx, e, wanted, ahead); err != nil {
			return nil, fault.Invalid("unpack image %s: %w", l.Target.Digest, err)
		}
	}
	return out, nil
}

// collectNow collects garbage and looks again at what is there of images.
func (s *Service) collectNow(ctx context.Context, entries map[digest.Digest]*catalog.Entry) error {
	if err := s.store.GarbageCollect(ctx); err != nil {
		return err
	}
	touched := map[digest.Digest]bool{}
	for d := range entries {
		touched[d] = true
	}
	s.names.Lock()
	defer s.names.Unlock()
	return s.refresh(ctx, touched, true)
}

func (s *Service) addLoaded(ctx context.Context, loaded []archive.Loaded, entries map[digest.Digest]*catalog.Entry, wanted []ocispec.Platform) error {
	c := change{reread: true}
	seen := map[digest.Digest]bool{}
	for _, l := range loaded {
		name := l.Name
		if name == "" {
			name = catalog.DanglingName(l.Target.Digest)
		}
		if !seen[l.Target.Digest] {
			seen[l.Target.Digest] = true
			links, err := s.store.Links(ctx, l.Target, entries[l.Target.Digest].Others(wanted, s.cat.Target(l.Target.Digest))...)
			if err != nil {
				return err
			}
			c.links = append(c.links, links)
		}
		c.put = append(c.put, c8images.Image{Name: name, Target: l.Target, CreatedAt: now()})
	}
	s.names.Lock()
	defer s.names.Unlock()
	// An image that has names already needs no dangling record.
	c.put = slices.DeleteFunc(c.put, func(img c8images.Image) bool {
		e := s.cat.Target(img.Target.Digest)
		return img.Name == catalog.DanglingName(img.Target.Digest) && e != nil && !e.Dangling()
	})
	return s.apply(ctx, c)
}

func (s *Service) unpackLoaded(ctx context.Context, e *catalog.Entry, wanted []ocispec.Platform, ahead *ctdstore.Ahead) error {
	match := platforms.Default()
	for _, m := range e.Manifests {
		if m.Kind != image.ManifestKindImage || !m.Available {
			continue
		}
		want := len(wanted) == 0 && match.Match(m.Platform)
		for _, p := range wanted {
			want = want || platforms.OnlyStrict(p).Match(m.Platform)
		}
		if !want {
			continue
		}
		if err := s.store.Unpack(ctx, ctdstore.Layers{Config: m.Config, Blobs: m.Layers, DiffIDs: m.Image.RootFS.DiffIDs, Ahead: ahead}); err != nil {
			return err
		}
	}
	return nil
}
