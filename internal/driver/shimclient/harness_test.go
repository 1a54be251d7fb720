package shimclient

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/base/shimproto"
	"longshore/internal/core/runtime"
)

// shimPath is the shim built by TestMain; empty without root.
var shimPath string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	privateMounts()
	if file := os.Getenv(daemonVariable); file != "" {
		beDaemon(file)
	}
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	shimPath = filepath.Join(dir, "longshore-shim")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", shimPath, "longshore/cmd/longshore-shim")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build shim: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// privateMounts runs this test program again in a mount namespace without the v2 part of a hybrid cgroup system, which
// crun 1.8 refuses when it owns a controller.
func privateMounts() {
	const mark = "LONGSHORE_TEST_PRIVATE_MOUNTS"
	const unified = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(unified); err != nil || os.Getenv(mark) != "" {
		return
	}
	goruntime.LockOSThread()
	must(unix.Unshare(unix.CLONE_NEWNS))
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Unmount(unified, 0))
	must(syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), mark+"=1")))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// runtimes are the OCI runtimes that this machine has; each gets a subtest.
func runtimes(t *testing.T, f func(t *testing.T, b runtime.Binary)) {
	if os.Geteuid() != 0 {
		t.Skip("running containers needs root")
	}
	for _, name := range []string{"crun", "runc"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Logf("%s is not installed", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			f(t, runtime.Binary{Name: name, Path: path, NoCgroup: name == "crun"})
		})
	}
}

var serial atomic.Int64

// rig is a client with a place for runs.
type rig struct {
	t    testing.TB
	c    *Client
	b    runtime.Binary
	base string
	root string // root filesystem with busybox
}

func newRig(t testing.TB, b runtime.Binary) *rig {
	base, err := os.MkdirTemp("/tmp", "ls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	r := &rig{t: t, b: b, base: base, root: filepath.Join(base, "root")}
	r.b.Root = filepath.Join(base, "state")
	for _, d := range []string{"root/bin", "root/proc", "root/dev", "root/tmp", "root/etc", "state"} {
		r.check(os.MkdirAll(filepath.Join(base, d), 0o755))
	}
	busybox, err := os.ReadFile("/bin/busybox")
	r.check(err)
	r.check(os.WriteFile(filepath.Join(r.root, "bin/busybox"), busybox, 0o755))
	for _, a := range []string{"sh", "true", "cat", "echo", "sleep", "dd", "stty", "kill", "yes", "head", "printf", "wc", "od"} {
		r.check(os.Symlink("busybox", filepath.Join(r.root, "bin", a)))
	}
	r.check(os.WriteFile(filepath.Join(r.root, "etc/plain"), []byte("no program\n"), 0o644))
	r.c = r.client()
	return r
}

func (r *rig) client() *Client {
	c := New(shimPath, slog.New(slog.NewTextHandler(io.Discard, nil)))
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// launch makes a launch of args that is cleaned up with the test.
func (r *rig) launch(args ...string) runtime.Launch {
	n := serial.Add(1)
	id := fmt.Sprintf("%08x%04x%052x", os.Getpid(), n, time.Now().UnixNano())
	l := runtime.Launch{
		ID: id, Dir: filepath.Join(r.base, fmt.Sprintf("run%d", n)), Runtime: r.b,
		Spec: r.spec(args),
		Log:  runtime.LogSink{Driver: "json-file", Path: filepath.Join(r.base, fmt.Sprintf("%d.log", n)), MaxFiles: 1},
	}
	name := fmt.Sprintf("lstest-%d-%d", os.Getpid(), n)
	if r.b.NoCgroup {
		l.CgroupDirs = r.groups(name)
	} else {
		l.Spec.Linux.CgroupsPath = "/" + name
	}
	r.t.Cleanup(func() { r.check(r.c.Cleanup(context.Background(), l)) })
	return l
}

func (r *rig) groups(name string) (dirs []string) {
	for _, ctl := range []string{"memory", "pids", "freezer", "cpu"} {
		if _, err := os.Stat("/sys/fs/cgroup/" + ctl + "/tasks"); err != nil {
			continue
		}
		d := "/sys/fs/cgroup/" + ctl + "/" + name
		r.check(os.Mkdir(d, 0o755))
		dirs = append(dirs, d)
	}
	if len(dirs) == 0 {
		d := "/sys/fs/cgroup/" + name
		r.check(os.Mkdir(d, 0o755))
		dirs = append(dirs, d)
	}
	r.t.Cleanup(func() {
		for _, d := range dirs {
			r.until("cgroup removed", func() bool { err := os.Remove(d); return err == nil || os.IsNotExist(err) })
		}
	})
	return dirs
}

func (r *rig) spec(args []string) *specs.Spec {
	caps := []string{"CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"}
	return &specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: r.root},
		Process: r.process(args, caps),
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
		}},
	}
}

func (r *rig) process(args, caps []string) *specs.Process {
	return &specs.Process{
		Args: args, Cwd: "/", Env: []string{"PATH=/bin", "TERM=xterm"},
		Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
	}
}

// until polls a condition.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	limit := time.After(20 * time.Second)
	t := time.NewTicker(2 * time.Millisecond)
	defer t.Stop()
	for !ok() {
		select {
		case <-t.C:
		case <-limit:
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// spawn spawns; nothing runs yet.
func (r *rig) spawn(l runtime.Launch) runtime.Process {
	r.t.Helper()
	p, err := r.c.Spawn(testContext(r.t), l)
	r.check(err)
	return p
}

func (r *rig) wait(p runtime.Process) runtime.Exit {
	r.t.Helper()
	x, err := p.Wait(testContext(r.t))
	r.check(err)
	return x
}

// run runs to the end and returns the exit and the framed output.
func (r *rig) run(l runtime.Launch, stdin string) (runtime.Exit, string) {
	r.t.Helper()
	p := r.spawn(l)
	s, err := p.Attach(testContext(r.t), runtime.AttachOptions{Stdin: l.Stdin, Stdout: true, Stderr: true})
	r.check(err)
	defer s.Close()
	r.check(p.Start(testContext(r.t)))
	if l.Stdin {
		_, err = io.WriteString(s, stdin)
		r.check(err)
		r.check(s.CloseWrite())
	}
	out, err := io.ReadAll(s)
	r.check(err)
	return r.wait(p), string(out)
}

func frame(stream byte, text string) string {
	return string([]byte{stream, 0, 0, 0, 0, 0, byte(len(text) >> 8), byte(len(text))}) + text
}

func (r *rig) log(l runtime.Launch) string {
	b, err := os.ReadFile(l.Log.Path)
	r.check(err)
	return string(b)
}

func lines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }

func startFrame() shimproto.Frame { return shimproto.Frame{Kind: shimproto.Start, Call: 1} }
