package ctdstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

const (
	// rootLabel keeps a container's writable snapshot, and with it all below, from the garbage collector.
	rootLabel = "containerd.io/gc.root"
	// imageLabel on a writable snapshot is the chain ID it was made from.
	imageLabel = "longshore.chain"
)

// baseFiles are what docker puts into every root filesystem below the container's own layer: targets of the mounts that
// every container has. They are so neither part of a container's changes nor of what a commit keeps.
var baseFiles = []struct {
	path string
	dir  bool
	link string
}{
	{path: "dev/pts", dir: true}, {path: "dev/shm", dir: true}, {path: "proc", dir: true}, {path: "sys", dir: true},
	{path: ".dockerenv"}, {path: "etc/resolv.conf"}, {path: "etc/hosts"}, {path: "etc/hostname"},
	{path: "dev/console"}, {path: "etc/mtab", link: "/proc/mounts"},
}

// PrepareRootFS makes the writable snapshot of key on top of an unpacked image. It is idempotent. config is the image's
// configuration, which keeps the layer of base files alive.
func (s *Store) PrepareRootFS(ctx context.Context, key string, config, chain digest.Digest) error {
	base, err := s.baseLayer(ctx, config, chain)
	if err != nil {
		return err
	}
	_, err = s.snaps.Prepare(ctx, key, base, snapshots.WithLabels(map[string]string{
		rootLabel:  time.Now().UTC().Format(time.RFC3339),
		imageLabel: chain.String(),
	}))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("prepare root filesystem %s: %w", key, err)
	}
	return nil
}

// baseLayer gives the snapshot with docker's base files on top of chain, made at first use.
func (s *Store) baseLayer(ctx context.Context, config, chain digest.Digest) (string, error) {
	name := "init-" + chain.String()
	if _, err := s.snaps.Stat(ctx, name); err == nil {
		return name, nil
	}
	_, err, _ := s.unpacking.Do(name, func() (any, error) { return nil, s.makeBaseLayer(ctx, name, config, chain) })
	return name, err
}

func (s *Store) makeBaseLayer(ctx context.Context, name string, config, chain digest.Digest) error {
	if _, err := s.snaps.Stat(ctx, name); err == nil {
		return nil
	}
	ctx, release, err := s.Lease(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	defer release()
	key := "make-" + name
	mounts, err := s.snaps.Prepare(ctx, key, chain.String())
	if errdefs.IsAlreadyExists(err) { // left by a process that died
		if err = s.snaps.Remove(ctx, key); err == nil {
			mounts, err = s.snaps.Prepare(ctx, key, chain.String())
		}
	}
	if err != nil {
		return fmt.Errorf("prepare base files: %w", err)
	}
	upper, err := upperDir(mounts)
	if err != nil {
		return err
	}
	if err := writeBaseFiles(upper, lowerDirs(mounts)); err != nil {
		return errors.Join(fmt.Errorf("write base files: %w", err), s.snaps.Remove(ctx, key))
	}
	if err := s.snaps.Commit(ctx, name, key); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("commit base files: %w", err)
	}
	if config == "" {
		return nil
	}
	return s.Label(ctx, config, map[string]string{snapshotLabel + "/init": name})
}

