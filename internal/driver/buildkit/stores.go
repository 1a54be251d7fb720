package buildkit

import (
	"context"
	"strings"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/gc"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

const (
	// namespace is containerd's, the engine's too.
	namespace = "moby"
	// snapshotterName is the snapshotter's key in the metadata database: the garbage collector finds snapshots by it.
	snapshotterName = "overlayfs"
	// layerPrefix begins BuildKit's names of unpacked image layers; what follows is the chain ID with a dash.
	layerPrefix = "buildkit-layer-snapshot-v1-"
)

// names turns BuildKit's name of an unpacked image layer into the engine's, so that what one has unpacked serves both.
// Both check layers against their diff IDs, which make the chain ID.
type names struct{ store Store }

func (n names) of(ctx context.Context, name string) string {
	rest, ok := strings.CutPrefix(name, layerPrefix)
	if !ok {
		return name
	}
	algorithm, hex, ok := strings.Cut(rest, "-")
	if !ok {
		return name
	}
	return n.store.SnapshotName(ctx, algorithm+":"+hex)
}

// snapshotter is the engine's under BuildKit's names.
type snapshotter struct {
	snapshots.Snapshotter
	names names
}

func (s snapshotter) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	return s.Snapshotter.Stat(ctx, s.names.of(ctx, key))
}

func (s snapshotter) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	return s.Snapshotter.Usage(ctx, s.names.of(ctx, key))
}

func (s snapshotter) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return s.Snapshotter.Mounts(ctx, s.names.of(ctx, key))
}

func (s snapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.Snapshotter.Prepare(ctx, key, s.names.of(ctx, parent), opts...)
}

func (s snapshotter) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.Snapshotter.View(ctx, key, s.names.of(ctx, parent), opts...)
}

func (s snapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return s.Snapshotter.Commit(ctx, s.names.of(ctx, name), key, opts...)
}

func (s snapshotter) Remove(ctx context.Context, key string) error {
	return s.Snapshotter.Remove(ctx, s.names.of(ctx, key))
}

// leaseManager is the engine's under BuildKit's names. Its callers choose the namespace: history has one of its own.
type leaseManager struct {
	leases.Manager
	names names
}

func newLeaseManager(db *metadata.DB, n names) leaseManager {
	return leaseManager{metadata.NewLeaseManager(db), n}
}

func (l leaseManager) resource(ctx context.Context, r leases.Resource) leases.Resource {
	if strings.HasPrefix(r.Type, "snapshots/") {
		r.ID = l.names.of(ctx, r.ID)
	}
	return r
}

func (l leaseManager) AddResource(ctx context.Context, lease leases.Lease, r leases.Resource) error {
	return l.Manager.AddResource(ctx, lease, l.resource(ctx, r))
}

func (l leaseManager) DeleteResource(ctx context.Context, lease leases.Lease, r leases.Resource) error {
	return l.Manager.DeleteResource(ctx, lease, l.resource(ctx, r))
}

// collect is the engine's garbage collection in BuildKit's shape; the figures are not used.
func collect(s Store) func(context.Context) (gc.Stats, error) {
	return func(ctx context.Context) (gc.Stats, error) { return nil, s.GarbageCollect(ctx) }
}

func inNamespace(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, namespace)
}
