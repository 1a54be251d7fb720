// Package ctdstore keeps images and root filesystems: containerd's content store, metadata database, overlayfs
// snapshotter, image names and leases, in process and without a containerd daemon. Engine and builder share one Store
// and one namespace.
//
// Life cycle: Open sweeps what a killed process left (leases, half-written blobs), Run collects garbage in the
// background until its context ends, Close releases the databases. Everything reached through Content, Snapshotter,
// Leases and Images works in Namespace whatever the caller's context says.
package ctdstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	digest "github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/singleflight"
)

const (
	// Namespace is containerd's namespace for everything in the store.
	Namespace = "moby"
	// SnapshotterName is the snapshotter's name, its key in the metadata database (the garbage collector finds
	// snapshots by it) and the last part of the label that ties an image's configuration to its snapshots.
	SnapshotterName = "overlayfs"
	// leaseLabel marks leases that last one operation; those found at start belong to a process that died.
	leaseLabel = "longshore.operation"
	// snapshotLabel on a configuration blob keeps the unpacked layers alive as long as the image.
	snapshotLabel = "containerd.io/gc.ref.snapshot." + SnapshotterName
	// snapshotResource is the type of a snapshot that a lease holds.
	snapshotResource = "snapshots/" + SnapshotterName
)

// Store is the engine's content, snapshots and names. It is safe for concurrent use.
type Store struct {
	collecting sync.RWMutex // held for writing by a collection, for reading by Update

	root    string // the data root
	log     *slog.Logger
	bolt    *bolt.DB
	db      *metadata.DB
	backend snapshots.Snapshotter
	content content.Store
	images  *imageStore
	leases  leases.Manager
	snaps   snapshotter
	aliases *aliases

	layerWork
	remapping
	dirty     chan struct{} // a deletion happened; capacity 1
	closeOnce sync.Once
}

// layerWork is shared by those who need the same layers.
type layerWork struct {
	unpacking singleflight.Group     // by chain ID: two users of one image share the work
	sync      func(dir string) error // syncfs, but in a test
	sizes     sync.Map               // the size of committed snapshots by name, which never changes
	places    sync.Map               // the place of writable snapshots by key, which never changes either
}

