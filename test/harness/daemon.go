// Package harness starts the real daemon in a network namespace of its own and drives it with the real docker CLI.
package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Daemon is one engine under test. Its roots, socket and network namespace are its own and are removed at the end.
type Daemon struct {
	T      testing.TB
	Dir    string // everything lies below it
	Socket string
	NetNS  string // name under /run/netns
	Args   []string
	// Command is the daemon's command: "engine" unless it is changed before Up.
	Command string
	// Env is added to the daemon's environment.
	Env []string
	// Under is a command that the daemon is an argument of, if any; it must become the daemon.
	Under []string

	cmd     *exec.Cmd
	log     *os.File
	done    chan struct{} // closed when the process has been reaped
	started bool          // ever
}

// markName is a variable in the environment of the daemon and of its helpers, whose value is Dir.
const markName = "LONGSHORE_TEST_DIR"

var serial atomic.Int32

// Bin is the path of a program made by `make build`, or below $LONGSHORE_BIN.
func Bin(name string) string {
	if dir := os.Getenv("LONGSHORE_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	return filepath.Join(root(), "bin", name)
}

// root is the top of the source tree.
func root() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" && !exists(filepath.Join(dir, "go.mod")) {
		dir = filepath.Dir(dir)
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Soaking tells whether this is `make soak`, where tests take their long forms.
func Soaking() bool { return os.Getenv("LONGSHORE_SOAK") != "" }

// Count is a number of the environment's, or the default.
func Count(t testing.TB, variable string, usual int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// New prepares a daemon without starting it; tests that cannot run here are skipped with the reason.
func New(t testing.TB, args ...string) *Daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: real containers")
	}
	if !exists(Bin("longshore")) {
		t.Fatal("bin/longshore is missing: run make build first")
	}
	dir, err := os.MkdirTemp("/tmp", "longshore-test-")
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{T: t, Dir: dir, Socket: filepath.Join(dir, "docker.sock"), Args: args, Command: "engine"}
	d.NetNS = fmt.Sprintf("ls-%d-%d", os.Getpid(), serial.Add(1))
	run(t, "ip", "netns", "add", d.NetNS)
	run(t, "ip", "-n", d.NetNS, "link", "set", "lo", "up")
	t.Cleanup(d.cleanup)
	return d
}

// Start is New and Up.
func Start(t testing.TB, args ...string) *Daemon {
	t.Helper()
	d := New(t, args...)
	d.Up()
	return d
}

// DataRoot and ExecRoot are the daemon's directories.
func (d *Daemon) DataRoot() string { return filepath.Join(d.Dir, "data") }

// ExecRoot is the daemon's run directory.
func (d *Daemon) ExecRoot() string { return filepath.Join(d.Dir, "exec") }

// Up starts the process and waits until it answers.
func (d *Daemon) Up() {
	d.T.Helper()
	var err error
	d.log, err = os.OpenFile(filepath.Join(d.Dir, "daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.T.Fatal(err)
	}
	argv := append([]string{"--net=/run/netns/" + d.NetNS}, d.Under...)
	argv = append(argv, Bin("longshore"), d.Command, "-H", "unix://"+d.Socket,
		"--data-root", d.DataRoot(), "--exec-root", d.ExecRoot(), "--pidfile", filepath.Join(d.Dir, "pid"),
		"--config-file", d.configFile(), "--cgroup-parent", "/"+filepath.Base(d.Dir))
	argv = append(argv, d.Args...)
	d.cmd = exec.Command("nsenter", argv...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	tmp := filepath.Join(d.Dir, "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		d.T.Fatal(err)
	}
	d.cmd.Env = append(os.Environ(), markName+"="+d.Dir, "TMPDIR="+tmp)
	d.cmd.Env = append(d.cmd.Env, d.Env...)
	if err := d.cmd.Start(); err != nil {
		d.T.Fatal(err)
	}
	d.started, d.done = true, make(chan struct{})
	go func(c *exec.Cmd, done chan struct{}) {
		_ = c.Wait()
		close(done)
	}(d.cmd, d.done)
	Eventually(d.T, time.Minute, "the daemon answers", func() bool {
		select {
		case <-d.done:
			d.T.Fatalf("the daemon ended at start:\n%s", d.Log())
		default:
		}
		resp, err := d.Client().Get("http://d/_ping")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (d *Daemon) configFile() string {
	path := filepath.Join(d.Dir, "daemon.json")
	if !exists(path) {
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			d.T.Fatal(err)
		}
	}
	return path
}

// PID of the daemon.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Footprint counts what a daemon must not gather while it works: goroutines and open descriptors.
func (d *Daemon) Footprint() (goroutines, descriptors int) {
	d.T.Helper()
	resp, err := d.Client().Get("http://d/info")
	if err != nil {
		d.T.Fatal(err)
	}
	defer resp.Body.Close()
	var info struct{ NGoroutines int }
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		d.T.Fatal(err)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
	if err != nil {
		d.T.Fatal(err)
	}
	return info.NGoroutines, len(fds)
}

// Kill ends the daemon with SIGKILL and waits for it.
func (d *Daemon) Kill() { d.signal(syscall.SIGKILL) }

// Stop ends the daemon with SIGTERM and waits for it.
func (d *Daemon) Stop() { d.signal(syscall.SIGTERM) }

func (d *Daemon) signal(s syscall.Signal) {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(s)
	select {
	case <-d.done:
	case <-time.After(40 * time.Second):
		d.T.Errorf("the daemon did not end on %v:\n%s", s, d.Log())
		_ = d.cmd.Process.Kill()
		<-d.done
	}
	d.cmd = nil
	_ = d.log.Close()
}

// Log is the tail of what the daemon wrote.
func (d *Daemon) Log() string {
	b, _ := os.ReadFile(filepath.Join(d.Dir, "daemon.log"))
	if len(b) > 16<<10 {
		b = b[len(b)-16<<10:]
	}
	return string(b)
}

// Client speaks HTTP to the daemon's socket.
func (d *Daemon) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.Socket)
	}}}
}

