// Package treesize adds up what a directory tree takes on its disk, with as few system calls as there can be: an empty
// directory costs four.
package treesize

import (
	"context"
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Total is what a tree takes.
type Total struct {
	Blocks int64 // bytes of the blocks that its files and directories have; a file with several names counts once
	Inodes int64 // how many files and directories it has
}

// deepest bounds the directories that are open at once. What lies deeper below such that have more than one is not counted.
const deepest = 500

// Of adds up dir and all below it, which is not followed out by links. What vanishes meanwhile is not counted; a dir that
// is missing is an error.
func Of(ctx context.Context, dir string) (Total, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return Total{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	w := walk{done: ctx.Done(), buf: make([]byte, 8<<10)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return Total{}, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	w.add(&st)
	if err := w.directory(fd, 0); err != nil {
		return Total{}, &os.PathError{Op: "size", Path: dir, Err: err}
	}
	return w.total, ctx.Err()
}

type inode struct{ dev, ino uint64 }

type walk struct {
	total Total
	done  <-chan struct{}
	buf   []byte
	seen  map[inode]bool // files with several names
}

func (w *walk) add(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		i := inode{st.Dev, st.Ino}
		if w.seen[i] {
			return
		}
		if w.seen == nil {
			w.seen = map[inode]bool{}
		}
		w.seen[i] = true
	}
	w.total.Inodes++
	w.total.Blocks += st.Blocks * 512
}

// directory adds what lies in an open directory, and closes it.
func (w *walk) directory(fd, depth int) error {
	open := true
	defer func() {
		if open {
			_ = unix.Close(fd)
		}
	}()
	var below []string
	for {
		n, err := unix.Getdents(fd, w.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.ENOENT) {
			return nil // it was removed
		}
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		for rest := w.buf[:n]; len(rest) > 0; {
			var name string
			name, rest = entry(rest)
			if name == "." || name == ".." {
				continue
			}
			isDir, err := w.entry(fd, name)
			if err != nil {
				return err
			}
			if isDir {
				below = append(below, name)
			}
		}
	}
	select {
	case <-w.done:
		return nil // the caller tells why
	default:
	}
	for i, name := range below {
		child, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			if gone(err) {
				continue
			}
			return err
		}
		if i == len(below)-1 {
			open = false
			_ = unix.Close(fd)
			depth--
		}
		if depth >= deepest {
			_ = unix.Close(child)
			continue
		}
		if err := w.directory(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// entry adds an entry of a directory and tells whether it is a directory.
func (w *walk) entry(fd int, name string) (isDir bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT); err != nil {
		if gone(err) {
			return false, nil
		}
		return false, err
	}
	w.add(&st)
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// gone tells of an entry that was removed or replaced after its directory was read.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// entry reads the first struct linux_dirent64: inode 8, offset 8, length 2, type 1, name and a zero byte.
func entry(b []byte) (name string, rest []byte) {
	length := binary.NativeEndian.Uint16(b[16:])
	text := b[19:length]
	for i, c := range text {
		if c == 0 {
			text = text[:i]
			break
		}
	}
	return string(text), b[length:]
}
