// Package userns makes user namespaces and mounts that are seen through their mapping.
//
// A container in a user namespace has root file system and volumes whose files carry the namespace's own numbers on disk
// (0 for root), exactly as without one: mounts translate (mount_setattr, Linux 5.12; overlayfs on such layers 5.19).
// Nothing is copied or changed in owner, an image's layers serve containers with and without a namespace alike, and a
// commit or a copy needs no translation of what lies on disk.
package userns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"longshore/internal/core/idmap"
)

// Shifter makes mounts for one mapping. Safe for concurrent use.
type Shifter struct {
	ids *idmap.Map
	ns  *os.File // a user namespace with the mapping
}

// NewShifter makes the namespace that mounts are seen through.
func NewShifter(m *idmap.Map) (*Shifter, error) {
	s := &Shifter{ids: m}
	err := Enter(m, 0, func(pid int) (err error) {
		s.ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
		return err
	})
	return s, err
}

// Close ends nothing that was mounted.
func (s *Shifter) Close() error { return s.ns.Close() }

// IDs is the mapping.
func (s *Shifter) IDs() *idmap.Map { return s.ids }

// Enter makes a user namespace with the mapping, and with flags further namespaces that belong to it, and calls f while a
// process pid lives in them. What f has opened or mounted keeps them.
func Enter(m *idmap.Map, flags uintptr, f func(pid int) error) error {
	done := make(chan error, 1)
	go func() {
		// A traced child stops before it runs anything; only the thread that made it may deal with it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		p, err := os.StartProcess("/proc/self/exe", []string{"userns"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER, Unshareflags: flags, UidMappings: ranges(m.UIDs), GidMappings: ranges(m.GIDs),
			GidMappingsEnableSetgroups: true, Ptrace: true, Pdeathsig: syscall.SIGKILL,
		}})
		if err != nil {
			done <- fmt.Errorf("make user namespace: %w", err)
			return
		}
		err = f(p.Pid)
		_ = p.Kill()
		_, _ = p.Wait()
		done <- err
	}()
	return <-done
}

func ranges(list []idmap.Range) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(list))
	for i, r := range list {
		out[i] = syscall.SysProcIDMap{ContainerID: r.Inside, HostID: r.Outside, Size: r.Size}
	}
	return out
}

// Tree is what lies at source, without mounts below it, as a mount that is seen through the mapping. It is not attached
// anywhere yet; closing it ends it then.
func (s *Shifter) Tree(source string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(s.ns.Fd()), Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "mount_setattr", Path: source, Err: err}
	}
	return os.NewFile(uintptr(fd), source), nil
}

// Mount attaches a Tree of source at target.
func (s *Shifter) Mount(source, target string) error {
	tree, err := s.Tree(source)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.LinkError{Op: "move_mount", Old: source, New: target, Err: err}
	}
	return nil
}

// As runs f on a thread of its own that makes files as the namespace's root: the host's root is nobody there and could
// make none. The thread keeps its privileges and ends afterwards; it may leave its directory too.
func (s *Shifter) As(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never given back
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = s.Become()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Become makes the calling thread, which must be locked and is spoilt by it, work as the namespace's root with all the
// privileges that it has.
func (s *Shifter) Become() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	uid, gid := s.ids.Root()
	keep := ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(gid), keep); errno != 0 {
		return os.NewSyscallError("setresgid", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		return os.NewSyscallError("setresuid", errno)
	}
	return os.NewSyscallError("capset", unix.Capset(&header, &caps[0]))
}

// ErrUnsupported says that this kernel cannot mount root file systems through a mapping.
var ErrUnsupported = errors.New("user namespaces need idmapped mounts below overlayfs (Linux 5.19) and a file system that takes them (ext4, xfs, btrfs)")

// Check tries all that a container needs in a directory that is made below dir and removed again.
func (s *Shifter) Check(dir string) (err error) {
	base, err := os.MkdirTemp(dir, ".userns-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	at := func(name string) string { return filepath.Join(base, name) }
	for _, sub := range []string{"l/lower", "l/upper", "l/work", "seen", "root"} {
		if err := os.MkdirAll(at(sub), 0o755); err != nil {
			return err
		}
	}
	defer func() {
		_ = unix.Unmount(at("root"), unix.MNT_DETACH)
		_ = unix.Unmount(at("seen"), unix.MNT_DETACH)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
	}()
	if err := s.Mount(at("l"), at("seen")); err != nil {
		return err
	}
	return s.As(func() error {
		options := "lowerdir=" + at("seen/lower") + ",upperdir=" + at("seen/upper") + ",workdir=" + at("seen/work")
		if err := unix.Mount("overlay", at("root"), "overlay", 0, options); err != nil {
			return os.NewSyscallError("mount overlay", err)
		}
		return os.WriteFile(at("root/f"), nil, 0o600)
	})
}
