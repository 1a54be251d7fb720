package ctdstore

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
)

// viewName keeps views apart from containers' root filesystems, which are named by their ID alone.
func viewName(key string) string { return "view-" + key }

// MountView mounts the content of an unpacked image, read-only, at target; shifted for a container in a user namespace. It
// is idempotent.
func (s *Store) MountView(ctx context.Context, key string, chain digest.Digest, target string, shifted bool) error {
	if mounted, err := isMountPoint(target); err != nil {
		return fmt.Errorf("mount image at %s: %w", target, err)
	} else if mounted {
		return nil
	}
	name := viewName(key)
	mounts, err := s.snaps.View(ctx, name, chain.String(), snapshots.WithLabels(map[string]string{
		rootLabel: time.Now().UTC().Format(time.RFC3339),
	}))
	if errdefs.IsAlreadyExists(err) {
		mounts, err = s.snaps.Mounts(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("view of image %s: %w", chain, err)
	}
	if shifted {
		err = s.mountShifted(mounts, target)
	} else {
		err = mount.All(mounts, target)
	}
	if err != nil {
		return fmt.Errorf("mount image %s at %s: %w", chain, target, err)
	}
	return nil
}

// RemoveView forgets a view that is no longer mounted; no error when it is gone.
func (s *Store) RemoveView(ctx context.Context, key string) error {
	return s.RemoveRootFS(ctx, viewName(key))
}
