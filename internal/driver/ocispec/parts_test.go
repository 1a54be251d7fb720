package ocispec

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	units "github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"longshore/internal/core/host"
)

func throttle(path string) []*blkiodev.ThrottleDevice {
	return []*blkiodev.ThrottleDevice{{Path: path, Rate: 1}}
}

func TestMergeEnv(t *testing.T) {
	got := MergeEnv([]string{"A=1", "B=2", "C=3"}, []string{"B=x", "D=4", "C", "E", "D=5", "F="})
	if want := []string{"A=1", "B=x", "D=5", "F="}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCapabilities(t *testing.T) {
	sec := &fixedHost().Security
	for name, c := range map[string]struct {
		add, drop  []string
		privileged bool
		has, lacks string
		count      int
	}{
		"default":          {count: 14, has: "CAP_CHOWN", lacks: "CAP_NET_ADMIN"},
		"add":              {add: []string{"net_admin", "chown"}, count: 15, has: "CAP_NET_ADMIN"},
		"drop":             {drop: []string{"cap_chown"}, count: 13, lacks: "CAP_CHOWN"},
		"drop all":         {drop: []string{"all"}, count: 0},
		"drop all, add":    {add: []string{"CHOWN"}, drop: []string{"ALL"}, count: 1, has: "CAP_CHOWN"},
		"add all":          {add: []string{"ALL"}, count: 40, has: "CAP_SYS_ADMIN", lacks: "CAP_SYS_RESOURCE"},
		"add all, drop":    {add: []string{"ALL"}, drop: []string{"SYS_ADMIN"}, count: 39, lacks: "CAP_SYS_ADMIN"},
		"privileged":       {privileged: true, drop: []string{"CHOWN"}, count: 40, has: "CAP_CHOWN"},
		"add after a drop": {add: []string{"KILL"}, drop: []string{"KILL"}, count: 14, has: "CAP_KILL"},
	} {
		got, err := capabilities(c.add, c.drop, c.privileged, sec)
		if err != nil {
			t.Fatal(name, err)
		}
		if len(got) != c.count || c.has != "" && !slices.Contains(got, c.has) || slices.Contains(got, c.lacks) {
			t.Errorf("%s: %v", name, got)
		}
	}
	poor := &host.Security{KnownCapabilities: capNames, Capabilities: []string{"CAP_CHOWN"}}
	if got, err := capabilities(nil, nil, false, poor); err != nil || !slices.Equal(got, poor.Capabilities) {
		t.Errorf("a daemon with one capability gave %v, %v", got, err)
	}
}

func TestLookupUser(t *testing.T) {
	root := accounts(t)
	for spec, want := range map[string][]uint32{ // uid, gid, groups …
		"": {0, 0, 0}, "bob": {1000, 1001, 1001, 50}, "1000": {1000, 1001, 1001, 50}, "5": {5, 0, 0}, "5:6": {5, 6, 6},
		"bob:audio": {1000, 29, 29}, "bob:7": {1000, 7, 7}, ":50": {0, 50, 50}, "root:": {0, 0, 0},
	} {
		u, err := lookupUser(root, spec, nil)
		if got := append([]uint32{u.UID, u.GID}, u.AdditionalGids...); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", spec, got, err, want)
		}
	}
	u, err := lookupUser(root, "5:6", []string{"audio", "4000", "staff"})
	if err != nil || !slices.Equal(u.AdditionalGids, []uint32{6, 29, 50, 4000}) {
		t.Errorf("%v, %v", u.AdditionalGids, err)
	}
}

