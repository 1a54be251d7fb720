package tarfs

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// UnpackOptions are docker's for copying into a container.
type UnpackOptions struct {
	// NoOverwriteDirNonDir refuses to replace a directory by something else and the other way round.
	NoOverwriteDirNonDir bool
	// Owner replaces the owners that the archive names.
	Owner *Owner
	// Check may refuse an entry before anything is made of it; nil lets all pass.
	Check func(*tar.Header) error
}

// Owner is a user and a group by number.
type Owner struct{ UID, GID int }

// ErrNotDirectory says that the place to unpack at is no directory.
var ErrNotDirectory = fault.Invalid("extraction point is not a directory")

// Unpack writes an archive, plain or compressed, below dir, which must exist; symbolic links in dir and in the names of
// entries are followed inside the root. An entry that would leave dir by its name is refused. What was unpacked before
// an error stays.
func (r *Root) Unpack(ctx context.Context, dir string, archive io.Reader, o UnpackOptions) error {
	return r.as(func() error { return r.unpack(ctx, dir, archive, o) })
}

func (r *Root) unpack(ctx context.Context, dir string, archive io.Reader, o UnpackOptions) error {
	real, err := r.Real(dir)
	if err != nil {
		return err
	}
	d, err := r.open(real, unix.O_PATH)
	if err != nil {
		return err
	}
	defer d.Close()
	if !isDir(d) {
		return ErrNotDirectory
	}
	plain, done, err := decompress(archive)
	if err != nil {
		return badArchive(err)
	}
	defer done()
	u := unpacker{root: r, base: real, options: o, buf: make([]byte, blockLen), zeros: make([]byte, blockLen)}
	defer u.forgetParent()
	tr := tar.NewReader(plain)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			// The writer may not have been told yet that its last bytes were wanted.
			_, _ = io.CopyN(io.Discard, plain, 1<<20)
			return u.finish()
		}
		if err != nil {
			return badArchive(err)
		}
		if err := u.entry(ctx, h, tr); err != nil {
			return err
		}
	}
}

// badArchive classes what is wrong with the client's bytes; a broken connection is not.
func badArchive(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return fault.Invalid("invalid tar archive: %w", err)
}

const blockLen = 128 << 10

type unpacker struct {
	root    *Root
	base    string // absolute in the root, without symbolic links
	options UnpackOptions
	buf     []byte
	zeros   []byte
	dirs    []dirTime

	// The last parent, since archives come directory by directory. Its name is forgotten when something is removed or
	// linked, which may lie on the way to it.
	parentName string
	parentDir  *os.File
}

// dirTime is a directory's time, which is set when all is in it.
type dirTime struct {
	name string
	at   time.Time
}

func (u *unpacker) entry(ctx context.Context, h *tar.Header, content io.Reader) error {
	name, err := u.inside(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo, tar.TypeChar, tar.TypeBlock, tar.TypeGNUSparse, tar.TypeCont:
	default:
		return fault.Invalid("unhandled tar header type %d", h.Typeflag)
	}
	if u.options.Check != nil {
		if err := u.options.Check(h); err != nil {
			return err
		}
	}
	if name == u.base {
		// The directory itself keeps its place; only another kind of thing would replace it.
		if h.Typeflag != tar.TypeDir {
			return fault.Invalid("cannot overwrite directory %q with non-directory %q", name, u.base)
		}
		return nil
	}
	parent, err := u.parent(path.Dir(name))
	if err != nil {
		return err
	}
	e := entry{h: h, name: name, base: path.Base(name), parent: parent}
	exists, err := u.makeRoom(&e)
	if err != nil {
		return err
	}
	if err := u.create(ctx, &e, content, exists); err != nil {
		return pathError("extract", name, err)
	}
	return nil
}

// inside makes an entry's name absolute in the root.
func (u *unpacker) inside(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", fault.Invalid("invalid name %q in archive", name)
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fault.Invalid("%q is outside of %q", name, u.base)
	}
	return path.Join(u.base, clean), nil
}

// parent opens the directory of an entry and makes what is missing of it.
func (u *unpacker) parent(name string) (*os.File, error) {
	if u.parentDir != nil && u.parentName == name {
		return u.parentDir, nil
	}
	d, err := u.root.mkdirAll(name)
	if err != nil {
		return nil, err
	}
	u.forgetParent()
	u.parentName, u.parentDir = name, d
	return d, nil
}

func (u *unpacker) forgetParent() {
	if u.parentDir != nil {
		u.parentDir.Close()
		u.parentDir = nil
	}
}

// mkdirAll opens a directory, with its missing parents made: owned by root, for everybody to enter.
func (r *Root) mkdirAll(name string) (*os.File, error) {
	f, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, fs.ErrNotExist) || name == "/" {
		return f, err
	}
	parent, err := r.mkdirAll(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := unix.Mkdirat(int(parent.Fd()), path.Base(name), 0o755); err != nil && err != unix.EEXIST {
		return nil, pathError("mkdir", name, err)
	}
	return r.open(name, unix.O_PATH|unix.O_DIRECTORY)
}

// entry is one archive entry on its way to the disk.
type entry struct {
	h      *tar.Header
	name   string // absolute in the root
	base   string
	parent *os.File
}

// makeRoom removes what lies at the entry's place unless both are directories; that it tells.
func (u *unpacker) makeRoom(e *entry) (dirExists bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(int(e.parent.Fd()), e.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, pathError("stat", e.name, err)
	}
	old, new := st.Mode&unix.S_IFMT == unix.S_IFDIR, e.h.Typeflag == tar.TypeDir
	switch {
	case old && new:
		return true, nil
	case u.options.NoOverwriteDirNonDir && old:
		return false, fault.Invalid("cannot overwrite directory %q with non-directory %q", e.name, u.base)
	case u.options.NoOverwriteDirNonDir && new:
		return false, fault.Invalid("cannot overwrite non-directory %q with directory %q", e.name, u.base)
	}
	u.parentName = "" // what was removed may lie on the way to the next entry's directory
	if old {
		return false, pathErrorOrNil("remove", e.name, removeAll(e.parent, e.base))
	}
	return false, pathErrorOrNil("remove", e.name, unix.Unlinkat(int(e.parent.Fd()), e.base, 0))
}

func pathErrorOrNil(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return pathError(op, name, err)
}

// removeAll removes a tree without following links.
func removeAll(parent *os.File, name string) error {
	err := unix.Unlinkat(int(parent.Fd()), name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), name)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := removeAll(d, n); err != nil {
			return err
		}
	}
	return unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR)
}

// finish sets the times of the directories, innermost first, now that nothing more is put into them.
func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		d := u.dirs[i]
		f, err := u.root.open(d.name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			continue // replaced by a later entry
		}
		err = setTime(f, "", d.at)
		f.Close()
		if err != nil {
			return pathError("set time", d.name, err)
		}
	}
	return nil
}
