package ctdstore

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"longshore/internal/core/fault"
)

// Quota bounds what may be written below directories; see driver/projectquota.
type Quota interface {
	Supported(dir string) error
	Limit(project uint32, size uint64, dirs ...string) error
}

// LimitRootFS bounds the writable layer of key to size bytes. A project of the file system is numbered as the snapshot's
// directory is.
func (s *Store) LimitRootFS(ctx context.Context, key string, size uint64, q Quota) error {
	if err := q.Supported(s.root); err != nil {
		return fault.Internal("--storage-opt is supported only for overlay over xfs with 'pquota' mount option (or ext4 with 'prjquota'): %w", err)
	}
	mounts, err := s.snaps.Mounts(ctx, key)
	if err != nil {
		return fmt.Errorf("mounts of root filesystem %s: %w", key, err)
	}
	upper, err := upperDir(mounts)
	if err != nil {
		return err
	}
	dir := filepath.Dir(upper)
	number, err := strconv.ParseUint(filepath.Base(dir), 10, 30)
	if err != nil {
		return fmt.Errorf("snapshot directory %s: %w", dir, err)
	}
	return q.Limit(uint32(number), size, dir, upper, filepath.Join(dir, "work"))
}
