package tarfs

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/core/idmap"
)

// Pack writes a tar of what lies at name, as docker cp wants it: a directory with all below it under its own last
// element ("/etc" -> "etc/…", "/etc/." -> "./…", "/" -> "/…"), anything else, symbolic links too, as one entry.
func (r *Root) Pack(ctx context.Context, name string, w io.Writer) error {
	f, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer f.Close()
	base := path.Base(name)
	if base == "/" {
		base = ""
	}
	return newPacker(ctx, w, r.shift.IDs).run(f, base)
}

// PackAll writes a tar of the whole root with names that are relative to it: docker export.
func (r *Root) PackAll(ctx context.Context, w io.Writer) error {
	p := newPacker(ctx, w, r.shift.IDs)
	f, err := r.open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.children(f, ""); err != nil {
		return err
	}
	return p.tw.Close()
}

type packer struct {
	ctx  context.Context
	tw   *tar.Writer
	buf  []byte
	seen map[inode]string // first names of files with several
	ids  *idmap.Map       // that the owners are seen through; nil: none
}

type inode struct{ dev, ino uint64 }

func newPacker(ctx context.Context, w io.Writer, m *idmap.Map) *packer {
	return &packer{ctx: ctx, tw: tar.NewWriter(w), buf: make([]byte, 128<<10), seen: map[inode]string{}, ids: m}
}

func (p *packer) run(f *os.File, name string) error {
	if err := p.add(f, name); err != nil {
		return err
	}
	return p.tw.Close()
}

// add writes the entry of f, which was opened with O_PATH, and of all below it. What vanishes or cannot be read is
// left out, as docker does: a living file system has such files.
func (p *packer) add(f *os.File, name string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return skippable(err)
	}
	h, err := header(f, &st, name, p.ids)
	if err != nil || h == nil {
		return skippable(err)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return p.file(f, h, &st)
	case tar.TypeDir:
		return p.dir(f, h, name)
	}
	return p.tw.WriteHeader(h)
}

func (p *packer) file(f *os.File, h *tar.Header, st *unix.Stat_t) error {
	if st.Nlink > 1 {
		i := inode{uint64(st.Dev), st.Ino}
		if first, ok := p.seen[i]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return p.tw.WriteHeader(h)
		}
		p.seen[i] = h.Name
	}
	var content io.Reader = strings.NewReader("")
	if h.Size > 0 {
		file, err := reopen(f, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return skippable(err)
		}
		defer file.Close()
		content = file
	}
	h.PAXRecords = xattrs(f)
	if err := p.tw.WriteHeader(h); err != nil {
		return err
	}
	return p.copy(content, h.Size)
}

// copy writes exactly size bytes: a file that grows meanwhile is cut, one that shrinks is filled up with zeros.
func (p *packer) copy(r io.Reader, size int64) error {
	for size > 0 {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		buf := p.buf[:min(int64(len(p.buf)), size)]
		n, err := r.Read(buf)
		if n == 0 && err != nil {
			clear(buf)
			n = len(buf)
		}
		if _, err := p.tw.Write(buf[:n]); err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

func (p *packer) dir(f *os.File, h *tar.Header, name string) error {
	h.PAXRecords = xattrs(f)
	if err := p.tw.WriteHeader(h); err != nil {
		return err
	}
	d, err := reopen(f, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return skippable(err)
	}
	defer d.Close()
	return p.children(d, name+"/")
}

func (p *packer) children(d *os.File, prefix string) error {
	names, err := d.Readdirnames(-1)
	if err != nil && len(names) == 0 {
		return skippable(err)
	}
	sort.Strings(names)
	for _, n := range names {
		fd, err := unix.Openat(int(d.Fd()), n, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			if err := skippable(err); err != nil {
				return err
			}
			continue
		}
		f := os.NewFile(uintptr(fd), n)
		err = p.add(f, prefix+n)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// header describes an entry; nil for a socket, which tar cannot hold.
func header(f *os.File, st *unix.Stat_t, name string, ids *idmap.Map) (*tar.Header, error) {
	uid, gid := int(st.Uid), int(st.Gid)
	if ids != nil {
		uid, gid = ids.Inside(uid, gid)
	}
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: uid, Gid: gid,
		ModTime: time.Unix(st.Mtim.Sec, 0), Format: tar.FormatPAX,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case unix.S_IFLNK:
		target, err := readlink(f)
		if err != nil {
			return nil, err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil, nil
	}
	return h, nil
}

// reopen opens the very file that f stands for, whatever its name means by now.
func reopen(f *os.File, flags int) (*os.File, error) {
	fd, err := unix.Open(procPath(f), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// skippable swallows what a living or partly unreadable file system may do at any time, /proc above all.
func skippable(err error) error {
	for _, e := range []error{fs.ErrNotExist, fs.ErrPermission, unix.EIO, unix.EINVAL, unix.ESRCH, unix.ENXIO, unix.ENODEV, unix.ESTALE, unix.ELOOP, unix.EACCES} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// paxXattr is how star, GNU tar and docker carry extended attributes.
const paxXattr = "SCHILY.xattr."

// xattrs are the attributes that belong to the content: file capabilities and the user's own.
func xattrs(f *os.File) map[string]string {
	name := procPath(f)
	var few [512]byte
	buf := few[:]
	n, err := unix.Listxattr(name, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10)
		n, err = unix.Listxattr(name, buf)
	}
	if err != nil || n == 0 {
		return nil
	}
	var out map[string]string
	for _, key := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !keptXattr(key) {
			continue
		}
		size, err := unix.Getxattr(name, key, nil)
		if err != nil {
			continue
		}
		value := make([]byte, size)
		n, err := unix.Getxattr(name, key, value)
		// PAX cannot hold a zero byte in a key; empty values mean "delete".
		if err != nil || n == 0 || strings.Contains(key, "=") {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[paxXattr+key] = string(value[:n])
	}
	return out
}

func keptXattr(key string) bool {
	return key == "security.capability" || strings.HasPrefix(key, "user.")
}
