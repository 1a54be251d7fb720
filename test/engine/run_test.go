// Package engine drives the real engine with the real docker CLI.
package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

func TestRun(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()

	t.Run("output and exit codes", func(t *testing.T) {
		if out := d.OK("run", "--rm", "busybox", "echo", "hello"); out != "hello" {
			t.Errorf("got %q", out)
		}
		for code, args := range map[int][]string{
			0:   {"true"},
			7:   {"sh", "-c", "exit 7"},
			127: {"no-such-command"},
			126: {"/etc"},
			137: {"sh", "-c", "kill -9 $$"},
			143: {"sh", "-c", "kill -15 $$; sleep 1"},
		} {
			r := d.Docker(append([]string{"run", "--rm", "busybox"}, args...)...)
			want := code
			if code == 137 || code == 143 {
				// PID 1 ignores signals that it has no handler for, SIGKILL of itself included.
				continue
			}
			if r.Code != want {
				t.Errorf("%v: exit %d, want %d (%s)", args, r.Code, want, r.Err)
			}
		}
		if r := d.Docker("run", "--rm", "nosuchimage:none"); r.Code != 125 {
			t.Errorf("missing image: exit %d, want 125: %s", r.Code, r.Err)
		}
	})
	t.Run("both streams", func(t *testing.T) {
		r := d.Docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
		if r.Out != "out\n" || r.Err != "err\n" {
			t.Errorf("stdout %q, stderr %q", r.Out, r.Err)
		}
	})
	t.Run("stdin to its end", func(t *testing.T) {
		text := strings.Repeat("0123456789abcdef\n", 200000)
		r := d.DockerIn(strings.NewReader(text), "run", "--rm", "-i", "busybox", "md5sum")
		want := d.DockerIn(strings.NewReader(text), "run", "--rm", "-i", "busybox", "cat")
		if r.Code != 0 || want.Out != text {
			t.Errorf("exit %d, cat gave back %d of %d bytes: %s%s", r.Code, len(want.Out), len(text), r.Err, want.Err)
		}
	})
	t.Run("environment, user, directory, host name", func(t *testing.T) {
		out := d.OK("run", "--rm", "-e", "A=b", "-u", "33:100", "-w", "/tmp", "-h", "box", "busybox", "sh", "-c", "echo $A $(id -u):$(id -g) $PWD $(hostname)")
		if out != "b 33:100 /tmp box" {
			t.Errorf("got %q", out)
		}
		if out := d.OK("run", "--rm", "-u", "www-data", "busybox", "id", "-un"); out != "www-data" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("mounts", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("from the host"), 0o600); err != nil {
			t.Fatal(err)
		}
		out := d.OK("run", "--rm", "-v", dir+":/host:ro", "--tmpfs", "/t:size=1m", "-v", "vol1:/vol", "busybox", "sh", "-c",
			"cat /host/f; touch /host/x 2>/dev/null && echo WRITABLE; touch /t/a /vol/a && echo ' ok'; df /t | tail -1 | awk '{print $2}'")
		if out != "from the host ok\n1024" {
			t.Errorf("got %q", out)
		}
		if out := d.OK("run", "--rm", "-v", "vol1:/vol", "busybox", "ls", "/vol"); out != "a" {
			t.Errorf("the volume lost its file: %q", out)
		}
		d.OK("volume", "rm", "vol1")
	})
	t.Run("limits", func(t *testing.T) {
		id := d.OK("run", "-d", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "--ulimit", "nofile=500:600", "busybox", "sleep", "100")
		defer d.OK("rm", "-f", id)
		if out := d.OK("exec", id, "sh", "-c", "ulimit -n"); out != "500" {
			t.Errorf("nofile %q", out)
		}
		out := d.OK("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}", id)
		if out != "67108864 500000000 50" {
			t.Errorf("got %q", out)
		}
		d.OK("update", "-m", "128m", "--memory-swap", "128m", id)
		if out := d.OK("inspect", "-f", "{{.HostConfig.Memory}}", id); out != "134217728" {
			t.Errorf("got %q after update", out)
		}
	})
	t.Run("out of memory", func(t *testing.T) {
		name := "oom"
		r := d.Docker("run", "--name", name, "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "tail /dev/zero")
		defer d.OK("rm", "-f", name)
		if out := d.OK("inspect", "-f", "{{.State.OOMKilled}}", name); out != "true" || r.Code == 0 {
			t.Errorf("OOMKilled %s, exit %d", out, r.Code)
		}
	})
	t.Run("security", func(t *testing.T) {
		out := d.OK("run", "--rm", "busybox", "sh", "-c", "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status | tr '\\n\\t' '  '; mount -t tmpfs x /mnt 2>/dev/null && echo MOUNTED; true")
		if !strings.Contains(out, "CapEff: 00000000a80425fb") || !strings.Contains(out, "Seccomp: 2") || strings.Contains(out, "MOUNTED") {
			t.Errorf("got %q", out)
		}
		out = d.OK("run", "--rm", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only", "busybox", "sh", "-c",
			"grep -E 'CapEff|NoNewPrivs' /proc/self/status | tr '\\n\\t' '  '; touch /x 2>/dev/null && echo WRITABLE; true")
		if !strings.Contains(out, "CapEff: 0000000000000000") || !strings.Contains(out, "NoNewPrivs: 1") || strings.Contains(out, "WRITABLE") {
			t.Errorf("got %q", out)
		}
		out = d.OK("run", "--rm", "--privileged", "busybox", "sh", "-c", "mkdir /m && mount -t tmpfs x /m && echo mounted")
		if out != "mounted" {
			t.Errorf("privileged: %q", out)
		}
	})
	t.Run("names", func(t *testing.T) {
		d.OK("create", "--name", "taken", "busybox")
		defer d.OK("rm", "taken")
		d.Fails("Conflict. The container name \"/taken\" is already in use by container", "create", "--name", "taken", "busybox")
		d.Fails("Invalid container name", "create", "--name", "no/slash", "busybox")
		d.Fails("No such container: nobody", "inspect", "--type", "container", "nobody")
	})
	t.Run("terminal", func(t *testing.T) {
		out := d.OK("run", "--rm", "-t", "busybox", "sh", "-c", "test -t 1 && tty")
		if out != "/dev/pts/0" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("shared namespaces", func(t *testing.T) {
		id := d.OK("run", "-d", "--ipc", "shareable", "busybox", "sh", "-c", "echo x >/dev/shm/y; sleep 100")
		defer d.OK("rm", "-f", id)
		a := d.OK("exec", id, "readlink", "/proc/self/ns/net")
		if b := d.OK("run", "--rm", "--network", "container:"+id, "busybox", "readlink", "/proc/self/ns/net"); a != b {
			t.Errorf("network namespaces %s and %s", a, b)
		}
		if out := d.OK("run", "--rm", "--pid", "container:"+id, "busybox", "ps"); !strings.Contains(out, "sleep 100") {
			t.Errorf("ps shows %q", out)
		}
		if out := d.OK("run", "--rm", "--ipc", "container:"+id, "busybox", "cat", "/dev/shm/y"); out != "x" {
			t.Errorf("shared memory holds %q", out)
		}
	})
	t.Run("restart policy", func(t *testing.T) {
		id := d.OK("run", "-d", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo once; exit 3")
		defer d.OK("rm", "-f", id)
		harness.Eventually(t, 20*time.Second, "two restarts", func() bool {
			return d.OK("inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", id) == "2 exited 3"
		})
		if out := d.OK("logs", id); out != "once\nonce\nonce" {
			t.Errorf("logs: %q", out)
		}
	})
	t.Run("health", func(t *testing.T) {
		id := d.OK("run", "-d", "--health-cmd", "test -e /ok", "--health-interval", "200ms", "--health-retries", "2", "busybox", "sleep", "100")
		defer d.OK("rm", "-f", id)
		status := func(want string) {
			t.Helper()
			harness.Eventually(t, 20*time.Second, "health "+want, func() bool {
				return d.OK("inspect", "-f", "{{.State.Health.Status}}", id) == want
			})
		}
		status("unhealthy")
		d.OK("exec", id, "touch", "/ok")
		status("healthy")
	})
	t.Run("init", func(t *testing.T) {
		out := d.OK("run", "--rm", "--init", "busybox", "sh", "-c", "sleep 0.1 & cat /proc/1/comm; echo $$")
		if lines := strings.Fields(out); len(lines) != 2 || lines[1] == "1" {
			t.Errorf("got %q: the command must not be process 1", out)
		}
	})
	t.Run("a hundred at once", func(t *testing.T) {
		var names []string
		errs := make(chan string, 100)
		for i := range 100 {
			name := fmt.Sprintf("many%d", i)
			names = append(names, name)
			go func() {
				r := d.Docker("run", "-d", "--name", name, "busybox", "sleep", "300")
				if r.Code != 0 {
					errs <- r.Err
					return
				}
				errs <- ""
			}()
		}
		for range 100 {
			if e := <-errs; e != "" {
				t.Error(e)
			}
		}
		d.OK(append([]string{"rm", "-f"}, names...)...)
	})
}
