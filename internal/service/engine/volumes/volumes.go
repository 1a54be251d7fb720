// Package volumes is the engine's named storage: docker's "local" driver with data below <root>/volumes/<name>/_data,
// who refers to a volume, who has it mounted, and what prune may take.
//
// A volume's record is durable before its creator is told. References (container IDs) are part of the record; mounts
// are kept apart, volatile: they survive the daemon as the kernel's mounts do, and end with a power cut as these do.
// Removal renames the directory first and deletes the record then, so that after a crash a volume is whole or gone;
// New finishes what was interrupted.
package volumes

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/events"

	"longshore/internal/base/ids"
	"longshore/internal/core/event"
	"longshore/internal/core/fault"
	"longshore/internal/core/state"
	"longshore/internal/core/volume"
)

// AnonymousLabel marks volumes that nobody named: prune takes them without being asked for all.
const AnonymousLabel = "com.docker.volume.anonymous"

const driverName = "local"

// Service implements volume.Volumes and what the API's volume routes need. It is safe for concurrent use. A volume
// whose file system hangs blocks only those who mount or remove that volume.
type Service struct {
	dir   string // <root>/volumes
	store state.Store
	pub   event.Publisher
	log   *slog.Logger
	now   func() time.Time

	quotas  *quotas
	pruning atomic.Bool

	mu      sync.RWMutex // guards volumes
	volumes map[string]*entry
}

var _ volume.Volumes = (*Service)(nil)

// entry is one volume. Readers look at rec, which is nil while the volume is being created.
type entry struct {
	name string
	rec  atomic.Pointer[record]

	mu      sync.Mutex // held by whoever changes the volume, also while the kernel mounts
	removed bool       // the entry has left the map; look again
	mounts  []string   // refs that have it mounted
}

// Option changes a default of New.
type Option func(*Service)

// Logger gets what start-up repairs; the default discards it.
func Logger(l *slog.Logger) Option { return func(s *Service) { s.log = l } }

// New opens the volumes below root and brings records and directories together: it finishes interrupted removals,
// makes directories that a power cut took, and adopts directories with data that have no record (those of another
// daemon on the same root).
func New(root string, store state.Store, pub event.Publisher, opts ...Option) (*Service, error) {
	s := &Service{
		dir: filepath.Join(root, "volumes"), store: store, pub: pub,
		log: slog.New(slog.DiscardHandler), now: time.Now, quotas: newQuotas(), volumes: map[string]*entry{},
	}
	for _, o := range opts {
		o(s)
	}
	if err := os.MkdirAll(s.dir, 0o701); err != nil {
		return nil, err
	}
	if err := s.load(context.Background()); err != nil {
		return nil, err
	}
	return s, nil
}

// Create makes a volume, or returns the one of that name when its driver fits.
func (s *Service) Create(ctx context.Context, o volume.CreateOptions) (volume.Volume, error) {
	v, _, err := s.Ensure(ctx, o, "")
	return v, err
}

// Ensure implements volume.Volumes. An empty ref adds none.
func (s *Service) Ensure(ctx context.Context, o volume.CreateOptions, ref string) (volume.Volume, bool, error) {
	if o.Name == "" {
		o.Name, o.Anonymous = ids.New(), true
	}
	if err := checkDriver(o); err != nil {
		return volume.Volume{}, false, err
	}
	for {
		e := s.entryOf(o.Name)
		e.mu.Lock()
		if e.removed {
			e.mu.Unlock()
			continue
		}
		v, created, err := s.ensure(ctx, e, o, ref)
		if err != nil && e.rec.Load() == nil {
			s.drop(e)
		}
		e.mu.Unlock()
		return v, created, err
	}
}

