package ctdstore

import (
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The types of this file add the namespace to each call, so that no caller can forget it.

type contentStore struct{ inner content.Store }

func (c contentStore) Info(ctx context.Context, d digest.Digest) (content.Info, error) {
	return c.inner.Info(inNamespace(ctx), d)
}

func (c contentStore) Update(ctx context.Context, i content.Info, paths ...string) (content.Info, error) {
	return c.inner.Update(inNamespace(ctx), i, paths...)
}

func (c contentStore) Walk(ctx context.Context, fn content.WalkFunc, filters ...string) error {
	return c.inner.Walk(inNamespace(ctx), fn, filters...)
}

func (c contentStore) Delete(ctx context.Context, d digest.Digest) error {
	return c.inner.Delete(inNamespace(ctx), d)
}

func (c contentStore) ReaderAt(ctx context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	return c.inner.ReaderAt(inNamespace(ctx), d)
}

func (c contentStore) Status(ctx context.Context, ref string) (content.Status, error) {
	return c.inner.Status(inNamespace(ctx), ref)
}

func (c contentStore) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	return c.inner.ListStatuses(inNamespace(ctx), filters...)
}

func (c contentStore) Abort(ctx context.Context, ref string) error {
	return c.inner.Abort(inNamespace(ctx), ref)
}

func (c contentStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	return c.inner.Writer(inNamespace(ctx), opts...)
}

// snapshotter also finds layers that were adopted under their chain ID, and records none whose files are not on disk.
type snapshotter struct {
	inner   snapshots.Snapshotter
	aliases *aliases
	persist func() error
}

func (s snapshotter) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	return s.inner.Stat(inNamespace(ctx), s.aliases.of(ctx, key))
}

func (s snapshotter) Update(ctx context.Context, i snapshots.Info, paths ...string) (snapshots.Info, error) {
	return s.inner.Update(inNamespace(ctx), i, paths...)
}

func (s snapshotter) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	return s.inner.Usage(inNamespace(ctx), s.aliases.of(ctx, key))
}

func (s snapshotter) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return s.inner.Mounts(inNamespace(ctx), key)
}

func (s snapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.inner.Prepare(inNamespace(ctx), key, s.aliases.of(ctx, parent), opts...)
}

func (s snapshotter) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.inner.View(inNamespace(ctx), key, s.aliases.of(ctx, parent), opts...)
}

func (s snapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	if err := s.persist(); err != nil {
		return err
	}
	return s.commitPersisted(ctx, name, key, opts...)
}

// commitPersisted is Commit for files that persist has put on disk already.
func (s snapshotter) commitPersisted(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return s.inner.Commit(inNamespace(ctx), name, key, opts...)
}

func (s snapshotter) Remove(ctx context.Context, key string) error {
	return s.inner.Remove(inNamespace(ctx), key)
}

func (s snapshotter) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	return s.inner.Walk(inNamespace(ctx), fn, filters...)
}

func (s snapshotter) Close() error { return s.inner.Close() }

// leaseManager also holds adopted layers by their chain ID.
type leaseManager struct {
	inner   leases.Manager
	aliases *aliases
}

func (l leaseManager) Create(ctx context.Context, opts ...leases.Opt) (leases.Lease, error) {
	return l.inner.Create(inNamespace(ctx), opts...)
}

func (l leaseManager) Delete(ctx context.Context, lease leases.Lease, opts ...leases.DeleteOpt) error {
	return l.inner.Delete(inNamespace(ctx), lease, opts...)
}

func (l leaseManager) List(ctx context.Context, filters ...string) ([]leases.Lease, error) {
	return l.inner.List(inNamespace(ctx), filters...)
}

func (l leaseManager) AddResource(ctx context.Context, lease leases.Lease, r leases.Resource) error {
	if r.Type == snapshotResource {
		r.ID = l.aliases.of(ctx, r.ID)
	}
	return l.inner.AddResource(inNamespace(ctx), lease, r)
}

func (l leaseManager) DeleteResource(ctx context.Context, lease leases.Lease, r leases.Resource) error {
	return l.inner.DeleteResource(inNamespace(ctx), lease, r)
}

func (l leaseManager) ListResources(ctx context.Context, lease leases.Lease) ([]leases.Resource, error) {
	return l.inner.ListResources(inNamespace(ctx), lease)
}

// imageStore also tells who watches about changes made outside Store.Update.
type imageStore struct {
	inner   images.Store
	changed func(ctx context.Context, name string)
}

func (s *imageStore) Get(ctx context.Context, name string) (images.Image, error) {
	return s.inner.Get(inNamespace(ctx), name)
}

func (s *imageStore) List(ctx context.Context, filters ...string) ([]images.Image, error) {
	return s.inner.List(inNamespace(ctx), filters...)
}

func (s *imageStore) Create(ctx context.Context, img images.Image) (images.Image, error) {
	out, err := s.inner.Create(inNamespace(ctx), img)
	s.tell(ctx, img.Name, err)
	return out, err
}

func (s *imageStore) Update(ctx context.Context, img images.Image, paths ...string) (images.Image, error) {
	out, err := s.inner.Update(inNamespace(ctx), img, paths...)
	s.tell(ctx, img.Name, err)
	return out, err
}

func (s *imageStore) Delete(ctx context.Context, name string, opts ...images.DeleteOpt) error {
	err := s.inner.Delete(inNamespace(ctx), name, opts...)
	s.tell(ctx, name, err)
	return err
}

func (s *imageStore) tell(ctx context.Context, name string, err error) {
	if _, inside := boltutil.Transaction(ctx); err == nil && !inside && s.changed != nil {
		s.changed(ctx, name)
	}
}
