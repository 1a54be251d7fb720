package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOwned makes a namespace in those of a process that the test starts.
func TestOwned(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces")
	}
	path := filepath.Join(t.TempDir(), "ns")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 200000, Size: 65536}}
	enter := func(flags uintptr, f func(pid int) error) error {
		if flags != unix.CLONE_NEWNET {
			t.Errorf("flags %x", flags)
		}
		c := exec.Command("sleep", "60")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, Unshareflags: flags, UidMappings: ids, GidMappings: ids}
		if err := c.Start(); err != nil {
			return err
		}
		defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
		return f(c.Process.Pid)
	}
	inside := ""
	s, err := CreateOwned(path, enter, func() (err error) {
		inside, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ours, _ := os.Readlink("/proc/self/ns/net")
	if inside == "" || inside == ours || !IsMounted(path) || !IsMounted(UserPath(path)) {
		t.Errorf("set up in %q", inside)
	}
	owner, err := unix.IoctlRetInt(s.FD(), unix.NS_GET_USERNS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(owner)
	var have, want unix.Stat_t
	if err := unix.Fstat(owner, &have); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(UserPath(path), &want); err != nil || have.Ino != want.Ino {
		t.Errorf("it belongs to another user namespace than %s: %v", UserPath(path), err)
	}
	if list, err := List(filepath.Dir(path)); err != nil || fmt.Sprint(list) != fmt.Sprint([]string{path}) {
		t.Errorf("list %v %v", list, err)
	}
	if err := Remove(path); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}
