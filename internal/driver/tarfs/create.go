package tarfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// create makes what the entry describes; its place is free, or exists says that the directory is there.
func (u *unpacker) create(ctx context.Context, e *entry, content io.Reader, exists bool) error {
	dirfd := int(e.parent.Fd())
	switch e.h.Typeflag {
	case tar.TypeDir:
		if !exists {
			if err := unix.Mkdirat(dirfd, e.base, 0o700); err != nil {
				return err
			}
		}
		u.dirs = append(u.dirs, dirTime{e.name, e.h.ModTime})
	case tar.TypeSymlink:
		if err := unix.Symlinkat(e.h.Linkname, dirfd, e.base); err != nil {
			return err
		}
		return u.finishLink(e)
	case tar.TypeLink:
		// The file has its attributes from its first entry.
		return u.hardLink(e)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		if err := makeNode(dirfd, e); err != nil {
			return err
		}
	default:
		return u.regular(ctx, e, content)
	}
	fd, err := unix.Openat(dirfd, e.base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), e.base)
	defer f.Close()
	return u.attributes(f, e)
}

// makeNode makes a named pipe or a device.
func makeNode(dirfd int, e *entry) error {
	kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[e.h.Typeflag]
	dev := 0
	if e.h.Typeflag != tar.TypeFifo {
		if e.h.Devmajor < 0 || e.h.Devminor < 0 || e.h.Devmajor >= 1<<12 || e.h.Devminor >= 1<<20 {
			return fault.Invalid("invalid device number of %q in archive", e.name)
		}
		dev = int(unix.Mkdev(uint32(e.h.Devmajor), uint32(e.h.Devminor)))
	}
	return unix.Mknodat(dirfd, e.base, kind|0o600, dev)
}

func (u *unpacker) regular(ctx context.Context, e *entry, content io.Reader) error {
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(e.parent.Fd()), e.base, flags, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), e.base)
	defer f.Close()
	if err := u.fill(ctx, f, e.h.Size, content); err != nil {
		return err
	}
	if err := u.attributes(f, e); err != nil {
		return err
	}
	return f.Close()
}

// fill writes a file's content. Blocks of zeros become holes: an archive can describe a sparse file that is larger than
// the disk in a few bytes.
func (u *unpacker) fill(ctx context.Context, f *os.File, size int64, content io.Reader) error {
	if size > int64(len(u.buf)) {
		if err := f.Truncate(size); err != nil { // too large for the file system
			return err
		}
	}
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(content, u.buf)
		if n > 0 && (n < len(u.buf) || !bytes.Equal(u.buf, u.zeros)) {
			if _, err := f.WriteAt(u.buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && at == size:
			return nil
		case err != nil:
			return badArchive(err)
		}
	}
}

// attributes sets owner, mode, extended attributes and time of all but links, in the order in which they do not undo
// one another: a change of owner drops the set-user-ID bits and file capabilities.
func (u *unpacker) attributes(f *os.File, e *entry) error {
	name := procPath(f)
	uid, gid := u.owner(e)
	if err := unix.Fchownat(int(f.Fd()), "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Fchmodat(unix.AT_FDCWD, name, uint32(e.h.Mode)&0o7777, 0); err != nil {
		return err
	}
	for key, value := range e.h.PAXRecords {
		key, ok := strings.CutPrefix(key, paxXattr)
		if !ok || !keptXattr(key) {
			continue
		}
		err := unix.Setxattr(name, key, []byte(value), 0)
		// What the file system or the kind of file cannot hold is left out, as docker does.
		if err != nil && err != unix.ENOTSUP && err != unix.EPERM && err != unix.EINVAL && err != unix.ERANGE {
			return err
		}
	}
	return setTime(f, "", e.h.ModTime)
}

func (u *unpacker) owner(e *entry) (uid, gid int) {
	uid, gid = e.h.Uid, e.h.Gid
	if o := u.options.Owner; o != nil {
		uid, gid = o.UID, o.GID
	}
	if ids := u.root.shift.IDs; ids != nil {
		var ok bool
		if uid, gid, ok = ids.Outside(uid, gid); !ok { // nobody there can have it
			return ids.Root()
		}
	}
	return uid, gid
}

func (u *unpacker) finishLink(e *entry) error {
	u.parentName = "" // the link may lie on the way to the next entry's directory
	uid, gid := u.owner(e)
	if err := unix.Fchownat(int(e.parent.Fd()), e.base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return setTime(e.parent, e.base, e.h.ModTime)
}

// hardLink gives a file that was unpacked, or was there before, a second name.
func (u *unpacker) hardLink(e *entry) error {
	target, err := u.inside(e.h.Linkname)
	if err != nil {
		return err
	}
	f, err := u.root.open(target, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return fault.Invalid("hard link %q in archive: %w", e.h.Name, err)
	}
	defer f.Close()
	if isDir(f) {
		return fault.Invalid("hard link %q in archive to directory %q", e.h.Name, e.h.Linkname)
	}
	// Linking the descriptor, not a name: nothing can be swapped in between.
	err = unix.Linkat(int(f.Fd()), "", int(e.parent.Fd()), e.base, unix.AT_EMPTY_PATH)
	if err == unix.ENOENT { // without the privilege to link descriptors
		err = unix.Linkat(unix.AT_FDCWD, procPath(f), int(e.parent.Fd()), e.base, unix.AT_SYMLINK_FOLLOW)
	}
	return err
}

// setTime sets the time of f itself when name is empty.
func setTime(f *os.File, name string, at time.Time) error {
	ts, err := unix.TimeToTimespec(at)
	if err != nil || at.Unix() < 0 {
		ts = unix.Timespec{}
	}
	both := []unix.Timespec{ts, ts}
	if name == "" {
		return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(f), both, 0)
	}
	return unix.UtimesNanoAt(int(f.Fd()), name, both, unix.AT_SYMLINK_NOFOLLOW)
}
