package ocispec

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	units "github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/host"
)

var update = flag.Bool("update", false, "write the golden files anew")

func p[T any](v T) *T { return &v }

// accounts is a root filesystem with nothing but accounts.
func accounts(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1001:Bob:/home/bob:/bin/sh\n",
		"group":  "root:x:0:\nbob:x:1001:\nstaff:x:50:bob\naudio:x:29:\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// fixedHost is a made-up machine, so that golden files are the same everywhere.
func fixedHost() *host.Facts {
	f := &host.Facts{}
	f.Cgroup.Version, f.Cgroup.Namespaces = "1", true
	f.Security.Seccomp = true
	f.Security.KnownCapabilities = capNames
	f.Security.Capabilities = slices.DeleteFunc(slices.Clone(capNames), func(c string) bool { return c == "CAP_SYS_RESOURCE" })
	f.Limits.HardRlimits = map[string]uint64{"nofile": 20000}
	return f
}

// markedSeccomp stands for driver/seccomp: it writes down what it was asked for.
type markedSeccomp struct{}

func (markedSeccomp) Load(s *specs.Spec, profile string, bpf bool) error {
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations["test.seccomp"] = "profile=" + profile
	if bpf {
		s.Annotations["test.seccomp"] += " compiled"
	}
	return nil
}

func plain(root string) *Input {
	return &Input{
		ID:         strings.Repeat("ab", 32),
		Config:     &container.Config{Hostname: "box", Cmd: []string{"sh"}, Env: []string{"A=1"}},
		HostConfig: &container.HostConfig{NetworkMode: "bridge", IpcMode: "private", CgroupnsMode: "host", ShmSize: 64 << 20},
		Rootfs:     root, Namespaces: Namespaces{Net: "/run/netns/x"}, CgroupPath: "/longshore/abab",
		Files: Files{Hosts: "/d/hosts", Hostname: "/d/hostname", Resolv: "/d/resolv.conf"},
		Host:  fixedHost(), Seccomp: markedSeccomp{},
	}
}

func everything(root string) *Input {
	in := plain(root)
	in.Config.Entrypoint, in.Config.User, in.Config.WorkingDir, in.Config.Tty = []string{"/entry", "-x"}, "bob", "/srv", true
	in.Config.Env = []string{"PATH=/bin", "TERM=vt100", "B=2"}
	in.Config.Domainname = "example.org"
	in.LinkEnv = []string{"DB_PORT=tcp://172.17.0.2:5432"}
	in.BPF = true
	in.Defaults = Defaults{Init: true, InitPath: "/usr/bin/tini", NoNewPrivileges: true, Ulimits: map[string]*units.Ulimit{
		"nofile": {Name: "nofile", Soft: 1024, Hard: 4096}, "core": {Name: "core", Soft: -1, Hard: -1},
	}}
	in.Mounts = []Mount{
		{Type: mount.TypeBind, Source: "/host/deep", Target: "/srv/data/deep", ReadOnly: true},
		{Type: mount.TypeVolume, Source: "/volumes/v/_data", Target: "/srv/data"},
		{Type: mount.TypeTmpfs, Target: "/scratch", TmpfsOptions: "size=64m,exec,mode=1770"},
		{Type: mount.TypeBind, Source: "/host/hosts", Target: "/etc/hosts", NonRecursive: true, Propagation: "private"},
	}
	in.HostConfig = &container.HostConfig{
		NetworkMode: "mynet", IpcMode: "none", CgroupnsMode: "private", ReadonlyRootfs: true, ConsoleSize: [2]uint{24, 80},
		CapAdd: []string{"net_admin", "CAP_SYS_TIME"}, CapDrop: []string{"mknod"}, GroupAdd: []string{"audio", "777"}, OomScoreAdj: 300,
		SecurityOpt: []string{"no-new-privileges:false", `seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`}, Umask: p(uint32(0o27)),
		Sysctls: map[string]string{"net.core.somaxconn": "99", "kernel.shmmax": "1000"}, Annotations: map[string]string{"a": "b"},
		MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{},
		Resources: container.Resources{
			Memory: 64 << 20, MemorySwap: 128 << 20, MemoryReservation: 32 << 20, MemorySwappiness: p(int64(5)), OomKillDisable: p(false),
			NanoCPUs: 15e8, CPUShares: 512, CpusetCpus: "0", CpusetMems: "0", PidsLimit: p(int64(100)), BlkioWeight: 300,
			DeviceCgroupRules: []string{"c 42:* rmw", "a *:* m"},
			Devices:           []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/xnull", CgroupPermissions: "r"}},
			Ulimits:           []*units.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}},
		},
	}
	return in
}

