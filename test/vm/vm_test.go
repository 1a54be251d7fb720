// Package vm tests what few hosts have together: systemd as init, control groups v2, AppArmor, project quotas, NFS, CRIU,
// firewalld. `make test-vm` runs it in a virtual machine of its own, whose services and links it uses as it likes; anywhere
// else its tests are skipped.
package vm

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"longshore/test/harness"
)

// limit is how long anything may take that is only waited for.
const limit = 30 * time.Second

// machine skips the test outside of the virtual machine.
func machine(t testing.TB) {
	t.Helper()
	if os.Getenv("LONGSHORE_VM") != "1" {
		t.Skip("needs the virtual machine: make test-vm")
	}
}

// sh runs a command of the machine, which must succeed, and answers what it wrote without the spaces around.
func sh(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// onHost prepares a daemon in the machine's own network namespace, where its services are.
func onHost(t *testing.T, args ...string) *harness.Daemon {
	t.Helper()
	machine(t)
	t.Cleanup(func() { // after the harness's
		_ = exec.Command("ip", "link", "del", "docker0").Run()
		for _, table := range []string{"ip longshore", "ip6 longshore", "inet longshore-user"} {
			_ = exec.Command("nft", append([]string{"delete", "table"}, strings.Fields(table)...)...).Run()
		}
	})
	d := harness.New(t, args...)
	sh(t, "ip", "netns", "del", d.NetNS)
	sh(t, "ip", "netns", "attach", d.NetNS, "1")
	return d
}

// inspect answers a field of a container.
func inspect(d *harness.Daemon, name, field string) string {
	d.T.Helper()
	return d.OK("inspect", "-f", "{{"+field+"}}", name)
}

// disk mounts a file system of its own at a directory.
func disk(t *testing.T, dir, size, options string, mkfs ...string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o711))
	img := filepath.Join(t.TempDir(), "disk")
	sh(t, "truncate", "-s", size, img)
	sh(t, mkfs[0], append(mkfs[1:], img)...)
	sh(t, "mount", "-o", "loop,"+options, img, dir)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// TestMachine: this is the host that the other tests are about.
func TestMachine(t *testing.T) {
	machine(t)
	if comm := sh(t, "cat", "/proc/1/comm"); comm != "systemd" {
		t.Errorf("init is %s", comm)
	}
	if fs := sh(t, "stat", "-fc", "%T", "/sys/fs/cgroup"); fs != "cgroup2fs" {
		t.Errorf("control groups are %s", fs)
	}
	if on := sh(t, "cat", "/sys/module/apparmor/parameters/enabled"); on != "Y" {
		t.Errorf("AppArmor: %s", on)
	}
	if out, err := exec.Command(harness.Bin("longshore"), "check").CombinedOutput(); err != nil {
		t.Logf("this kernel lacks something:\n%s", out) // User Mode Linux: cpuset, nf_tables
	}
	d := harness.Start(t)
	var info struct {
		CgroupVersion, CgroupDriver string
		SecurityOptions, Warnings   []string
	}
	must(t, json.Unmarshal([]byte(d.OK("info", "-f", "{{json .}}")), &info))
	if info.CgroupVersion != "2" || info.CgroupDriver != "cgroupfs" {
		t.Errorf("%+v", info)
	}
	if got := strings.Join(info.SecurityOptions, " "); got != "name=apparmor name=seccomp,profile=builtin name=cgroupns" {
		t.Errorf("security options %s", got)
	}
}
