package containerfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"longshore/internal/core/idmap"
)

// inode names a file on the source side, to find its other names.
type inode struct{ dev, ino uint64 }

// copier copies the content and the attributes of directories: owners, modes, times, extended attributes, hard links,
// symbolic links, devices and fifos. Sockets are left out.
type copier struct {
	ctx   context.Context
	links map[inode]string
	ids   *idmap.Map // of the source's owners; nil leaves them as they are
}

// dir copies what the directory src has into the existing directory dst.
func (c *copier) dir(src, dst string) error {
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(filepath.Join(src, e.Name()), filepath.Join(dst, e.Name())); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(src, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: src, Err: err}
	}
	return c.attrs(src, dst, &st)
}

func (c *copier) entry(src, dst string) error {
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: src, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if first, ok := c.links[key]; ok {
			return os.Link(first, dst)
		}
		c.links[key] = dst
	}
	switch kind {
	case unix.S_IFDIR:
		if err := os.Mkdir(dst, 0o700); err != nil {
			return err
		}
		return c.dir(src, dst)
	case unix.S_IFREG:
		if err := copyFile(src, dst); err != nil {
			return err
		}
	case unix.S_IFLNK:
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, dst); err != nil {
			return err
		}
	case unix.S_IFSOCK:
		return nil
	default:
		if err := unix.Mknod(dst, st.Mode, int(st.Rdev)); err != nil {
			return &fs.PathError{Op: "mknod", Path: dst, Err: err}
		}
	}
	return c.attrs(src, dst, &st)
}

func copyFile(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

// attrs sets owner, mode, extended attributes and times, in the order in which the kernel does not undo them.
func (c *copier) attrs(src, dst string, st *unix.Stat_t) error {
	uid, gid := int(st.Uid), int(st.Gid)
	if c.ids != nil {
		uid, gid = c.ids.Inside(uid, gid)
	}
	if err := os.Lchown(dst, uid, gid); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(dst, st.Mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: dst, Err: err}
		}
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dst, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: dst, Err: err}
	}
	return nil
}

func copyXattrs(src, dst string) error {
	size, err := unix.Llistxattr(src, nil)
	if err != nil || size == 0 {
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		return err
	}
	names := make([]byte, size)
	if size, err = unix.Llistxattr(src, names); err != nil {
		return err
	}
	for start, i := 0, 0; i < size; i++ {
		if names[i] != 0 {
			continue
		}
		name := string(names[start:i])
		start = i + 1
		if err := copyXattr(src, dst, name); err != nil {
			return fmt.Errorf("copy %s of %s: %w", name, src, err)
		}
	}
	return nil
}

func copyXattr(src, dst, name string) error {
	if len(name) > 16 && name[:16] == "trusted.overlay." {
		return nil // belongs to the layers, not to the content
	}
	size, err := unix.Lgetxattr(src, name, nil)
	if err != nil {
		return ignorable(err)
	}
	value := make([]byte, size)
	if size, err = unix.Lgetxattr(src, name, value); err != nil {
		return ignorable(err)
	}
	return ignorable(unix.Lsetxattr(dst, name, value[:size], 0))
}

// ignorable drops what a file system cannot keep.
func ignorable(err error) error {
	if errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENODATA) {
		return nil
	}
	return err
}