// Open opens or creates the stores below dataRoot. It fails when another process has them open. What a killed process
// left half done is swept before Open returns; unreferenced data goes with the first garbage collection in Run.
func Open(ctx context.Context, dataRoot string, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(dataRoot, 0o711); err != nil {
		return nil, fmt.Errorf("make data root: %w", err)
	}
	s := &Store{root: dataRoot, log: log, dirty: make(chan struct{}, 1), layerWork: layerWork{sync: syncfs}}
	var err error
	s.bolt, err = bolt.Open(filepath.Join(dataRoot, "metadata.db"), 0o600, &bolt.Options{
		Timeout: time.Second, FreelistType: bolt.FreelistMapType, NoFreelistSync: true,
	})
	if err != nil {
		return nil, fmt.Errorf("open metadata database in %q (is another engine running?): %w", dataRoot, err)
	}
	if err := s.build(ctx, dataRoot); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.sweep(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) build(ctx context.Context, dataRoot string) error {
	blobs, err := local.NewStore(filepath.Join(dataRoot, "content"))
	if err != nil {
		return fmt.Errorf("open content store: %w", err)
	}
	s.backend, err = overlay.NewSnapshotter(s.snapshotsDir(), overlay.AsynchronousRemove, overlay.WithUpperdirLabel)
	if err != nil {
		return fmt.Errorf("open snapshotter: %w", err)
	}
	s.db = metadata.NewDB(s.bolt, blobs, map[string]snapshots.Snapshotter{SnapshotterName: s.backend})
	if err := s.db.Init(ctx); err != nil {
		return fmt.Errorf("prepare metadata database: %w", err)
	}
	s.db.RegisterMutationCallback(func(dirty bool) {
		if dirty {
			s.Collect()
		}
	})
	s.content = contentStore{s.db.ContentStore()}
	s.aliases = &aliases{inner: s.db.Snapshotter(SnapshotterName)}
	s.snaps = snapshotter{s.aliases.inner, s.aliases, s.persist}
	s.leases = leaseManager{metadata.NewLeaseManager(s.db), s.aliases}
	s.images = &imageStore{inner: metadata.NewImageStore(s.db)}
	return s.loadAdopted(ctx)
}

// Close releases the databases. Nothing may use the store afterwards.
func (s *Store) Close() error {
	var errs []error
	s.closeOnce.Do(func() {
		s.closeShift()
		if s.backend != nil {
			errs = append(errs, s.backend.Close())
		}
		if s.db != nil {
			errs = append(errs, s.db.Close())
		} else {
			errs = append(errs, s.bolt.Close())
		}
	})
	return errors.Join(errs...)
}

// Root is the directory that everything lies below.
func (s *Store) Root() string { return s.root }

// Content is the blob store.
func (s *Store) Content() content.Store { return s.content }

// Snapshotter is the overlayfs snapshotter.
func (s *Store) Snapshotter() snapshots.Snapshotter { return s.snaps }

// Leases guards resources against garbage collection.
func (s *Store) Leases() leases.Manager { return s.leases }

// Images maps names to targets. Changes made through it outside Update reach the Watch function.
func (s *Store) Images() images.Store { return s.images }

// Metadata is the metadata database, for parts that need the store as containerd shapes it (the builder).
func (s *Store) Metadata() *metadata.DB { return s.db }

// Watch calls changed after a name was created, updated or deleted by anyone outside Update. It is set once, before
// the store is shared.
func (s *Store) Watch(changed func(ctx context.Context, name string)) { s.images.changed = changed }

// Update runs fn in one durable transaction: all changes that fn makes with its context, or none. The Watch function is
// not called for them. fn must not wait for anything.
func (s *Store) Update(ctx context.Context, fn func(ctx context.Context) error) error {
	// What fn calls takes containerd's locks inside the transaction, others take them before theirs. Both only read-lock,
	// which is no trouble until a collection waits to write-lock between them: none may begin meanwhile.
	s.collecting.RLock()
	defer s.collecting.RUnlock()
	return s.db.Update(func(tx *bolt.Tx) error { return fn(boltutil.WithTransaction(inNamespace(ctx), tx)) })
}

// Lease protects everything that is written with the returned context until release is called.
func (s *Store) Lease(ctx context.Context) (context.Context, func(), error) {
	if _, ok := leases.FromContext(ctx); ok {
		return ctx, func() {}, nil
	}
	// No expiry: Open sweeps what a dead process held, and a clock that is set forward must not end what is under way.
	l, err := s.leases.Create(ctx, leases.WithRandomID(), leases.WithLabels(map[string]string{leaseLabel: "1"}))
	if err != nil {
		return nil, nil, fmt.Errorf("create lease: %w", err)
	}
	release := func() {
		if err := s.leases.Delete(context.WithoutCancel(ctx), l); err != nil {
			s.log.Warn("lease not released", "lease", l.ID, "error", err)
		}
	}
	return leases.WithLease(ctx, l.ID), release, nil
}

// Hold puts existing blobs under the context's lease, so that they stay while an operation reads them.
func (s *Store) Hold(ctx context.Context, dgsts ...digest.Digest) error {
	id, ok := leases.FromContext(ctx)
	if !ok {
		return nil
	}
	return s.Update(ctx, func(ctx context.Context) error {
		for _, d := range dgsts {
			r := leases.Resource{ID: d.String(), Type: "content"}
			if err := s.leases.AddResource(ctx, leases.Lease{ID: id}, r); err != nil {
				return fmt.Errorf("hold %s: %w", d, err)
			}
		}
		return nil
	})
}

func inNamespace(ctx context.Context) context.Context {
	if ns, ok := namespaces.Namespace(ctx); ok && ns == Namespace {
		return ctx
	}
	return namespaces.WithNamespace(ctx, Namespace)
}
