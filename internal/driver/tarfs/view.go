package tarfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// Bind is a directory or file of the host that a container sees at Destination.
type Bind struct {
	Source, Destination string
	ReadOnly            bool
	// Tree is Source as a mount that is not attached anywhere (seen through a mapping, for one); nil binds Source.
	Tree *os.File
}

// OpenMounted makes dir a root in which the binds are mounted as the container would have them. The mounts live in a
// mount namespace of their own, which holds nothing else, and end with Close. Missing mount points are created in dir,
// as the start of the container would; binds whose source is missing are left out.
// With a mapping, they are made by its root.
func OpenMounted(dir string, binds []Bind, s Shift) (*Root, error) {
	type result struct {
		root *Root
		err  error
	}
	done := make(chan result)
	go func() {
		// The thread is never given back: it ends with the goroutine, and the namespace stays with the Root alone.
		runtime.LockOSThread()
		r, err := enter(dir, binds, s)
		done <- result{r, err}
	}()
	res := <-done
	if res.err != nil {
		return nil, fmt.Errorf("file system of a stopped container: %w", res.err)
	}
	return res.root, nil
}

// enter moves the calling thread into a namespace that has dir with its binds as root.
func enter(dir string, binds []Bind, s Shift) (*Root, error) {
	if s.Become != nil {
		if err := s.Become(); err != nil {
			return nil, err
		}
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	if err := mount("", "/", unix.MS_REC|unix.MS_PRIVATE); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	if err := mount(dir, dir, unix.MS_BIND); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	root, err := Open(dir)
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	root.ns = ns
	root.shift = s
	// Outer mounts first, as the container's runtime does it.
	binds = append([]Bind(nil), binds...)
	sort.SliceStable(binds, func(i, k int) bool { return depth(binds[i]) < depth(binds[k]) })
	for _, b := range binds {
		if err := root.bind(b); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}
	if err := root.pivot(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

func depth(b Bind) int { return strings.Count(path.Clean(b.Destination), "/") }

func (r *Root) bind(b Bind) error {
	st, err := os.Stat(b.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	target, err := r.mountPoint(b.Destination, st.IsDir())
	if err != nil {
		return err
	}
	defer target.Close()
	if b.Tree != nil {
		err = unix.MoveMount(int(b.Tree.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	} else {
		err = mount(b.Source, procPath(target), unix.MS_BIND|unix.MS_REC)
	}
	if err != nil {
		return err
	}
	if !b.ReadOnly {
		return nil
	}
	// The descriptor is still the covered file; the mount is found by its name.
	top, err := r.open(b.Destination, unix.O_PATH)
	if err != nil {
		return err
	}
	defer top.Close()
	var vfs unix.Statfs_t
	if err := unix.Fstatfs(int(top.Fd()), &vfs); err != nil {
		return err
	}
	// What the source's mount forbids stays forbidden.
	keep := uintptr(vfs.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	return mount("", procPath(top), unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|keep)
}

// mountPoint opens the place of a mount and makes it if it is missing.
func (r *Root) mountPoint(name string, dir bool) (*os.File, error) {
	f, err := r.open(name, unix.O_PATH)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	// A link that leads nowhere: its target is made.
	real, err := r.Real(name)
	if err != nil {
		return nil, err
	}
	if dir {
		return r.mkdirAll(real)
	}
	parent, err := r.mkdirAll(path.Dir(real))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	fd, err := unix.Openat(int(parent.Fd()), path.Base(real), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o644)
	if err != nil && err != unix.EEXIST {
		return nil, pathError("create", name, err)
	}
	if err == nil {
		unix.Close(fd)
	}
	return r.open(real, unix.O_PATH|unix.O_NOFOLLOW)
}

// pivot makes the root the thread's root and lets go of everything else, so that the namespace pins nobody's mounts.
func (r *Root) pivot() error {
	if err := unix.Fchdir(int(r.dir.Fd())); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	return os.NewSyscallError("umount2", unix.Unmount(".", unix.MNT_DETACH))
}

func mount(source, target string, flags uintptr) error {
	if err := unix.Mount(source, target, "", flags, ""); err != nil {
		return &os.LinkError{Op: "mount", Old: source, New: target, Err: err}
	}
	return nil
}
