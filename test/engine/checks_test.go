package engine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestHealthChecksTogether: one process runs the health checks of all containers, and each is what an exec would be.
func TestHealthChecksTogether(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	if facts := d.OK("info", "-f", "{{.DefaultRuntime}} {{.SecurityOptions}}"); !strings.HasPrefix(facts, "crun ") || strings.Contains(facts, "apparmor") {
		t.Skip("health checks are the runtime's here: " + facts)
	}
	part(t, d, "equal to execs", checksEqual)
	part(t, d, "much output", checkOutput)
	part(t, d, "no such command", checkFailures)
	part(t, d, "time is over", checkTimeout)
	part(t, d, "their process is killed", checkerKilled)
	part(t, d, "the daemon is killed", checksEnd)
	harness.Eventually(t, 30*time.Second, "nothing to check, no process for it", func() bool { return len(checkers(d)) == 0 })
}

// processes finds those of the host by a part of their command line, its words separated by spaces.
func processes(part string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		if strings.Contains(strings.ReplaceAll(string(text), "\x00", " "), part) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// checkers are the processes that run the daemon's health checks.
func checkers(d *harness.Daemon) []int { return processes("longshore-shim checks " + d.ExecRoot()) }

// checked runs a container with that health check, every 100 ms.
func checked(d *harness.Daemon, check string, args ...string) (id string) {
	d.T.Helper()
	run := append([]string{"run", "-d", "--health-cmd", check, "--health-interval", "100ms"}, args...)
	return d.OK(append(run, "busybox", "sleep", "1000")...)
}

func checksEqual(t *testing.T, d *harness.Daemon) {
	for _, run := range []string{
		"", "-u www-data --group-add 100", "-u 54321:7 -e HOME=/x -w /tmp", "--privileged", "--cap-drop ALL --cap-add NET_ADMIN -u 33",
		"--security-opt no-new-privileges -u 33 --network none --cgroupns private",
		"--ulimit nofile=100:200 --oom-score-adj 77 --init --memory 64m --pids-limit 50 --security-opt seccomp=unconfined", "--pid host",
	} {
		script := func(file string) string {
			return "{ " + portrait + "\n} >/tmp/made-" + file + " 2>&1; mv /tmp/made-" + file + " /tmp/" + file + "; stat -L -c '%u:%g %a' /proc/$$/fd/1 /proc/$$/fd/2"
		}
		id := checked(d, script("check"), strings.Fields(run)...)
		soon(t, d, "healthy", "inspect", "-f", "{{.State.Health.Status}}", id)
		together := len(checkers(d)) > 0
		if want := run != "--pid host"; together != want {
			t.Errorf("%s: a process for checks: %t, want %t", run, together, want)
		}
		says(t, d, "0 "+d.OK("exec", id, "sh", "-c", script("exec")), "inspect", "-f", lastOutput, id)
		seen := map[string]string{}
		for _, file := range []string{"check", "exec"} {
			session, rest, _ := strings.Cut(d.OK("exec", id, "cat", "/tmp/"+file), "\n")
			if session == "session 0" {
				t.Errorf("%s: the runtime has started the %s", run, file)
			}
			seen[file] = ignored.ReplaceAllStringFunc(rest, ownSignals)
		}
		if seen["check"] != seen["exec"] {
			t.Errorf("%s: the check is\n%s\nan exec is\n%s", run, seen["check"], seen["exec"])
		}
		d.OK("rm", "-f", id)
		harness.Eventually(t, 30*time.Second, "nothing to check, no process for it", func() bool { return len(checkers(d)) == 0 })
	}
}

const lastOutput = "{{with .State.Health.Log}}{{(index . 0).ExitCode}} {{(index . 0).Output}}{{end}}"

func checkOutput(t *testing.T, d *harness.Daemon) {
	id := checked(d, "yes | head -c 300000; echo end >&2", "-u", "33")
	soon(t, d, "healthy", "inspect", "-f", "{{.State.Health.Status}}", id)
	says(t, d, "0 "+strings.Repeat("y\n", 2048)+"\n[output truncated]", "inspect", "-f", lastOutput, id)
	d.OK("rm", "-f", id)
	// Both streams by their names; somebody who stays keeps the output open.
	id = checked(d, "sleep 500 & echo out >/dev/stdout; echo err >/dev/stderr; exit 3", "-u", "33", "--health-retries", "1")
	soon(t, d, "unhealthy", "inspect", "-f", "{{.State.Health.Status}}", id)
	says(t, d, "3 out\nerr", "inspect", "-f", "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}", id)
	d.OK("rm", "-f", id)
}

func checkFailures(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "--name", "wants", "--health-cmd", "true", "--health-interval", "100ms", "busybox", "sleep", "1000")
	soon(t, d, "healthy", "inspect", "-f", "{{.State.Health.Status}}", id)
	d.OK("exec", id, "rm", "/bin/sh")
	soon(t, d, "unhealthy", "inspect", "-f", "{{.State.Health.Status}}", id)
	tells(t, d, []string{"OCI runtime exec failed", "no such file or directory"}, "inspect", "-f", "{{(index .State.Health.Log 2).Output}}", id)
	d.OK("rm", "-f", id)
}

func checkTimeout(t *testing.T, d *harness.Daemon) {
	id := checked(d, "echo begun; exec sleep 77777", "--health-timeout", "300ms")
	soon(t, d, "3", "inspect", "-f", "{{.State.Health.FailingStreak}}", id)
	tells(t, d, []string{"-1 Health check exceeded timeout (300ms): begun"}, "inspect", "-f", lastOutput, id)
	if n := len(processes("sleep 77777")); n > 1 {
		t.Errorf("%d checks are left", n)
	}
	d.Prompt(t, 10*time.Second, "rm", "-f", id)
	harness.Eventually(t, 30*time.Second, "the check is gone", func() bool { return len(processes("sleep 77777")) == 0 })
}

func checkerKilled(t *testing.T, d *harness.Daemon) {
	id := checked(d, "true")
	soon(t, d, "healthy", "inspect", "-f", "{{.State.Health.Status}}", id)
	old := checkers(d)
	if len(old) != 1 {
		t.Fatalf("processes for checks: %v", old)
	}
	_ = syscall.Kill(old[0], syscall.SIGKILL)
	last := d.OK("inspect", "-f", "{{(index .State.Health.Log 0).Start}}", id)
	harness.Eventually(t, 30*time.Second, "checks go on", func() bool {
		now := checkers(d)
		return len(now) == 1 && now[0] != old[0] && d.OK("inspect", "-f", "{{(index .State.Health.Log 0).Start}}", id) != last
	})
	says(t, d, "healthy 0", "inspect", "-f", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}", id)
	d.OK("rm", "-f", id)
}

func checksEnd(t *testing.T, d *harness.Daemon) {
	id := checked(d, "test -e /ok || exec sleep 88888", "--health-timeout", "3s")
	harness.Eventually(t, 30*time.Second, "the check runs", func() bool { return len(processes("sleep 88888")) == 1 })
	d.Kill()
	harness.Eventually(t, 30*time.Second, "the check has ended with the daemon", func() bool {
		return len(processes("sleep 88888")) == 0 && len(checkers(d)) == 0
	})
	d.Up()
	d.OK("exec", id, "touch", "/ok")
	soon(t, d, "healthy", "inspect", "-f", "{{.State.Health.Status}}", id)
	if len(checkers(d)) != 1 {
		t.Errorf("processes for checks of the container that was taken over: %v", checkers(d))
	}
	d.OK("rm", "-f", id)
}