// TestAccountsCannotLeaveTheRoot tries the files that a hostile image could bring.
func TestAccountsCannotLeaveTheRoot(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "passwd")
	if err := os.WriteFile(secret, []byte("evil:x:666:666::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	inside := func(root string) string { return filepath.Join(root, "etc/passwd") }
	for name, make := range map[string]func(root string) error{
		"absolute link": func(root string) error { return os.Symlink(secret, inside(root)) },
		"relative link": func(root string) error { return os.Symlink("../../../../../../../.."+secret, inside(root)) },
		"linked directory": func(root string) error {
			if err := os.RemoveAll(filepath.Join(root, "etc")); err != nil {
				return err
			}
			return os.Symlink(outside, filepath.Join(root, "etc"))
		},
		"loop":      func(root string) error { return os.Symlink("passwd", inside(root)) },
		"pipe":      func(root string) error { return unix.Mkfifo(inside(root), 0o600) },
		"directory": func(root string) error { return os.Mkdir(inside(root), 0o700) },
		"magic":     func(root string) error { return os.Symlink("/proc/self/root"+secret, inside(root)) },
	} {
		t.Run(name, func(t *testing.T) {
			root := accounts(t)
			if err := os.Remove(inside(root)); err != nil {
				t.Fatal(err)
			}
			if err := make(root); err != nil {
				t.Fatal(err)
			}
			if u, err := lookupUser(root, "evil", nil); err == nil {
				t.Errorf("found %+v outside of the root", u)
			}
			if u, err := lookupUser(root, "7", nil); err != nil || u.UID != 7 {
				t.Errorf("a number needs no file: %+v, %v", u, err)
			}
		})
	}
	t.Run("absolute link inside", func(t *testing.T) { // as NixOS and others have it
		root := accounts(t)
		if err := os.Mkdir(filepath.Join(root, "static"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(inside(root), filepath.Join(root, "static/passwd")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/static/passwd", inside(root)); err != nil {
			t.Fatal(err)
		}
		if u, err := lookupUser(root, "bob", nil); err != nil || u.UID != 1000 {
			t.Errorf("%+v, %v", u, err)
		}
	})
}

func TestResources(t *testing.T) {
	r, err := Resources(&container.Resources{})
	if err != nil || r.Memory != nil || r.CPU != nil || r.Pids != nil || r.BlockIO != nil {
		t.Errorf("nothing asked, yet %+v, %v", r, err)
	}
	r, err = Resources(&container.Resources{Memory: 1 << 30, MemorySwap: -1, NanoCPUs: 5e8, PidsLimit: p(int64(0))})
	if err != nil || *r.Memory.Swap != -1 || *r.CPU.Quota != 50000 || *r.CPU.Period != 100000 || *r.Pids.Limit != -1 {
		t.Errorf("%+v %+v %+v %v", r.Memory, r.CPU, r.Pids, err)
	}
	r, err = Resources(&container.Resources{MemorySwap: -1})
	if err != nil || r.Memory != nil {
		t.Errorf("boundless swap without a memory limit says nothing: %+v, %v", r.Memory, err)
	}
	if _, err := Resources(&container.Resources{CPUShares: -5}); err == nil {
		t.Error("negative shares were accepted")
	}
}

func TestDevicesOfADirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes device nodes")
	}
	dir := t.TempDir()
	for i, name := range []string{"a", "sub/b"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(path, unix.S_IFCHR|0o640, int(unix.Mkdev(1, uint32(3+i)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	devs, err := DevicesAt(link, "/dev/x")
	if err != nil || len(devs) != 2 || devs[0].Path != "/dev/x/a" || devs[1].Path != "/dev/x/sub/b" || devs[1].Minor != 4 || *devs[0].FileMode != 0o640 {
		t.Errorf("%+v, %v", devs, err)
	}
}

func TestRlimits(t *testing.T) {
	defaults := map[string]*units.Ulimit{"nofile": {Name: "nofile", Soft: 1, Hard: 2}, "core": {Name: "core", Soft: -1, Hard: -1}}
	got, err := Rlimits([]*units.Ulimit{{Name: "nproc", Soft: 5, Hard: 6}, {Name: "nofile", Soft: 3, Hard: 4}}, defaults, &host.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, r := range got {
		text = append(text, r.Type)
	}
	if strings.Join(text, " ") != "RLIMIT_CORE RLIMIT_NOFILE RLIMIT_NPROC" || got[1].Soft != 3 || got[0].Hard != ^uint64(0) {
		t.Errorf("%+v", got)
	}
}

func TestOomScore(t *testing.T) {
	if s, err := oomScore(0, &host.Limits{OomScoreAdj: 200}); s != nil || err != nil {
		t.Errorf("the default must be inherited where it cannot be set: %v, %v", s, err)
	}
	if s, err := oomScore(-5, &host.Limits{MayLowerOom: true}); err != nil || *s != -5 {
		t.Error(s, err)
	}
}

func FuzzSecurityOpts(f *testing.F) {
	for _, s := range []string{"no-new-privileges", "seccomp=unconfined", "seccomp:{\"a\":1}", "label=disable", "=", ":", "apparmor=", "writable-cgroups=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = ParseSecurityOpts([]string{s}, false)
		_, _ = ParseDeviceRule(s)
		_, _ = mergeTmpfs(strings.Split(s, ","))
		_, _ = numericPair(s)
	})
}
