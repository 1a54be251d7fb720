package ocispec

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	units "github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"
)

// sections runs a script of "# name" headed parts in a container and returns what each part printed, errors included.
func sections(t *testing.T, rt string, in *Input, script string) map[string]string {
	t.Helper()
	var body strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "# "); ok {
			fmt.Fprintf(&body, "echo '@@%s'\n", name)
		} else {
			fmt.Fprintf(&body, "%s\n", line)
		}
	}
	in.Config.Cmd = []string{"/bin/sh", "-c", "exec 2>&1\n" + body.String()}
	out := mustRun(t, rt, in)
	got := make(map[string]string)
	for _, part := range strings.Split(out, "@@")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		got[name] = strings.TrimSpace(text)
	}
	return got
}

// expect compares sections; a value in slashes must merely be contained.
func expect(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, w := range want {
		g := got[name]
		if part, ok := strings.CutPrefix(w, "~"); ok && strings.Contains(g, part) || g == w {
			continue
		}
		t.Errorf("%s: got %q, want %q", name, g, w)
	}
}

func TestInsideDefaults(t *testing.T) {
	withRuntimes(t, func(t *testing.T, rt string) {
		in := base(t, busyboxRoot(t), "")
		got := sections(t, rt, in, `
			# hostname
			hostname
			# env
			env | grep -E '^(PATH|HOSTNAME|HOME|TERM)=' | sort
			# cwd
			pwd
			# id
			id
			# caps
			grep -E 'Cap(Inh|Eff|Bnd|Amb)' /proc/self/status | cut -f2 | tr '\n' ' '
			# port
			cat /proc/sys/net/ipv4/ip_unprivileged_port_start
			# ping
			cat /proc/sys/net/ipv4/ping_group_range
			# masked
			cat /proc/keys /proc/timer_list
			# proc
			echo 1 > /proc/sys/net/ipv4/ip_forward
			# sys
			touch /sys/x
			# cgroup
			mount | grep ' /sys/fs/cgroup/' | grep -v '(ro,'
			# shm
			stat -f -c '%b %S' /dev/shm
			# shmmode
			stat -c %a /dev/shm
			# devices
			cd /dev; echo c* f* n* r* t* u* z*
			# pid
			echo $$
			# oom
			cat /proc/self/oom_score_adj
			# interfaces
			ls /sys/class/net`)
		expect(t, got, map[string]string{
			"hostname": "testhost", "cwd": "/", "id": "uid=0(root) gid=0(root) groups=0(root)",
			"env":  "HOME=/root\nHOSTNAME=testhost\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"caps": "0000000000000000 00000000a80425fb 00000000a80425fb 0000000000000000", "port": "0", "ping": "0\t2147483647",
			"masked": "", "proc": "~ead-only file system", "sys": "~ead-only file system", "cgroup": "",
			"shmmode": "1777", "pid": "1", "oom": "0", "interfaces": "lo",
		})
		var blocks, size int
		if _, err := fmt.Sscan(got["shm"], &blocks, &size); err != nil || blocks*size != 64<<20 {
			t.Errorf("/dev/shm has %q", got["shm"])
		}
		for _, dev := range strings.Fields("null zero full random urandom tty") {
			if !strings.Contains(" "+got["devices"]+" ", " "+dev+" ") {
				t.Errorf("no /dev/%s in %q", dev, got["devices"])
			}
		}
	})
}

