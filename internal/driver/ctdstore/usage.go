package ctdstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/containerd/errdefs"

	"longshore/internal/base/treesize"
)

// place is where a writable snapshot keeps its changes, and what it stands on.
type place struct{ upper, parent string }

// RootFSUsage gives the bytes of key's writable layer and of its whole root filesystem.
func (s *Store) RootFSUsage(ctx context.Context, key string) (rw, rootfs int64, err error) {
	v, known := s.places.Load(key)
	p, ok := v.(place)
	if !ok {
		if p, err = s.placeOf(ctx, key); err != nil {
			return 0, 0, fmt.Errorf("find root filesystem %s: %w", key, err)
		}
	}
	t, err := treesize.Of(ctx, p.upper)
	if errors.Is(err, fs.ErrNotExist) {
		s.places.Delete(key)
		return 0, 0, fmt.Errorf("root filesystem %s: %w", key, errdefs.ErrNotFound)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("usage of root filesystem %s: %w", key, err)
	}
	if !known {
		s.places.Store(key, p)
	}
	below, err := s.ChainSize(ctx, p.parent)
	return t.Blocks, t.Blocks + below, err
}

func (s *Store) placeOf(ctx context.Context, key string) (place, error) {
	info, err := s.snaps.Stat(ctx, key)
	if err != nil {
		return place{}, err
	}
	mounts, err := s.snaps.Mounts(ctx, key)
	if err != nil {
		return place{}, err
	}
	upper, err := upperDir(mounts)
	return place{upper, info.Parent}, err
}
