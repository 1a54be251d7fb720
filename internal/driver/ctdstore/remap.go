package ctdstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"golang.org/x/sys/unix"
)

// shiftLabel marks writable snapshots that are mounted through the mapping of a user namespace.
const shiftLabel = "longshore.shifted"

// Shift makes mounts that are seen through the mapping of a user namespace. Implemented by driver/userns.
type Shift interface {
	// Mount attaches what lies at source, seen through the mapping, at target.
	Mount(source, target string) error
	// As runs f on a thread of its own that makes files as the namespace's root and may change its directory.
	As(f func() error) error
}

// remapping is how root filesystems are mounted for containers in a user namespace; shift is nil without.
type remapping struct {
	shift   Shift
	shifted string // where the snapshots are mounted through the mapping
}

// ShiftBy lets root filesystems be mounted for containers in a user namespace: all layers, the writable one too, are taken
// from a mount of the snapshots at dir, which is made now and ends with Close. What lies on disk carries the namespace's
// own numbers and is the same with and without one.
func (s *Store) ShiftBy(shift Shift, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	unmountAll(dir) // of a daemon that was killed
	if err := shift.Mount(s.snapshotsDir(), dir); err != nil {
		return fmt.Errorf("snapshots for user namespaces: %w", err)
	}
	s.shift, s.shifted = shift, dir
	return nil
}

func (s *Store) snapshotsDir() string { return filepath.Join(s.root, "snapshots") }

func unmountAll(dir string) {
	for unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		continue
	}
}

func (s *Store) closeShift() {
	if s.shift != nil {
		unmountAll(s.shifted)
		_ = os.Remove(s.shifted)
	}
}

// ShiftRootFS has the root filesystem of key mounted for a container in a user namespace from now on.
func (s *Store) ShiftRootFS(ctx context.Context, key string) error {
	if s.shift == nil {
		return errors.New("there is no user namespace to mount root filesystems for")
	}
	_, err := s.snaps.Update(ctx, snapshots.Info{Name: key, Labels: map[string]string{shiftLabel: "yes"}}, "labels."+shiftLabel)
	if err != nil {
		return fmt.Errorf("root filesystem %s: %w", key, err)
	}
	return nil
}

// isShifted tells whether a snapshot is for a container in a user namespace. Where there are none, nothing is asked.
func (s *Store) isShifted(ctx context.Context, key string) (bool, error) {
	if s.shift == nil {
		return false, nil
	}
	info, err := s.snaps.Stat(ctx, key)
	return info.Labels[shiftLabel] != "", err
}

// MountShifted mounts m, of a snapshot or a bind, at target with all its directories seen through the mapping.
func (s *Store) MountShifted(m mount.Mount, target string) error {
	if s.shift == nil {
		return errors.New("there is no user namespace to mount for")
	}
	return s.mountShifted([]mount.Mount{m}, target)
}

// mountShifted mounts a snapshot's one mount with all its directories seen through the mapping.
func (s *Store) mountShifted(mounts []mount.Mount, target string) error {
	if len(mounts) != 1 {
		return fmt.Errorf("%d mounts of a snapshot", len(mounts))
	}
	m := mounts[0]
	if m.Type == "bind" {
		if err := s.shift.Mount(m.Source, target); err != nil || !m.ReadOnly() {
			return err
		}
		return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	data := make([]string, len(m.Options))
	for i, o := range m.Options {
		// relative to the mapped mount: a page holds more of them
		data[i] = strings.ReplaceAll(o, s.snapshotsDir()+"/", "")
	}
	return s.shift.As(func() error {
		if err := unix.Chdir(s.shifted); err != nil { // the thread's alone
			return os.NewSyscallError("chdir", err)
		}
		return os.NewSyscallError("mount", unix.Mount("overlay", target, m.Type, 0, strings.Join(data, ",")))
	})
}
