package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"longshore/test/harness"
)

// patience is how long a request may take that has nothing to do with what hangs.
const patience = 5 * time.Second

// prompt runs a docker command that must not wait for a container that hangs.
func prompt(t *testing.T, d *harness.Daemon, args ...string) string {
	t.Helper()
	return d.Prompt(t, patience, args...)
}

// everybodyElse does what other clients do while one container hangs.
func everybodyElse(t *testing.T, d *harness.Daemon, hung string) {
	t.Helper()
	if out := prompt(t, d, "ps", "-a", "--no-trunc", "-s"); !strings.Contains(out, hung) {
		t.Errorf("ps does not show the container that hangs: %s", out)
	}
	prompt(t, d, "inspect", hung)
	prompt(t, d, "inspect", "-s", hung)
	prompt(t, d, "system", "df", "-v")
	prompt(t, d, "info")
	prompt(t, d, "version")
	prompt(t, d, "logs", hung)
	prompt(t, d, "events", "--since", "1m", "--until", time.Now().Add(time.Second).Format(time.RFC3339Nano))
	prompt(t, d, "images")
	prompt(t, d, "network", "inspect", "bridge")
	prompt(t, d, "volume", "ls")
	prompt(t, d, "stats", "--no-stream", "other")
	if out := prompt(t, d, "exec", "other", "echo", "fine"); out != "fine" {
		t.Errorf("exec in another container: %q", out)
	}
	if out := prompt(t, d, "run", "--rm", "busybox", "echo", "fine"); out != "fine" {
		t.Errorf("another container: %q", out)
	}
	prompt(t, d, "restart", "-t", "0", "other")
}

// TestHungShim: a shim that does not answer holds up requests to its container only, and the start of a daemon a little.
func TestHungShim(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "-d", "--name", "other", "busybox", "sleep", "100000")
	id := d.OK("run", "-d", "busybox", "sh", "-c", "echo up; sleep 100000")
	shim := d.Shim(id)
	stopped := func(sig syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(shim, sig); err != nil {
			t.Fatal(err)
		}
	}
	stopped(syscall.SIGSTOP)
	d.InBackground(t, "exec", id, "true")
	d.InBackground(t, "stop", "-t", "100", id)
	d.InBackground(t, "attach", id)
	everybodyElse(t, d, id)
	d.Kill()
	d.Up()
	everybodyElse(t, d, id)
	if s := prompt(t, d, "inspect", "-f", "{{.State.Status}}", id); s != "running" {
		t.Errorf("a container whose shim hangs is %s", s)
	}
	stopped(syscall.SIGCONT)
	if out := d.OK("exec", id, "echo", "back"); out != "back" {
		t.Errorf("exec after the shim has come back: %q", out)
	}
	stopped(syscall.SIGSTOP)
	d.OK("rm", "-f", id)
	d.CheckLeaks()
}

// TestFrozenContainer: processes that do not move hold up nobody.
func TestFrozenContainer(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "-d", "--name", "other", "busybox", "sleep", "100000")
	id := d.OK("run", "-d", "busybox", "sh", "-c", "echo up; sleep 100000")
	d.Freeze(id)
	d.InBackground(t, "exec", id, "true")
	d.InBackground(t, "stop", "-t", "1", id)
	everybodyElse(t, d, id)
	d.InBackground(t, "rm", "-f", id)
	everybodyElse(t, d, id)
	d.Kill()
	d.Up()
	everybodyElse(t, d, id)
	d.Thaw(id)
	harness.Eventually(t, 20*time.Second, "the container can be removed", func() bool {
		return d.Docker("rm", "-f", id).Code == 0 || d.Docker("inspect", id).Code != 0
	})
	d.CheckLeaks()
}

// TestStuckRuntime: an OCI runtime that does not come back holds up its own container only.
func TestStuckRuntime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "stuck")
	gate := filepath.Join(dir, "gate")
	text := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *--version*|*features*) exec crun \"$@\";; esac\nwhile [ -e %s ]; do sleep 0.1; done\nexec crun \"$@\"\n", gate)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	d := harness.Start(t, "--add-runtime", "stuck="+script)
	d.Busybox()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.OK("run", "-d", "--name", "other", "busybox", "sleep", "100000")
	id := d.OK("create", "--runtime", "stuck", "busybox", "sleep", "100000")
	d.InBackground(t, "start", id)
	harness.Eventually(t, 10*time.Second, "the runtime hangs", func() bool { return d.Shim(id) != 0 })
	everybodyElse(t, d, id)
	d.InBackground(t, "rm", "-f", id)
	everybodyElse(t, d, id)
	d.Stop() // nor does it hold up the end of the daemon
	d.Up()
	everybodyElse(t, d, id)
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 30*time.Second, "the container can be removed", func() bool {
		return d.Docker("rm", "-f", id).Code == 0 || d.Docker("inspect", id).Code != 0
	})
	d.CheckLeaks()
}
