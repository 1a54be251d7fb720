package netns

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLifeCycle(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	ran := false
	s, err := Create(path, func() error { ran = true; return nil })
	if err != nil || !ran {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Remove(path) })
	home, _ := net.Interfaces()
	var inside []net.Interface
	if err := s.Do(func() error { inside, err = net.Interfaces(); return err }); err != nil || len(inside) != 1 || inside[0].Flags&net.FlagUp == 0 {
		t.Error(inside, err)
	}
	if again, _ := net.Interfaces(); len(again) != len(home) {
		t.Error("the process' own namespace changed")
	}
	if _, err := Create(path, nil); err == nil {
		t.Error("a namespace was made on another's path")
	}
	if !IsMounted(path) {
		t.Fatal("the namespace is gone after a second Create failed")
	}
	s.Close()
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	fail := errors.New("inside")
	if err := again.Do(func() error { return fail }); !errors.Is(err, fail) {
		t.Error(err)
	}
	again.Close()
	if list, err := List(dir); err != nil || len(list) != 1 || list[0] != path {
		t.Error(list, err)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Error(err)
		}
	}
	if IsMounted(path) {
		t.Error("still mounted")
	}
	if _, err := Open(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	bad := filepath.Join(dir, "b")
	if _, err := Create(bad, func() error { return unix.EPERM }); !errors.Is(err, unix.EPERM) || IsMounted(bad) {
		t.Error(err)
	}
	if list, err := List(filepath.Join(dir, "missing")); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
}
