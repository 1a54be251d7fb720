// Package images is the engine's images: loading, saving, importing, listing, inspecting, tagging, removing, pruning,
// committing, pulling and pushing, and root filesystems for containers. It implements the contracts of core/image over
// driver/ctdstore.
//
// The image ID is the digest of the target (index or manifest). All look-ups go to the in-memory catalog; what changes
// names goes through one durable transaction and then into the catalog, one change at a time.
package images

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"longshore/internal/core/event"
	"longshore/internal/core/image"
	"longshore/internal/driver/ctdstore"
	"longshore/internal/driver/registryclient"
	"longshore/internal/service/engine/images/catalog"
	"longshore/internal/service/engine/images/transfer"
)

// User is what the service must know of a container that uses an image.
type User struct {
	ID      string
	Running bool
	// Ref is the image as the container's creator named it.
	Ref string
}

// Config holds the service's settings.
type Config struct {
	Limits transfer.Limits
	// Container tells about a container that was registered with Use; nil or false: it counts as stopped.
	Container func(id string) (User, bool)
	// Search answers /images/search; nil means Docker Hub and, for terms that begin with one, any registry of version 1.
	Search Searcher
	// Neighbour is the registry in this process, whose blobs are shared as files; nil: there is none.
	Neighbour transfer.Neighbour
	Log       *slog.Logger
}

// Service is the engine's images. It is safe for concurrent use.
type Service struct {
	store  *ctdstore.Store
	client *registryclient.Client
	events event.Publisher
	cfg    Config
	cat    catalog.Catalog

	names   sync.Mutex // serialises changes of names: transaction, then catalog
	uses    uses
	remote  *transfer.Engine
	pulls   transfer.Flights
	pruning sync.Mutex
}

var (
	_ image.Committer = (*Service)(nil)
	_ image.Images    = (*Service)(nil)
)

// SetLimits puts limits into force for what begins from now on.
func (s *Service) SetLimits(l transfer.Limits) { s.remote.SetLimits(l) }

// New reads the stored names and builds the catalog. It fails only when the store cannot be read.
func New(store *ctdstore.Store, client *registryclient.Client, pub event.Publisher, cfg Config) (*Service, error) {
	if cfg.Search == nil {
		cfg.Search = client
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{store: store, client: client, events: pub, cfg: cfg}
	s.uses.byContainer = map[string]digest.Digest{}
	s.remote = transfer.New(store, client, cfg.Neighbour, cfg.Log)
	s.SetLimits(cfg.Limits)
	ctx := context.Background()
	all, err := store.Images().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	byTarget := map[digest.Digest][]c8images.Image{}
	for _, img := range all {
		byTarget[img.Target.Digest] = append(byTarget[img.Target.Digest], img)
	}
	s.cat.Change(func(func(digest.Digest) *catalog.Entry) map[digest.Digest]*catalog.Entry {
		out := map[digest.Digest]*catalog.Entry{}
		for d, imgs := range byTarget {
			out[d] = catalog.NewEntry(ctx, store.Content(), imgs[0].Target, imgs)
		}
		return out
	})
	store.Watch(s.nameChanged)
	return s, nil
}

// Run does the background work: garbage collection. It returns when ctx ends.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.store.Run(ctx) })
	g.Go(func() error { return s.remote.Run(ctx) })
	return g.Wait()
}

// nameChanged follows changes that others (the builder) make to the image store.
func (s *Service) nameChanged(ctx context.Context, name string) {
	s.names.Lock()
	defer s.names.Unlock()
	touched := map[digest.Digest]bool{}
	if e := s.cat.Named(name); e != nil {
		touched[e.ID()] = true
	}
	if img, err := s.store.Images().Get(ctx, name); err == nil {
		touched[img.Target.Digest] = true
	}
	if err := s.refresh(ctx, touched, true); err != nil {
		s.cfg.Log.Error("image catalog not refreshed", "name", name, "error", err)
	}
}

// refresh reads the names of targets again. reread also looks at their content anew. The caller holds s.names.
func (s *Service) refresh(ctx context.Context, targets map[digest.Digest]bool, reread bool) error {
	ctx = context.WithoutCancel(ctx)
	found := map[digest.Digest][]c8images.Image{}
	for d := range targets {
		list, err := s.store.Images().List(ctx, "target.digest=="+d.String())
		if err != nil {
			return fmt.Errorf("list names of %s: %w", d, err)
		}
		found[d] = list
	}
	s.cat.Change(func(old func(digest.Digest) *catalog.Entry) map[digest.Digest]*catalog.Entry {
		out := map[digest.Digest]*catalog.Entry{}
		for d, list := range found {
			e := old(d)
			switch {
			case len(list) == 0:
				e = nil
			case e == nil || reread:
				e = catalog.NewEntry(ctx, s.store.Content(), list[0].Target, list)
			default:
				e = e.WithNames(list)
			}
			out[d] = e
		}
		return out
	})
	return nil
}

