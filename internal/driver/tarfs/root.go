// Package tarfs reads and writes tar archives of a container's file system without ever leaving it.
//
// A Root is the file system as the container sees it: Open takes a plain directory, OpenProcess the mount namespace of
// a running container, OpenMounted builds the view of a stopped one, with its volumes and binds, in a mount namespace
// of its own. Every path is resolved by the kernel with openat2(RESOLVE_IN_ROOT), or step by step with O_NOFOLLOW where
// the kernel is too old for it; entries are created with the *at calls relative to a resolved directory. Symbolic links
// in the container, also ones that change while we work, and hostile archives therefore stay inside.
//
//	root, err := tarfs.Open(dir)
//	err = root.Pack(ctx, "/etc", w)
//	err = root.Close()
package tarfs

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/core/idmap"
)

// Root is an open file system. It is safe for concurrent use until Close.
type Root struct {
	dir *os.File // O_PATH
	ns  *os.File // keeps the mount namespace of OpenMounted alive; nil otherwise
	// resolve tells that the kernel has openat2.
	resolve bool
	shift   Shift
}

// Shift says that the files are seen through the mapping of a user namespace. Archives have the namespace's own numbers.
type Shift struct {
	// IDs is the mapping; nil: there is none.
	IDs *idmap.Map
	// Become makes the calling thread, which is spoilt by it, work as the namespace's root: nobody else can make files.
	Become func() error
}

// ShiftBy sets the mapping that the files are seen through.
func (r *Root) ShiftBy(s Shift) { r.shift = s }

