package ocispec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/host"
)

// bareHost is a machine that can do everything but has this process' real capabilities.
func testHost(t testing.TB) *host.Facts {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "CapBnd:\t")
	var bits uint64
	if _, err := fmt.Sscanf(rest, "%x", &bits); err != nil {
		t.Fatal(err)
	}
	f := &host.Facts{}
	f.Cgroup.Version = "1"
	f.Cgroup.Namespaces = true
	f.Security.Seccomp = true
	for i, name := range capNames {
		f.Security.KnownCapabilities = append(f.Security.KnownCapabilities, name)
		if bits&(1<<i) != 0 {
			f.Security.Capabilities = append(f.Security.Capabilities, name)
		}
	}
	f.Limits.HardRlimits = map[string]uint64{}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	f.Limits.HardRlimits["nofile"] = lim.Max
	return f
}

var capNames = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID
CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK
CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT
CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL
CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF
CAP_CHECKPOINT_RESTORE`)

// busyboxRoot makes a root filesystem of Debian's static busybox with a few accounts.
func busyboxRoot(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: containers are run for real")
	}
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs /bin/busybox (busybox-static)")
	}
	dir := filepath.Join(t.TempDir(), "root")
	for _, d := range []string{"bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "home/bob", "mnt"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1001:Bob:/home/bob:/bin/sh\n",
		"etc/group":  "root:x:0:\nbob:x:1001:\nstaff:x:50:bob\naudio:x:29:\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tool := range strings.Fields("sh cat ls id mount true sleep echo grep env stat hostname touch pwd dd mknod ps sed head dmesg unshare") {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// withRuntimes runs f for each OCI runtime of this machine.
func withRuntimes(t *testing.T, f func(t *testing.T, rt string)) {
	for _, rt := range []string{"runc", "crun"} {
		t.Run(rt, func(t *testing.T) {
			if _, err := exec.LookPath(rt); err != nil {
				t.Skipf("%s is not installed", rt)
			}
			f(t, rt)
		})
	}
}

// runSpec runs a bundle to its end and returns what it printed. crun runs where the unified mount of a hybrid hierarchy
// cannot be seen, as the engine's shim does it.
func runSpec(t *testing.T, rt string, s *specs.Spec) (string, error) {
	t.Helper()
	bundle := t.TempDir()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("ls-spec-%d-%s", os.Getpid(), filepath.Base(filepath.Dir(bundle))+filepath.Base(bundle))
	args := []string{"--root", t.TempDir(), "run", "--bundle", bundle, id}
	if rt == "crun" {
		args = append([]string{"--cgroup-manager=disabled"}, args...)
	}
	cmd := exec.Command(rt, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread with the other mount namespace must end
		if rt == "crun" {
			_ = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
			_ = unix.Mount("", "/sys/fs/cgroup", "", unix.MS_PRIVATE, "")
			_ = unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH)
		}
		started <- cmd.Start()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	return out.String(), err
}

// base is the input of a container that runs a shell script.
func base(t testing.TB, root, script string) *Input {
	return &Input{
		ID:         "0123456789abcdef",
		Config:     &container.Config{Hostname: "testhost", Cmd: []string{"/bin/sh", "-c", script}},
		HostConfig: &container.HostConfig{NetworkMode: "none", IpcMode: "private"},
		Rootfs:     root,
		CgroupPath: fmt.Sprintf("/ls-spec-%d", os.Getpid()),
		Host:       testHost(t),
	}
}

func mustRun(t *testing.T, rt string, in *Input) string {
	t.Helper()
	s, err := Generate(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := runSpec(t, rt, s)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}