func TestGolden(t *testing.T) {
	cases := map[string]func(root string) *Input{
		"plain":      plain,
		"everything": everything,
		"privileged": func(root string) *Input {
			in := plain(root)
			in.HostConfig.Privileged = true
			return in
		},
		"shared": func(root string) *Input {
			in := plain(root)
			in.HostConfig = &container.HostConfig{NetworkMode: "host", IpcMode: "host", PidMode: "container:x", UTSMode: "host", Init: p(true), SecurityOpt: []string{"seccomp=unconfined"}}
			in.Namespaces = Namespaces{PID: "/proc/1/ns/pid"}
			in.Files.Shm = "/dev/shm"
			return in
		},
	}
	for name, input := range cases {
		t.Run(name, func(t *testing.T) {
			root := accounts(t)
			s, err := Generate(input(root))
			if err != nil {
				t.Fatal(err)
			}
			s.Root.Path = "/rootfs"
			s.Linux.MaskedPaths = slices.DeleteFunc(s.Linux.MaskedPaths, func(p string) bool { return strings.Contains(p, "thermal") })
			if name == "privileged" {
				if len(s.Linux.Devices) < 3 {
					t.Errorf("only %d devices of the host", len(s.Linux.Devices))
				}
				s.Linux.Devices = nil // this machine's own
			}
			got, err := json.MarshalIndent(s, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(want) != string(got)+"\n" {
				t.Errorf("differs from %s (go test -run Golden -update writes it anew):\n%s", file, got)
			}
		})
	}
}

func TestGenerateRefuses(t *testing.T) {
	cases := map[string]struct {
		change func(*Input)
		want   string
	}{
		"no command":        {func(in *Input) { in.Config.Cmd = nil }, "no command specified"},
		"unknown user":      {func(in *Input) { in.Config.User = "eve" }, "unable to find user eve: no matching entries in passwd file"},
		"unknown group":     {func(in *Input) { in.Config.User = "bob:wheel" }, "unable to find group wheel: no matching entries in group file"},
		"unknown extra":     {func(in *Input) { in.HostConfig.GroupAdd = []string{"wheel"} }, "unable to find group wheel: no matching entries in group file"},
		"uid range":         {func(in *Input) { in.Config.User = "99999999999" }, "uids and gids must be in range 0-2147483647"},
		"capability":        {func(in *Input) { in.HostConfig.CapAdd = []string{"SYS_RESOURCE"} }, `capability not supported by your kernel or not available in the current environment: "CAP_SYS_RESOURCE"`},
		"ulimit":            {func(in *Input) { in.HostConfig.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 1, Hard: 1 << 20}} }, "ulimit nofile: hard limit 1048576 is above 20000, the most that this daemon may set (it has no CAP_SYS_RESOURCE): operation not permitted"},
		"no bound":          {func(in *Input) { in.HostConfig.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: -1, Hard: -1}} }, "ulimit nofile: hard limit unlimited is above 20000, the most that this daemon may set (it has no CAP_SYS_RESOURCE): operation not permitted"},
		"oom score":         {func(in *Input) { in.HostConfig.OomScoreAdj = -1 }, "oom score adj -1 is below the daemon's own 0, and lowering it is not permitted here (no CAP_SYS_RESOURCE)"},
		"host sysctl":       {func(in *Input) { in.HostConfig.Sysctls = map[string]string{"vm.swappiness": "1"} }, `sysctl "vm.swappiness" is not in a separate kernel namespace`},
		"sysctl with slash": {func(in *Input) { in.HostConfig.Sysctls = map[string]string{"kernel/panic": "1"} }, `sysctl "kernel/panic" is not in a separate kernel namespace`},
		"net sysctl": {func(in *Input) {
			in.HostConfig.NetworkMode = "host"
			in.HostConfig.Sysctls = map[string]string{"net.core.somaxconn": "1"}
		}, `sysctl "net.core.somaxconn" not allowed in host network namespace`},
		"ipc sysctl": {func(in *Input) {
			in.HostConfig.IpcMode = "host"
			in.HostConfig.Sysctls = map[string]string{"kernel.shmmax": "1"}
		}, `sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace`},
		"hostname sysctl": {func(in *Input) { in.HostConfig.Sysctls = map[string]string{"kernel.hostname": "x"} }, `sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field`},
		"device": {func(in *Input) {
			in.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/nosuch", PathInContainer: "/dev/x"}}
		}, `error gathering device information while adding custom device "/dev/nosuch": no such file or directory`},
		"no device": {func(in *Input) {
			in.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/proc/self/status", PathInContainer: "/dev/x"}}
		}, `error gathering device information while adding custom device "/proc/self/status": not a device node`},
		"device rule":   {func(in *Input) { in.HostConfig.DeviceCgroupRules = []string{"x 1:2 r"} }, "invalid device cgroup rule format: 'x 1:2 r'"},
		"device number": {func(in *Input) { in.HostConfig.DeviceCgroupRules = []string{"c 99999999999:2 r"} }, "invalid major value in device cgroup rule format: 'c 99999999999:2 r'"},
		"gpu": {func(in *Input) {
			in.HostConfig.DeviceRequests = []container.DeviceRequest{{Capabilities: [][]string{{"gpu"}}}}
		}, `could not select device driver "" with capabilities: [[gpu]]`},
		"tmpfs option": {func(in *Input) { in.Mounts = []Mount{{Type: "tmpfs", Target: "/t", TmpfsOptions: "foo=1"}} }, `invalid tmpfs option ["foo" "foo=1"]`},
		"tmpfs flag":   {func(in *Input) { in.Mounts = []Mount{{Type: "tmpfs", Target: "/t", TmpfsOptions: "foo"}} }, `invalid tmpfs option "foo"`},
		"blkio device": {func(in *Input) {
			in.HostConfig.BlkioWeightDevice = nil
			in.HostConfig.BlkioDeviceReadBps = throttle("/dev/nosuch")
		}, "stat /dev/nosuch: no such file or directory"},
		"init":            {func(in *Input) { in.HostConfig.Init = p(true) }, "docker-init: executable file not found in $PATH"},
		"security option": {func(in *Input) { in.HostConfig.SecurityOpt = []string{"no-new-privileges=perhaps"} }, `invalid --security-opt 2: "no-new-privileges=perhaps"`},
		"no seccomp here": {func(in *Input) { in.Host.Security.Seccomp = false; in.HostConfig.SecurityOpt = []string{"seccomp={}"} }, "seccomp is not enabled in your kernel, cannot run a custom seccomp profile"},
		"read-only conflict": {func(in *Input) {
			in.Mounts = []Mount{{Type: "bind", Source: "/", Target: "/t", ReadOnly: true, ReadOnlyNonRecursive: true, ReadOnlyForceRecursive: true}}
		}, "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := plain(accounts(t))
			c.change(in)
			_, err := Generate(in)
			if err == nil || err.Error() != c.want {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v is not of the class of bad requests", err)
			}
		})
	}
}

func TestSharedPropagationNeedsASharedMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	root := accounts(t)
	generate := func(p mount.Propagation) (*specs.Spec, error) {
		in := plain(root)
		in.Mounts = []Mount{{Type: mount.TypeBind, Source: dir, Target: "/t", Propagation: p}}
		return Generate(in)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	for prop, want := range map[mount.Propagation]string{"rshared": "a shared mount", "rslave": "a shared or slave mount"} {
		if _, err := generate(prop); err == nil || err.Error() != "path "+dir+" is mounted on "+dir+" but it is not "+want {
			t.Errorf("%s: %v", prop, err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	for prop, want := range map[mount.Propagation]string{"rshared": "shared", "rslave": "rslave", "private": ""} {
		s, err := generate(prop)
		if err != nil || s.Linux.RootfsPropagation != want {
			t.Errorf("%s: root propagation %q, %v", prop, s.Linux.RootfsPropagation, err)
		}
	}
}
