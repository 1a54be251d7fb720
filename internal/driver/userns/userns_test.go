package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"longshore/internal/core/idmap"
)

func shifter(t *testing.T) *Shifter {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: user namespaces with a mapping")
	}
	s, err := NewShifter(&idmap.Map{
		UIDs: []idmap.Range{{Inside: 0, Outside: 200000, Size: 1000}, {Inside: 1000, Outside: 300000, Size: 10}},
		GIDs: []idmap.Range{{Inside: 0, Outside: 210000, Size: 65536}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestMount(t *testing.T) {
	s := shifter(t)
	dir := t.TempDir()
	if err := s.Check(dir); errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("the check left %v", left)
	}
	disk, seen := filepath.Join(dir, "disk"), filepath.Join(dir, "seen")
	for _, d := range []string{disk, seen} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Mount(disk, seen); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(seen, unix.MNT_DETACH) }()
	if err := os.WriteFile(filepath.Join(seen, "as-host"), nil, 0o600); !errors.Is(err, unix.EOVERFLOW) {
		t.Errorf("the host's root is nobody there: %v", err)
	}
	if err := s.As(func() error { return os.WriteFile(filepath.Join(seen, "f"), nil, 0o600) }); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Error("this process is no longer root")
	}
	for path, want := range map[string][2]uint32{filepath.Join(disk, "f"): {0, 0}, filepath.Join(seen, "f"): {200000, 210000}} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if sys, _ := st.Sys().(*syscall.Stat_t); sys.Uid != want[0] || sys.Gid != want[1] {
			t.Errorf("%s belongs to %d:%d", path, sys.Uid, sys.Gid)
		}
	}
}

func TestEnter(t *testing.T) {
	s := shifter(t)
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	err = Enter(s.IDs(), unix.CLONE_NEWNET, func(pid int) error {
		dir := fmt.Sprintf("/proc/%d", pid)
		text, err := os.ReadFile(filepath.Join(dir, "uid_map"))
		if err != nil {
			return err
		}
		if got := strings.Join(strings.Fields(string(text)), " "); got != "0 200000 1000 1000 300000 10" {
			t.Errorf("mapping %q", got)
		}
		if ns, err := os.Readlink(filepath.Join(dir, "ns/net")); err != nil || ns == before {
			t.Errorf("network namespace %s %v", ns, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := Enter(s.IDs(), 0, func(int) error { return os.ErrExist }); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
}

func TestRemap(t *testing.T) {
	dir := t.TempDir()
	f := files{dir + "/passwd", dir + "/group", dir + "/subuid", dir + "/subgid"}
	for path, text := range map[string]string{
		f.passwd: "root:x:0:0::/:/bin/sh\nme:x:1000:1000::/:/bin/sh\nalone:x:1001:1001::/:/bin/sh\n", f.group: "root:x:0:\nme:x:1000:\nthem:x:2000:\nalone:x:1001:\n",
		f.subuid: "me:100000:65536\n", f.subgid: "me:200000:65536\nthem:300000:65536\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for setting, gid := range map[string]int{"me": 200000, "1000": 200000, "me:them": 300000, "1000:2000": 300000} {
		m, err := f.remap(setting)
		if err != nil {
			t.Errorf("%s: %v", setting, err)
			continue
		}
		if u, g := m.Root(); u != 100000 || g != gid {
			t.Errorf("%s: %d:%d", setting, u, g)
		}
	}
	for setting, words := range map[string]string{
		"": "invalid user/group", "me:": "invalid user/group", "me:a:b": "invalid user/group", "who": "no such user", "me:who": "no such group",
		"alone": "no ranges found for \"alone\"",
	} {
		if _, err := f.remap(setting); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", setting, err)
		}
	}
	if err := os.WriteFile(f.passwd, []byte("dockremap:x:999:999::/:/bin/false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.makeDefault(); err != nil {
			t.Fatal(err)
		}
	}
	if text, _ := os.ReadFile(f.subgid); !strings.HasSuffix(string(text), "them:300000:65536\ndockremap:365536:65536\n") {
		t.Errorf("subgid:\n%s", text)
	}
}

func TestJoin(t *testing.T) {
	s := shifter(t)
	if _, err := exec.LookPath("nsenter"); err != nil {
		t.Skip("needs nsenter and unshare of util-linux")
	}
	err := Enter(s.IDs(), 0, func(pid int) error {
		path := fmt.Sprintf("/proc/%d/ns/user", pid)
		want, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return Join(path, unix.CLONE_NEWNET, func(pid int) error {
			got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
			if err != nil || got != want {
				t.Errorf("in %s, want %s: %v", got, want, err)
			}
			ours, _ := os.Readlink("/proc/self/ns/net")
			if net, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil || net == ours {
				t.Errorf("network namespace %s %v", net, err)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := Join("/none", unix.CLONE_NEWNET, func(int) error { return nil }); err == nil {
		t.Error("joined nothing")
	}
}
