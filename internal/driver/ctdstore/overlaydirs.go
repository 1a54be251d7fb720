package ctdstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/mount"
	cfs "github.com/containerd/continuity/fs"
	"github.com/containerd/continuity/sysx"
	"golang.org/x/sys/unix"
)

// upperDir is the directory that a writable snapshot's changes are kept in.
func upperDir(mounts []mount.Mount) (string, error) {
	if len(mounts) == 1 {
		if mounts[0].Type == "bind" {
			return mounts[0].Source, nil
		}
		for _, o := range mounts[0].Options {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("snapshot has no upper directory: %v", mounts)
}

// lowerDirs are the directories below a snapshot, topmost first; for a read-only view of one layer, that layer.
func lowerDirs(mounts []mount.Mount) []string {
	if len(mounts) != 1 {
		return nil
	}
	for _, o := range mounts[0].Options {
		if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
			return strings.Split(dirs, ":")
		}
		if o == "ro" && mounts[0].Type == "bind" {
			return []string{mounts[0].Source}
		}
	}
	return nil
}

// inheritDir copies owner, mode, extended attributes and times of dir from the topmost of lowers that has it.
func inheritDir(root string, lowers []string, dir string) error {
	target, err := cfs.RootPath(root, dir)
	if err != nil {
		return err
	}
	if fi, err := os.Lstat(target); err != nil || !fi.IsDir() {
		return nil // a link to elsewhere, or removed by a later entry
	}
	for _, lower := range lowers {
		src, err := cfs.RootPath(lower, dir)
		if err != nil {
			return err
		}
		fi, err := os.Lstat(src)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !fi.IsDir() { // deleted or replaced in that layer: nothing to inherit from below
			return nil
		}
		return copyDirMeta(target, src, fi)
	}
	return nil
}

func copyDirMeta(target, src string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("no stat of %q", src)
	}
	if err := os.Lchown(target, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := os.Chmod(target, fi.Mode()); err != nil {
		return err
	}
	names, err := sysx.LListxattr(src)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, "trusted.overlay.") {
			continue
		}
		v, err := sysx.LGetxattr(src, n)
		if err != nil {
			return err
		}
		if err := sysx.LSetxattr(target, n, v, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{
		{Nsec: unix.UTIME_OMIT}, {Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec},
	}, unix.AT_SYMLINK_NOFOLLOW)
}