// as runs what makes files.
func (r *Root) as(f func() error) error {
	if r.shift.Become == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := r.shift.Become()
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Open makes the directory dir a root.
func Open(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return newRoot(fd, dir), nil
}

func newRoot(fd int, name string) *Root {
	r := &Root{dir: os.NewFile(uintptr(fd), name), resolve: true}
	if probe, err := r.openat2(".", unix.O_PATH); err != nil {
		r.resolve = false
	} else {
		unix.Close(probe)
	}
	return r
}

// ErrGone says that a process does not show the file system that was expected: it ended, or changed its root.
var ErrGone = errors.New("the process does not run in this root file system any more")

// OpenProcess makes the root of process pid a root: all that is mounted in its namespace can be seen. dir is where its
// root file system is mounted for us; another one is ErrGone, since process numbers come again.
func OpenProcess(pid int, dir string) (*Root, error) {
	r, err := Open("/proc/" + strconv.Itoa(pid) + "/root")
	if err != nil {
		return nil, errors.Join(ErrGone, err)
	}
	var have, want unix.Stat_t
	if err := errors.Join(unix.Fstat(int(r.dir.Fd()), &have), unix.Stat(dir, &want)); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if have.Dev != want.Dev || have.Ino != want.Ino {
		return nil, errors.Join(ErrGone, r.Close())
	}
	return r, nil
}

// Close releases the root and what was mounted for it.
func (r *Root) Close() error {
	err := r.dir.Close()
	if r.ns != nil {
		err = errors.Join(err, r.ns.Close())
	}
	return err
}

// Info is what docker tells about a path.
type Info struct {
	Name  string
	Size  int64
	Mode  fs.FileMode
	Mtime time.Time
	// Target is the absolute path that a symbolic link leads to in the end, as far as it can be followed.
	Target string
}

// Stat describes what lies at path, which is not followed when it is a symbolic link (but "link/" and "link/." are).
// The error of a missing path is fs.ErrNotExist.
func (r *Root) Stat(name string) (Info, error) {
	f, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	i := Info{Name: path.Base(name), Size: st.Size(), Mode: st.Mode(), Mtime: st.ModTime()}
	if st.Mode()&fs.ModeSymlink != 0 {
		i.Target, err = r.Real(name)
	}
	return i, err
}

// Real follows all symbolic links of a path; what does not exist is taken as it is written.
func (r *Root) Real(name string) (string, error) {
	w := walker{root: r, literal: true}
	defer w.close()
	if err := w.walk(name, true); err != nil {
		return "", pathError("resolve", name, err)
	}
	return w.path(), nil
}

// open opens a path inside the root. The file's position in the tree is as safe as its name was resolved; flags
// should have O_NOFOLLOW where the last element must not be a link.
func (r *Root) open(name string, flags int) (*os.File, error) {
	if !r.resolve {
		return r.openSlowly(name, flags)
	}
	fd, err := r.openat2(name, flags)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (r *Root) openat2(name string, flags int) (fd int, err error) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if name == "" {
		name = "."
	}
	// A rename anywhere while ".." is resolved makes the kernel give up; it asks to be called again.
	for range 128 {
		fd, err = unix.Openat2(int(r.dir.Fd()), name, how)
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}

// openSlowly is open for kernels without openat2.
func (r *Root) openSlowly(name string, flags int) (*os.File, error) {
	w := walker{root: r}
	defer w.close()
	if err := w.walk(name, flags&unix.O_NOFOLLOW == 0); err != nil {
		return nil, pathError("open", name, err)
	}
	f := w.take()
	if flags&unix.O_PATH != 0 && flags&unix.O_DIRECTORY == 0 {
		return f, nil
	}
	defer f.Close()
	fd, err := unix.Open(procPath(f), flags&^unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// procPath names an open file, also one that was opened with O_PATH, for calls that take paths only.
func procPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

func pathError(op, name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// maxLinks is the kernel's limit too.
const maxLinks = 40

// walker resolves a path step by step. Its stack of open directories stands for "..", which the kernel is never asked
// for: a directory that is moved meanwhile cannot lead outside.
type walker struct {
	root *Root
	// literal: what does not exist is no error but kept as it is written.
	literal bool
	stack   []step
	missing []string
}

type step struct {
	name string
	file *os.File
}

func (w *walker) walk(name string, followLast bool) error {
	todo := strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		c := todo[0]
		todo = todo[1:]
		switch {
		case len(w.missing) > 0:
			w.lexical(c)
			continue
		case c == "" || c == ".":
			if len(w.stack) > 0 && len(todo) == 0 && !isDir(w.top()) {
				return unix.ENOTDIR
			}
			continue
		case c == "..":
			w.pop()
			continue
		}
		target, err := w.enter(c, len(todo) > 0 || followLast)
		if err != nil {
			return err
		}
		if target == "" {
			continue
		}
		if links++; links > maxLinks {
			return unix.ELOOP
		}
		if target[0] == '/' {
			w.close()
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return nil
}

// enter steps to a child of the present directory, or returns the target of the link that it is.
func (w *walker) enter(c string, follow bool) (target string, err error) {
	fd, err := unix.Openat(int(w.top().Fd()), c, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT && w.literal {
		w.missing = append(w.missing, c)
		return "", nil
	}
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), c)
	if follow {
		if target, err = readlink(f); err != nil || target != "" {
			f.Close()
			return target, err
		}
	}
	w.stack = append(w.stack, step{c, f})
	return "", nil
}

func (w *walker) lexical(c string) {
	switch c {
	case "", ".":
	case "..":
		w.missing = w.missing[:len(w.missing)-1]
	default:
		w.missing = append(w.missing, c)
	}
}

func (w *walker) top() *os.File {
	if len(w.stack) == 0 {
		return w.root.dir
	}
	return w.stack[len(w.stack)-1].file
}

func (w *walker) pop() {
	if n := len(w.stack); n > 0 {
		w.stack[n-1].file.Close()
		w.stack = w.stack[:n-1]
	}
}

// close goes back to the root.
func (w *walker) close() {
	for len(w.stack) > 0 {
		w.pop()
	}
}

// take hands the last file over to the caller.
func (w *walker) take() *os.File {
	n := len(w.stack)
	if n == 0 {
		fd, err := unix.FcntlInt(w.root.dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			fd = -1 // the next call on it tells
		}
		return os.NewFile(uintptr(fd), "/")
	}
	f := w.stack[n-1].file
	w.stack = w.stack[:n-1]
	return f
}

func (w *walker) path() string {
	var parts []string
	for _, s := range w.stack {
		parts = append(parts, s.name)
	}
	return "/" + strings.Join(append(parts, w.missing...), "/")
}

func isDir(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// readlink is empty for what is no symbolic link.
func readlink(f *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", nil
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err == nil && n == 0 {
		err = unix.ENOENT
	}
	return string(buf[:max(n, 0)]), err
}