// writeBaseFiles writes straight into the upper directory what the layers below do not have.
func writeBaseFiles(upper string, lowers []string) error {
	for _, f := range baseFiles {
		if l := lookupLower(lowers, f.path); l.exists {
			continue
		}
		if !makeParents(upper, lowers, f.path) {
			continue
		}
		target := filepath.Join(upper, f.path)
		var err error
		switch {
		case f.dir:
			err = os.Mkdir(target, 0o755)
		case f.link != "":
			err = os.Symlink(f.link, target)
		default:
			err = os.WriteFile(target, nil, 0o755)
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// makeParents makes the parents of a path with the metadata that they have below. False when a parent is no directory
// below (a link, for one): such a file is left to the runtime.
func makeParents(upper string, lowers []string, path string) bool {
	dir := filepath.Dir(path)
	if dir == "." {
		return true
	}
	if !makeParents(upper, lowers, dir) {
		return false
	}
	l := lookupLower(lowers, dir)
	if l.exists && !l.info.IsDir() {
		return false
	}
	target := filepath.Join(upper, dir)
	if err := os.Mkdir(target, 0o755); err != nil {
		return errors.Is(err, os.ErrExist)
	}
	return !l.exists || copyDirMeta(target, l.path, l.info) == nil
}

// MountRootFS mounts the writable snapshot of key at target. It is idempotent.
func (s *Store) MountRootFS(ctx context.Context, key, target string) error {
	if mounted, err := isMountPoint(target); err != nil {
		return fmt.Errorf("mount root filesystem %s: %w", key, err)
	} else if mounted {
		return nil
	}
	mounts, err := s.snaps.Mounts(ctx, key)
	if err != nil {
		return fmt.Errorf("mounts of root filesystem %s: %w", key, err)
	}
	shifted, err := s.isShifted(ctx, key)
	switch {
	case err != nil:
	case shifted:
		err = s.mountShifted(mounts, target)
	default:
		err = mount.All(mounts, target)
	}
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("mount root filesystem %s: a layer is missing, pull the image again: %w", key, err)
	}
	if err != nil {
		return fmt.Errorf("mount root filesystem %s: %w", key, err)
	}
	return nil
}

// UnmountRootFS unmounts target. It is idempotent; a mount that is still in use is detached and goes with its last user.
func (s *Store) UnmountRootFS(target string) error {
	for {
		mounted, err := isMountPoint(target)
		if errors.Is(err, os.ErrNotExist) || err == nil && !mounted {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ESTALE) {
			return fmt.Errorf("unmount %q: %w", target, err)
		}
		if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %q: %w", target, err)
		}
	}
}

// RemoveRootFS deletes the writable snapshot of key; no error when it is gone. Its files go in the background.
func (s *Store) RemoveRootFS(ctx context.Context, key string) error {
	s.places.Delete(key)
	if err := s.snaps.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove root filesystem %s: %w", key, err)
	}
	return nil
}

// ChainSize is the unpacked size in bytes of a committed snapshot and all below it; 0 when it is not unpacked.
func (s *Store) ChainSize(ctx context.Context, name string) (int64, error) {
	var sum int64
	for name != "" {
		l, err := s.layerSize(ctx, name)
		if errdefs.IsNotFound(err) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("size of snapshot %s: %w", name, err)
		}
		sum += l.size
		name = l.parent
	}
	return sum, nil
}

// LayerSize is the unpacked size in bytes of one committed layer; 0 when it is not unpacked.
func (s *Store) LayerSize(ctx context.Context, name string) int64 {
	l, err := s.layerSize(ctx, name)
	if err != nil {
		return 0
	}
	return l.size
}

type layerSize struct {
	size   int64
	parent string
}

func (s *Store) layerSize(ctx context.Context, name string) (layerSize, error) {
	name = s.SnapshotName(ctx, name)
	if v, ok := s.sizes.Load(name); ok {
		l, _ := v.(layerSize)
		return l, nil
	}
	info, err := s.snaps.Stat(ctx, name)
	if err != nil {
		return layerSize{}, err
	}
	u, err := s.snaps.Usage(ctx, name)
	if err != nil {
		return layerSize{}, err
	}
	l := layerSize{u.Size, info.Parent}
	if info.Kind == snapshots.KindCommitted {
		s.sizes.Store(name, l)
	}
	return l, nil
}

// isMountPoint asks the kernel without reading the mount table (which is long on a busy host).
func isMountPoint(target string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, target, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	if err != nil {
		return false, &os.PathError{Op: "statx", Path: target, Err: err}
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
