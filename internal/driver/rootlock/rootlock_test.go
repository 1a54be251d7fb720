package rootlock

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/containerd/errdefs"
)

func TestSecondDaemonIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	l, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(dir); !errdefs.IsConflict(err) {
		t.Fatalf("got %v, want a conflict", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	l, err = Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestPidfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pid")
	if err := os.WriteFile(path, []byte("999999999"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	remove, err := l.WritePidfile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != strconv.Itoa(os.Getpid()) {
		t.Fatalf("pid file holds %q", b)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
}

// A daemon that has just been killed is no reason to refuse its successor: not while it holds the lock, and not for the
// pid file that it left.
func TestAfterKill(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "x.pid")
	if dir := os.Getenv("ROOTLOCK_TEST_DIR"); dir != "" {
		l, err := Acquire(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release()
		if _, err = l.WritePidfile(os.Getenv("ROOTLOCK_TEST_PID")); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("locked\n")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
		return
	}
	for range 5 {
		c := exec.Command(os.Args[0], "-test.run=TestAfterKill$")
		c.Env = append(os.Environ(), "ROOTLOCK_TEST_DIR="+dir, "ROOTLOCK_TEST_PID="+path)
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
			t.Fatalf("%q %v", line, err)
		}
		if _, err := Acquire(dir); !errdefs.IsConflict(err) {
			t.Fatalf("beside a live daemon: %v", err)
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		l, err := Acquire(dir) // before anybody reaps it
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.WritePidfile(path); err != nil {
			t.Fatal(err)
		}
		_ = in.Close()
		_ = c.Wait()
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
	}
}