func TestInsideOptions(t *testing.T) {
	withRuntimes(t, func(t *testing.T, rt string) {
		in := base(t, busyboxRoot(t), "")
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=777"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		in.Config.User, in.Config.WorkingDir, in.Config.Domainname = "bob", "/home/bob", "example.org"
		in.Files.Hosts = filepath.Join(dir, "hosts")
		in.HostConfig = &container.HostConfig{
			NetworkMode: "none", IpcMode: "private", ReadonlyRootfs: true, ShmSize: 1 << 20, GroupAdd: []string{"audio"},
			CapDrop: []string{"ALL"}, CapAdd: []string{"NET_BIND_SERVICE"}, SecurityOpt: []string{"no-new-privileges"}, OomScoreAdj: 77,
			Sysctls: map[string]string{"net.core.somaxconn": "99", "kernel.shmmax": "123456"}, Umask: p(uint32(0o077)),
			Resources: container.Resources{Ulimits: []*units.Ulimit{{Name: "nofile", Soft: 33, Hard: 44}, {Name: "core", Soft: 0, Hard: 0}}},
		}
		in.Mounts = []Mount{
			{Type: mount.TypeTmpfs, Target: "/tmp", TmpfsOptions: "size=2m,exec,mode=1777"},
			{Type: mount.TypeBind, Source: filepath.Dir(dir), Target: "/mnt", ReadOnly: true},
			{Type: mount.TypeBind, Source: dir, Target: "/tmp/deep", Propagation: "rprivate"},
		}
		got := sections(t, rt, in, `
			# id
			id
			# cwd
			pwd
			# home
			echo $HOME
			# caps
			grep -E 'Cap(Prm|Bnd)' /proc/self/status | cut -f2 | tr '\n' ' '
			# nnp
			grep NoNewPrivs /proc/self/status | cut -f2
			# nofile
			ulimit -S -n; ulimit -H -n
			# core
			ulimit -c
			# root
			touch /x
			# tmp
			touch /tmp/x && echo written
			# tmpopts
			mount | grep ' /tmp ' | grep -o 'size=[0-9]*k' ; mount | grep ' /tmp ' | grep -c noexec
			# nested
			mount | grep ' /mnt/`+filepath.Base(dir)+` ' | grep -c '(ro'
			# deep
			touch /tmp/deep/x && echo written
			# hosts
			cat /etc/hosts; echo x >> /etc/hosts
			# somaxconn
			cat /proc/sys/net/core/somaxconn
			# shmmax
			cat /proc/sys/kernel/shmmax
			# domain
			cat /proc/sys/kernel/domainname
			# oom
			cat /proc/self/oom_score_adj
			# shm
			mount | grep ' /dev/shm ' | grep -o 'size=[0-9]*k'`)
		expect(t, got, map[string]string{
			"id": "uid=1000(bob) gid=1001(bob) groups=29(audio),50(staff),1001(bob)", "cwd": "/home/bob", "home": "/home/bob",
			"caps": "0000000000000000 0000000000000400", "nnp": "1", "nofile": "33\n44", "core": "0",
			"root": "~Read-only file system", "tmp": "written", "tmpopts": "size=2048k\n0", "nested": "1",
			"deep": "written", "hosts": "~127.0.0.1 localhost", "somaxconn": "99", "shmmax": "123456", "domain": "example.org",
			"oom": "77", "shm": "size=1024k",
		})
		if !strings.Contains(got["hosts"], "ead-only") && !strings.Contains(got["hosts"], "denied") {
			t.Errorf("hosts can be written: %q", got["hosts"])
		}
	})
}

func TestInsidePrivileged(t *testing.T) {
	withRuntimes(t, func(t *testing.T, rt string) {
		in := base(t, busyboxRoot(t), "")
		in.HostConfig.Privileged = true
		got := sections(t, rt, in, `
			# caps
			grep CapEff /proc/self/status | cut -f2
			# loop
			stat -c %t:%T /dev/loop0
			# proc
			cat /proc/sys/kernel/panic > /tmp/v; cat /tmp/v > /proc/sys/kernel/panic && echo written
			# masked
			mount | grep -c -E ' /proc/(keys|acpi|sys) '
			# sys
			mount | grep ' /sys ' | grep -c '(rw'
			# cgroups
			mount | grep ' /sys/fs/cgroup/' | grep -c '(ro'
			# mount
			mount -t tmpfs none /mnt && echo mounted`)
		var bits uint64
		for i, name := range capNames {
			for _, c := range in.Host.Security.Capabilities {
				if c == name {
					bits |= 1 << i
				}
			}
		}
		want := map[string]string{"caps": fmt.Sprintf("%016x", bits), "proc": "written", "masked": "0", "sys": "1", "cgroups": "0", "mount": "mounted"}
		if _, err := os.Stat("/dev/loop0"); err == nil {
			want["loop"] = "7:0"
		}
		expect(t, got, want)
	})
}