// ensure works on an entry that the caller holds.
func (s *Service) ensure(ctx context.Context, e *entry, o volume.CreateOptions, ref string) (volume.Volume, bool, error) {
	if rec := e.rec.Load(); rec != nil {
		if o.Driver != "" && o.Driver != rec.Driver {
			return volume.Volume{}, false, fault.Conflict("create %s: volume name must be unique", o.Name)
		}
		next := rec.withRef(ref)
		if next != rec {
			if err := s.save(ctx, next, state.Durable); err != nil {
				return volume.Volume{}, false, err
			}
			e.rec.Store(next)
		}
		return s.volume(next), false, nil
	}
	if err := checkNew(o); err != nil {
		return volume.Volume{}, false, err
	}
	if err := s.quotas.check(s.dir, o.Options); err != nil {
		return volume.Volume{}, false, fault.Invalid("create %s: %w", o.Name, err)
	}
	rec := newRecord(o, s.now()).withRef(ref)
	if err := s.makeDir(o.Name); err != nil {
		return volume.Volume{}, false, err
	}
	if err := s.quotas.bound(s.mountpoint(o.Name), o.Options, s.dataDirs()); err != nil {
		s.unmakeDir(o.Name)
		return volume.Volume{}, false, err
	}
	if err := s.save(ctx, rec, state.Durable); err != nil {
		s.unmakeDir(o.Name)
		return volume.Volume{}, false, err
	}
	e.rec.Store(rec)
	s.publish(ctx, events.ActionCreate, rec.Name, map[string]string{"driver": rec.Driver})
	return s.volume(rec), true, nil
}

// Release implements volume.Volumes. A volume that is gone is no error.
func (s *Service) Release(ctx context.Context, name, ref string, remove bool) error {
	e, err := s.hold(name)
	if err != nil {
		return nil // nothing refers to what does not exist
	}
	defer e.mu.Unlock()
	rec := e.rec.Load()
	next := rec.withoutRef(ref)
	if remove && rec.Anonymous && len(next.Refs) == 0 {
		return s.remove(ctx, e, next)
	}
	if next == rec {
		return nil
	}
	// A reference that comes back after a power cut does no harm: Reconcile drops it.
	if err := s.save(ctx, next, state.Volatile); err != nil {
		return err
	}
	e.rec.Store(next)
	return nil
}

// Reconcile drops the references and mounts of containers that are not alive any more; to be called once at start,
// when the containers are known.
func (s *Service) Reconcile(ctx context.Context, alive func(ref string) bool) error {
	for _, e := range s.entries() {
		rec := e.rec.Load()
		if rec == nil {
			continue
		}
		e.mu.Lock()
		refs := append(slices.Clone(rec.Refs), e.mounts...)
		e.mu.Unlock()
		for _, ref := range refs {
			if alive(ref) {
				continue
			}
			if err := s.Unmount(ctx, e.name, ref); err != nil {
				return err
			}
			if err := s.Release(ctx, e.name, ref, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// entryOf finds or adds the entry of a name.
func (s *Service) entryOf(name string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.volumes[name]
	if !ok {
		e = &entry{name: name}
		s.volumes[name] = e
	}
	return e
}

// hold finds a volume and locks its entry; the caller unlocks it.
func (s *Service) hold(name string) (*entry, error) {
	s.mu.RLock()
	e, ok := s.volumes[name]
	s.mu.RUnlock()
	if !ok {
		return nil, notFound(name)
	}
	e.mu.Lock()
	if e.removed || e.rec.Load() == nil {
		e.mu.Unlock()
		return nil, notFound(name)
	}
	return e, nil
}

// drop takes a held entry out of the map.
func (s *Service) drop(e *entry) {
	e.removed = true
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.volumes, e.name)
}

func (s *Service) entries() []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*entry, 0, len(s.volumes))
	for _, e := range s.volumes {
		list = append(list, e)
	}
	return list
}

func (s *Service) publish(ctx context.Context, a events.Action, id string, attributes map[string]string) {
	s.pub.Publish(ctx, events.Message{Type: events.VolumeEventType, Action: a, Actor: events.Actor{ID: id, Attributes: attributes}})
}

func notFound(name string) error { return fault.NotFound("get %s: no such volume", name) }
