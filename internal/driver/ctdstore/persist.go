package ctdstore

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// persist puts on disk what was written into snapshots. Their records are durable at once; without this a power cut would leave
// layers that are said to be whole and have empty files, which every later pull and build would build upon
// (docs/decisions/0016-layers-are-synced.md).
func (s *Store) persist() error {
	if err := s.sync(s.snapshotsDir()); err != nil {
		return fmt.Errorf("put layers on disk: %w", err)
	}
	return nil
}

// syncfs writes back the file system that dir lies on, data and metadata, and reports what could not be written.
func syncfs(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd()))), d.Close())
}