// change is a set of changes to names that happen together or not at all.
type change struct {
	put    []c8images.Image // created, or pointed elsewhere
	remove []string
	links  []map[digest.Digest]map[string]string // content to tie together
	reread bool                                  // the content of a target that is known already has changed
}

// apply makes a change durable and visible. An image that loses its last name to another stays, dangling; one that
// gets its first name is no longer dangling. The caller holds s.names.
func (s *Service) apply(ctx context.Context, c change) error {
	touched := map[digest.Digest]bool{}
	err := s.store.Update(context.WithoutCancel(ctx), func(ctx context.Context) error {
		for _, l := range c.links {
			if err := s.store.Link(ctx, l); err != nil {
				return err
			}
		}
		for _, img := range c.put {
			if err := s.put(ctx, img, touched); err != nil {
				return err
			}
		}
		for _, name := range c.remove {
			if e := s.cat.Named(name); e != nil {
				touched[e.ID()] = true
			}
			if err := s.store.Images().Delete(ctx, name); err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("delete image name %q: %w", name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.refresh(ctx, touched, c.reread)
}

func (s *Service) put(ctx context.Context, img c8images.Image, touched map[digest.Digest]bool) error {
	store := s.store.Images()
	touched[img.Target.Digest] = true
	old, err := store.Get(ctx, img.Name)
	switch {
	case errdefs.IsNotFound(err):
		if _, err := store.Create(ctx, img); err != nil {
			return fmt.Errorf("create image name %q: %w", img.Name, err)
		}
	case err != nil:
		return fmt.Errorf("read image name %q: %w", img.Name, err)
	default:
		if err := s.repoint(ctx, old, img, touched); err != nil {
			return err
		}
	}
	dangling := catalog.DanglingName(img.Target.Digest)
	if img.Name == dangling {
		return nil
	}
	if err := store.Delete(ctx, dangling); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete image name %q: %w", dangling, err)
	}
	return nil
}

func (s *Service) repoint(ctx context.Context, old, img c8images.Image, touched map[digest.Digest]bool) error {
	store := s.store.Images()
	if old.Target.Digest != img.Target.Digest {
		touched[old.Target.Digest] = true
		others, err := store.List(ctx, "target.digest=="+old.Target.Digest.String())
		if err != nil {
			return fmt.Errorf("list names of %s: %w", old.Target.Digest, err)
		}
		if len(others) <= 1 {
			keep := c8images.Image{Name: catalog.DanglingName(old.Target.Digest), Target: old.Target, Labels: old.Labels}
			if _, err := store.Create(ctx, keep); err != nil && !errdefs.IsAlreadyExists(err) {
				return fmt.Errorf("keep replaced image %s: %w", old.Target.Digest, err)
			}
		}
	}
	if img.Labels == nil {
		img.Labels = map[string]string{}
		if old.Target.Digest == img.Target.Digest {
			maps.Copy(img.Labels, old.Labels)
		}
	}
	if _, err := store.Update(ctx, img); err != nil {
		return fmt.Errorf("update image name %q: %w", img.Name, err)
	}
	return nil
}

// publish tells about an image. name is docker's attribute "name".
func (s *Service) publish(ctx context.Context, action events.Action, id, name string, labels map[string]string) {
	attrs := make(map[string]string, len(labels)+1)
	maps.Copy(attrs, labels)
	if name != "" {
		attrs["name"] = name
	}
	s.events.Publish(context.WithoutCancel(ctx), events.Message{
		Type: events.ImageEventType, Action: action, Scope: "local", Actor: events.Actor{ID: id, Attributes: attrs},
	})
}

// labels are an image's labels for its events.
func labels(e *catalog.Entry) map[string]string {
	if e == nil {
		return nil
	}
	m, err := e.Best(nil)
	if err != nil {
		return nil
	}
	return m.Image.Config.Labels
}

// find looks an image and its variant for a platform up.
func (s *Service) find(ref string, p *ocispec.Platform) (catalog.Found, *catalog.Manifest, error) {
	f, err := s.cat.Find(ref)
	if err != nil {
		return f, nil, err
	}
	m, err := f.Best(p)
	return f, m, err
}

func fullName(ref reference.Named) string { return reference.TagNameOnly(ref).String() }

func now() time.Time { return time.Now().UTC() }
