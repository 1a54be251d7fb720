package seccomp

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

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// bundle makes a container of Debian's static busybox that runs sh with a script, with docker's default profile loaded.
func bundle(t testing.TB, bpf bool, script string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: containers are run for real")
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs /bin/busybox (busybox-static)")
	}
	dir := t.TempDir()
	for _, d := range []string{"bin", "proc", "dev"} {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs/bin/busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"sh", "grep", "mount", "unshare", "true", "cat"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "rootfs/bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	// CAP_SYS_ADMIN is given but left out of the set that the profile is chosen for: the filter alone must refuse
	caps := []string{"CAP_SYS_ADMIN", "CAP_CHOWN"}
	s := specWith("CAP_CHOWN")
	if err := New().Load(s, "", bpf); err != nil {
		t.Fatal(err)
	}
	s.Version = "1.0.2"
	s.Root = &specs.Root{Path: "rootfs"}
	s.Process.Args, s.Process.Cwd, s.Process.Env = []string{"/bin/sh", "-c", script}, "/", []string{"PATH=/bin"}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	s.Mounts = []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}, {Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}}
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runtimeCommand is a command of an OCI runtime; crun does not get to see the unified mount of a hybrid hierarchy.
func runtimeCommand(rt, state string, args ...string) *exec.Cmd {
	args = append([]string{"--root", state}, args...)
	if rt == "crun" {
		args = append([]string{"--cgroup-manager=disabled"}, args...)
	}
	return exec.Command(rt, args...)
}

func start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with its mount namespace
		_ = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		_ = unix.Mount("", "/sys/fs/cgroup", "", unix.MS_PRIVATE, "")
		_ = unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH)
		started <- cmd.Start()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

func TestInAContainer(t *testing.T) {
	for _, rt := range []string{"crun", "runc"} {
		t.Run(rt, func(t *testing.T) {
			if _, err := exec.LookPath(rt); err != nil {
				t.Skipf("needs %s, which make test installs: %v", rt, err)
			}
			dir, state := bundle(t, rt == "crun", "echo ready; cat /dev/null; read x"), t.TempDir()
			id := fmt.Sprintf("ls-seccomp-%s-%d", rt, os.Getpid())
			cmd := runtimeCommand(rt, state, "run", "--bundle", dir, id)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			start(t, cmd)
			ready := make([]byte, 6)
			if _, err := out.Read(ready); err != nil || string(ready) != "ready\n" {
				_ = cmd.Wait()
				t.Fatalf("%q, %v: %s", ready, err, stderr.String())
			}
			check := "grep Seccomp: /proc/self/status; mount -t tmpfs none /dev || echo refused; unshare -U true || echo refused"
			got, err := runtimeCommand(rt, state, "exec", id, "/bin/sh", "-c", check).CombinedOutput()
			if err != nil {
				t.Errorf("exec: %v", err)
			}
			if text := string(got); !strings.Contains(text, "Seccomp:\t2") || strings.Count(text, "refused") != 2 || !strings.Contains(text, "not permitted") {
				t.Errorf("an exec is not confined: %s", text)
			}
			in.Close()
			if err := cmd.Wait(); err != nil && !strings.Contains(err.Error(), "exit status 1") { // read at the end of input
				t.Errorf("%v: %s", err, stderr.String())
			}
		})
	}
}

// BenchmarkRun compares how long a runtime takes with rules and with a compiled filter.
func BenchmarkRun(b *testing.B) {
	for _, c := range []struct {
		rt  string
		bpf bool
	}{{"crun", true}, {"crun", false}, {"runc", false}} {
		b.Run(fmt.Sprintf("%s/compiled=%v", c.rt, c.bpf), func(b *testing.B) {
			dir, state := bundle(b, c.bpf, "true"), b.TempDir()
			for i := 0; b.Loop(); i++ {
				cmd := runtimeCommand(c.rt, state, "run", "--bundle", dir, fmt.Sprintf("ls-bench-%d-%d", os.Getpid(), i))
				start(b, cmd)
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
