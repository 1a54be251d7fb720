// Package netns makes and keeps network namespaces. A namespace lives as a bind mount of its kernel object on a file,
// so that it outlives the daemon and is found again by path; it ends when the file is unmounted and no process or
// socket is inside any more. The kernel then reaps its interfaces by itself, which is much cheaper than deleting them.
//
//	s, err := netns.Create("/run/longshore/netns/1f2e…", nil)
//	err = s.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/…", …) })
package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Space is an open network namespace. Its descriptors are the owner's to close; closing them does not end it.
type Space struct {
	// Path is the file that the namespace is mounted on.
	Path string
	file *os.File
	// Link is a netlink connection inside of the namespace.
	Link *netlink.Handle
}

// Create makes a namespace, brings its loopback interface up and mounts it on path, whose directory must exist.
// setup, when not nil, runs inside of it.
func Create(path string, setup func() error) (*Space, error) {
	return create(path, setup, func() error { return os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNET)) })
}

// create keeps the namespace that the thread is in after enter.
func create(path string, setup, enter func() error) (*Space, error) {
	s := &Space{Path: path}
	err := onThread(func() error {
		if err := enter(); err != nil {
			return err
		}
		if err := s.fill(); err != nil {
			return err
		}
		if setup == nil {
			return nil
		}
		return setup()
	})
	if err != nil {
		s.Close()
		if !errors.Is(err, os.ErrExist) { // then it is another's
			_ = Remove(path)
		}
		return nil, fmt.Errorf("create network namespace %s: %w", path, err)
	}
	return s, nil
}

// Enter calls f while a process pid lives in new namespaces of the kinds in flags that belong to a new user namespace.
type Enter func(flags uintptr, f func(pid int) error) error

// CreateOwned is Create for a namespace that belongs to a user namespace of its own, which is mounted at UserPath: whoever
// is root there may configure it.
func CreateOwned(path string, enter Enter, setup func() error) (*Space, error) {
	var s *Space
	err := enter(unix.CLONE_NEWNET, func(pid int) (err error) {
		s, err = create(path, setup, func() error {
			home, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
			if err != nil {
				return err
			}
			defer home.Close()
			return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		})
		if err != nil {
			return err
		}
		if err = os.WriteFile(UserPath(path), nil, 0o444); err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/%d/ns/user", pid), UserPath(path), "", unix.MS_BIND, "")
		}
		if err != nil {
			s.Close()
			return errors.Join(fmt.Errorf("user namespace of %s: %w", path, err), Remove(path))
		}
		return nil
	})
	return s, err
}

const userSuffix = ".user"

// UserPath is where the user namespace is mounted that a namespace of CreateOwned belongs to.
func UserPath(path string) string { return path + userSuffix }

// fill runs inside of the new namespace.
func (s *Space) fill() error {
	f, err := os.OpenFile(s.Path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	_ = f.Close()
	if err := unix.Mount("/proc/thread-self/ns/net", s.Path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	if s.file, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if s.Link, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	lo, err := s.Link.LinkByIndex(1)
	if err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	return s.Link.LinkSetUp(lo)
}

// Open opens an existing namespace by path.
func Open(path string) (*Space, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	s := &Space{Path: path, file: f}
	err = s.Do(func() error {
		s.Link, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	return s, nil
}

// FD is the namespace's descriptor, valid until Close.
func (s *Space) FD() int { return int(s.file.Fd()) }

// Do runs f on a thread inside of the namespace.
func (s *Space) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(s.FD(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns %s: %w", s.Path, err)
		}
		return f()
	})
}

// Close closes the descriptors. The namespace stays.
func (s *Space) Close() {
	if s.Link != nil {
		s.Link.Close()
		s.Link = nil
	}
	if s.file != nil {
		_ = s.file.Close()
	}
}

// onThread runs f on a thread of its own that may leave the process' network namespace. A thread that cannot come
// back is not used again: the runtime ends it with its goroutine.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		err = f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Remove unmounts a namespace and removes its file; one that is not there is no error.
func Remove(path string) error {
	if err := removeOne(UserPath(path)); err != nil {
		return err
	}
	return removeOne(path)
}

func removeOne(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}

// IsMounted says whether path is a live namespace and not only a file that one was mounted on before a reboot.
func IsMounted(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// List names the namespaces' files in a directory, live or not.
func List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	paths := make([]string, 0, len(entries))
	for _, e := range entries {
		if !e.IsDir() && !strings.HasSuffix(e.Name(), userSuffix) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}