// Result is what a command left.
type Result struct {
	Out, Err string
	Code     int
}

// Docker runs the docker CLI against the daemon.
func (d *Daemon) Docker(args ...string) Result { return d.DockerIn(nil, args...) }

// DockerIn is Docker with standard input.
func (d *Daemon) DockerIn(stdin io.Reader, args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return d.Exec(ctx, stdin, "docker", args...)
}

// Exec runs any client program with DOCKER_HOST set.
func (d *Daemon) Exec(ctx context.Context, stdin io.Reader, name string, args ...string) Result {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+d.Socket, "DOCKER_CONFIG="+filepath.Join(d.Dir, "cli"), "DOCKER_CLI_HINTS=false")
	c.Stdin = stdin
	c.WaitDelay = 5 * time.Second
	var out, errb bytes.Buffer
	c.Stdout, c.Stderr = &out, &errb
	err := c.Run()
	r := Result{Out: out.String(), Err: errb.String()}
	var ee *exec.ExitError
	switch {
	case errors.As(err, &ee):
		r.Code = ee.ExitCode()
	case err != nil:
		r.Code, r.Err = -1, r.Err+err.Error()
	}
	return r
}

// OK runs the docker CLI, fails the test unless it succeeds, and answers trimmed standard output.
func (d *Daemon) OK(args ...string) string {
	d.T.Helper()
	r := d.Docker(args...)
	if r.Code != 0 {
		d.T.Fatalf("docker %s: exit %d\n%s%s\n--- daemon ---\n%s", strings.Join(args, " "), r.Code, r.Out, r.Err, d.Log())
	}
	return strings.TrimSpace(r.Out)
}

// Fails runs the docker CLI and checks that it fails with the words.
func (d *Daemon) Fails(words string, args ...string) Result {
	d.T.Helper()
	r := d.Docker(args...)
	if r.Code == 0 || !strings.Contains(r.Err+r.Out, words) {
		d.T.Errorf("docker %s: exit %d, want a failure with %q, got\n%s%s", strings.Join(args, " "), r.Code, words, r.Out, r.Err)
	}
	return r
}

// Prompt runs the docker CLI, which must succeed within the limit beside what hangs, and answers trimmed standard output.
func (d *Daemon) Prompt(t testing.TB, limit time.Duration, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r := d.Exec(ctx, nil, "docker", args...)
	if r.Code != 0 {
		t.Errorf("docker %s beside what hangs: exit %d within %v\n%s%s", strings.Join(args, " "), r.Code, limit, r.Out, r.Err)
	}
	return strings.TrimSpace(r.Out)
}

// InBackground starts the docker CLI with a command that is going to hang and ends it with the test.
func (d *Daemon) InBackground(t testing.TB, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Exec(ctx, nil, "docker", args...)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// Busybox imports the first image.
func (d *Daemon) Busybox() {
	d.T.Helper()
	script := filepath.Join(root(), "scripts", "busybox-image.sh")
	tar := exec.Command(script)
	out, err := tar.StdoutPipe()
	if err != nil {
		d.T.Fatal(err)
	}
	if err := tar.Start(); err != nil {
		d.T.Fatal(err)
	}
	r := d.DockerIn(out, "import", "--change", `CMD ["sh"]`, "--change", "ENV PATH=/bin", "-", "busybox")
	if err := tar.Wait(); err != nil || r.Code != 0 {
		d.T.Fatalf("import busybox: %v %s%s\n%s", err, r.Out, r.Err, d.Log())
	}
}

// InNet runs a command in the daemon's network namespace.
func (d *Daemon) InNet(name string, args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return d.Exec(ctx, nil, "nsenter", append([]string{"--net=/run/netns/" + d.NetNS, name}, args...)...)
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// Eventually polls until ok or fails after the limit.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	if !Within(limit, ok) {
		t.Fatalf("not within %v: %s", limit, what)
	}
}

// Within polls and tells whether ok came true before the limit.
func Within(limit time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}
