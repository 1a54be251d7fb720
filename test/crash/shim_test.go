package crash

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestShimKilled: the container is reported dead with a reason, its processes and everything else it had are gone, its
// clients are told, and its name, ports and policy work on.
func TestShimKilled(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	for _, runtime := range []string{"crun", "runc"} {
		if d.Docker("run", "--rm", "--runtime", runtime, "busybox", "true").Code != 0 {
			continue
		}
		t.Run(runtime, func(t *testing.T) { shimKilled(t, d, runtime) })
	}
}

func shimKilled(t *testing.T, d *harness.Daemon, runtime string) {
	begin := time.Now()
	id := d.OK("run", "-d", "--runtime", runtime, "-p", "18072:80", "--name", "victim", "busybox", "sh", "-c", "echo said; sleep 100000 & sleep 100000")
	pid := atPID(t, d, id)
	results := make(chan harness.Result, 3)
	for _, args := range [][]string{{"wait", id}, {"exec", id, "sleep", "100000"}, {"attach", id}} {
		go func() { results <- d.Docker(args...) }()
	}
	harness.Eventually(t, 10*time.Second, "the exec runs", func() bool { return strings.Count(d.OK("top", id), "sleep 100000") >= 3 })
	kill(t, d.Shim(id))
	harness.Eventually(t, 10*time.Second, "the container is reported dead", func() bool {
		return d.OK("inspect", "-f", `{{.State.Status}} {{.State.ExitCode}} {{ne .State.Error ""}}`, id) == "exited 137 true"
	})
	for range 3 {
		select {
		case r := <-results:
			if r.Code == 0 && strings.TrimSpace(r.Out) != "137" {
				t.Errorf("a client was told that all is well: %+v", r)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a client still waits for the dead container")
		}
	}
	harness.Eventually(t, 10*time.Second, "its process is gone", func() bool { return gone(pid) })
	if out := d.OK("logs", id); out != "said" {
		t.Errorf("its log is %q", out)
	}
	events := d.OK("events", "--since", strconv.FormatInt(begin.Unix(), 10), "--until", time.Now().Add(time.Second).Format(time.RFC3339Nano),
		"--filter", "container="+id, "--filter", "event=die", "--format", "{{.Actor.Attributes.exitCode}}")
	if events != "137" {
		t.Errorf("die events: %q", events)
	}
	d.OK("run", "--rm", "--runtime", runtime, "-p", "18072:80", "busybox", "true")
	d.OK("start", id)
	d.OK("exec", id, "true")
	d.CheckLeaks()
}

// TestShimKilledPolicy: a lost shim is a failure, after which the restart policy applies.
func TestShimKilledPolicy(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	for policy, want := range map[string]string{"no": "exited", "always": "running", "on-failure:2": "running", "unless-stopped": "running"} {
		id := d.OK("run", "-d", "--restart", policy, "busybox", "sleep", "100000")
		old := d.Shim(id)
		kill(t, old)
		var got string
		if !harness.Within(10*time.Second, func() bool {
			got = d.OK("inspect", "-f", "{{.State.Status}}", id)
			return got == want && d.Shim(id) != old
		}) {
			t.Errorf("%s: %s, want %s", policy, got, want)
		}
	}
	id := d.OK("run", "-d", "--rm", "busybox", "sleep", "100000")
	kill(t, d.Shim(id))
	harness.Eventually(t, 10*time.Second, "--rm holds", func() bool { return d.Docker("inspect", id).Code != 0 })
}

// TestShimAndDaemonKilled: both, in any order, at about the same time.
func TestShimAndDaemonKilled(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	for i, order := range [][]string{{"shim", "daemon"}, {"daemon", "shim"}} {
		for _, volume := range []string{"", "v"} {
			args := []string{"run", "-d", "--name", fmt.Sprintf("c%d%s", i, volume)}
			if volume != "" {
				args = append(args, "-v", "data:/data")
			}
			id := d.OK(append(args, "busybox", "sleep", "100000")...)
			pid, shim := atPID(t, d, id), d.Shim(id)
			for _, who := range order {
				if who == "shim" {
					kill(t, shim)
				} else {
					d.Kill()
				}
			}
			d.Up()
			harness.Eventually(t, 10*time.Second, "it is reported dead", func() bool {
				return d.OK("inspect", "-f", `{{.State.Status}} {{ne .State.Error ""}}`, id) == "exited true"
			})
			harness.Eventually(t, 10*time.Second, "its process is gone", func() bool { return gone(pid) })
			d.CheckLeaks()
		}
	}
	d.OK("volume", "rm", "data")
}