func TestInsideHostNamespaces(t *testing.T) {
	withRuntimes(t, func(t *testing.T, rt string) {
		in := base(t, busyboxRoot(t), "")
		in.Config.Hostname, in.Config.NetworkDisabled = "", false
		in.HostConfig = &container.HostConfig{NetworkMode: "host", IpcMode: "host", PidMode: "host", UTSMode: "host"}
		in.Files.Shm = "/dev/shm"
		var script, names = strings.Builder{}, []string{"net", "ipc", "pid", "uts"}
		for _, ns := range append(names, "mnt") {
			fmt.Fprintf(&script, "# %s\nls -l /proc/self/ns/%s | sed 's/.*-> //'\n", ns, ns)
		}
		got := sections(t, rt, in, script.String())
		for _, ns := range append(names, "mnt") {
			own, err := os.Readlink("/proc/self/ns/" + ns)
			if err != nil {
				t.Fatal(err)
			}
			if same := got[ns] == own; same != (ns != "mnt") {
				t.Errorf("%s: container has %q, host %q", ns, got[ns], own)
			}
		}
	})
}

func TestInsideDevicesAndInit(t *testing.T) {
	withRuntimes(t, func(t *testing.T, rt string) {
		in := base(t, busyboxRoot(t), "")
		// a stand-in for tini: it must be called with "--" and the command
		initPath := filepath.Join(t.TempDir(), "init")
		if err := os.WriteFile(initPath, []byte("#!/bin/sh\necho \"@@init\"; echo \"$0 $1 $$\"\nshift\nexec \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		in.HostConfig.Init, in.Defaults.InitPath = p(true), initPath
		in.HostConfig.Devices = []container.DeviceMapping{
			{PathOnHost: "/dev/kmsg", PathInContainer: "/dev/log1", CgroupPermissions: "rwm"},
			{PathOnHost: "/dev/null", PathInContainer: "/dev/dir/null2"},
		}
		got := sections(t, rt, in, `
			# kmsg
			stat -c %t:%T /dev/log1
			# null
			echo x > /dev/dir/null2 && stat -c '%t:%T %a' /dev/dir/null2`)
		expect(t, got, map[string]string{"init": "/sbin/docker-init -- 1", "kmsg": "1:b", "null": "1:3 666"})
	})
}

func TestInsideJoinedNamespaces(t *testing.T) {
	withRuntimes(t, func(t *testing.T, rt string) {
		in := base(t, busyboxRoot(t), "")
		in.HostConfig.NetworkMode, in.HostConfig.IpcMode, in.HostConfig.PidMode = "container:x", "container:x", "container:x"
		self := fmt.Sprintf("/proc/%d/ns/", os.Getpid()) // the test itself plays the other container
		in.Namespaces = Namespaces{Net: self + "net", IPC: self + "ipc", PID: self + "pid"}
		got := sections(t, rt, in, "# net\nls -l /proc/self/ns/net | sed 's/.*-> //'\n# pid\nls -l /proc/self/ns/pid | sed 's/.*-> //'\n")
		for _, ns := range []string{"net", "pid"} {
			own, err := os.Readlink("/proc/self/ns/" + ns)
			if err != nil || got[ns] != own {
				t.Errorf("%s: container has %q, the joined one %q, %v", ns, got[ns], own, err)
			}
		}
	})
}

func TestInsideMissingWorkingDirectory(t *testing.T) {
	withRuntimes(t, func(t *testing.T, rt string) {
		in := base(t, busyboxRoot(t), "")
		in.Config.WorkingDir, in.Config.User = "/not/there", "bob"
		expect(t, sections(t, rt, in, "# cwd\npwd\n# owner\nstat -c '%u %a' /not/there\n"), map[string]string{"cwd": "/not/there", "owner": "0 755"})
	})
}
