package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"longshore/test/harness"
)

// atPID is a running container's process, which can be reached without a daemon.
func atPID(t *testing.T, d *harness.Daemon, id string) int {
	t.Helper()
	pid, err := strconv.Atoi(d.OK("inspect", "-f", "{{.State.Pid}}", id))
	if err != nil || pid == 0 {
		t.Fatalf("pid of %s: %d %v", id, pid, err)
	}
	return pid
}

// gone tells whether a process has ended, be it that nobody has reaped it yet.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// end asks a process to end and waits until it is gone.
func end(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("signal %d: %v", pid, err)
	}
	harness.Eventually(t, 10*time.Second, fmt.Sprintf("process %d ends", pid), func() bool {
		return gone(pid)
	})
}

const politely = `trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.02; done`

// TestEndsWhileDead: containers that end while no daemon is there keep code, time and log, and the restart policies
// apply at the next start.
func TestEndsWhileDead(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	run := func(name string, args ...string) int {
		d.OK(append(append([]string{"run", "-d", "--name", name}, args...), "busybox", "sh", "-c", politely)...)
		harness.Eventually(t, 10*time.Second, name+" is up", func() bool { return d.OK("logs", name) == "up" })
		return atPID(t, d, name)
	}
	pids := []int{
		run("plain"), run("always", "--restart", "always"), run("unless", "--restart", "unless-stopped"),
		run("failure", "--restart", "on-failure:3"), run("removed", "--rm"), run("local", "--log-driver", "local"),
	}
	killed := run("killed")
	d.OK("run", "-d", "--name", "stopped", "--restart", "unless-stopped", "busybox", "sh", "-c", politely)
	d.OK("stop", "stopped")
	d.Kill()
	before := time.Now()
	for _, pid := range pids {
		end(t, pid, syscall.SIGTERM)
	}
	end(t, killed, syscall.SIGKILL)
	after := time.Now()
	d.Up()

	state := func(name, format string) string { return d.OK("inspect", "-f", format, name) }
	for name, code := range map[string]string{"plain": "7", "local": "7", "killed": "137"} {
		harness.Eventually(t, 10*time.Second, name+" is known to have ended", func() bool {
			return state(name, "{{.State.Status}} {{.State.ExitCode}}") == "exited "+code
		})
		at, err := time.Parse(time.RFC3339Nano, state(name, "{{.State.FinishedAt}}"))
		if err != nil || at.Before(before) || at.After(after) {
			t.Errorf("%s ended at %v, not between %v and %v (%v)", name, at, before, after, err)
		}
		want := "up\nbye"
		if name == "killed" {
			want = "up"
		}
		if out := d.OK("logs", name); out != want {
			t.Errorf("%s has logged %q", name, out)
		}
	}
	for _, name := range []string{"always", "unless", "failure"} {
		harness.Eventually(t, 10*time.Second, name+" comes up again", func() bool {
			return state(name, "{{.State.Running}} {{.State.Restarting}}") == "true false" && strings.HasSuffix(d.OK("logs", name), "bye\nup")
		})
	}
	harness.Eventually(t, 10*time.Second, "--rm holds", func() bool { return d.OK("ps", "-aq", "-f", "name=removed") == "" })
	if s := state("stopped", "{{.State.Status}}"); s != "exited" {
		t.Errorf("a stopped container of unless-stopped is %s", s)
	}
	events := d.OK("events", "--since", fmt.Sprint(before.Add(-time.Minute).Unix()), "--until", time.Now().Add(time.Second).Format(time.RFC3339Nano),
		"--filter", "container=plain", "--filter", "event=die", "--format", "{{.Actor.Attributes.exitCode}}")
	if events != "7" {
		t.Errorf("die events of plain: %q", events)
	}
}

// TestRestartPoliciesAtStart: what ran when everything ended, machine and all, runs again as its policy says.
func TestRestartPoliciesAtStart(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	for name, policy := range map[string]string{"always": "always", "unless": "unless-stopped", "failure": "on-failure", "none": "no", "stopped": "always", "kept": "unless-stopped"} {
		d.OK("run", "-d", "--name", name, "--restart", policy, "-p", "80", "busybox", "sleep", "100000")
	}
	d.OK("create", "--name", "created", "--restart", "always", "busybox", "sleep", "100000")
	d.OK("stop", "-t", "0", "stopped", "kept")
	d.Kill()
	d.KillShims()
	d.Up()
	for name, want := range map[string]string{
		"always": "running", "unless": "running", "failure": "running", "stopped": "running",
		"none": "exited", "kept": "exited", "created": "created",
	} {
		var got string
		if !harness.Within(10*time.Second, func() bool {
			got = d.OK("inspect", "-f", "{{.State.Status}}", name)
			return got == want
		}) {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if s := d.OK("inspect", "-f", `{{ne .State.Error ""}} {{.State.ExitCode}}`, "none"); !strings.HasPrefix(s, "true ") {
		t.Errorf("the lost container has no reason: %q", s)
	}
}

// TestLogsWithoutDaemon: while the daemon dies and comes back, over and over, nothing of the output is lost or doubled,
// for any driver, and a rotated log goes on.
func TestLogsWithoutDaemon(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	const script = "i=0; while [ $i -lt 30000 ]; do echo tick $i; i=$((i+1)); done; sleep 100000"
	logs := map[string][]string{
		"json":    {"--log-driver", "json-file"},
		"local":   {"--log-driver", "local"},
		"rotated": {"--log-opt", "max-size=100k", "--log-opt", "max-file=100"},
	}
	for name, args := range logs {
		d.OK(append(append([]string{"run", "-d", "--name", name}, args...), "busybox", "sh", "-c", script)...)
	}
	for range 3 {
		d.Kill()
		d.Up()
	}
	for name := range logs {
		harness.Eventually(t, 30*time.Second, name+" has logged everything", func() bool {
			return d.OK("logs", "--tail", "1", name) == "tick 29999"
		})
		checkTicks(t, d.OK("logs", name))
	}
}

// TestExecs: an exec goes on without the daemon; an adopted container takes new ones; its health check goes on.
func TestExecs(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "-d", "--name", "box", "--health-cmd", "test -e /healthy", "--health-interval", "200ms", "busybox", "sleep", "100000")
	d.OK("exec", "-d", "box", "sh", "-c", "while [ ! -e /go ]; do sleep 0.02; done; echo done >/file")
	pid := atPID(t, d, "box")
	d.Kill()
	if r := d.InNet("nsenter", "-t", strconv.Itoa(pid), "-m", "/bin/busybox", "touch", "/go", "/healthy"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	d.Up()
	harness.Eventually(t, 10*time.Second, "the exec has done its work", func() bool {
		return strings.TrimSpace(d.Docker("exec", "box", "cat", "/file").Out) == "done"
	})
	if r := d.DockerIn(strings.NewReader("in"), "exec", "-i", "box", "sh", "-c", "cat; exit 3"); r.Out != "in" || r.Code != 3 {
		t.Errorf("exec in an adopted container: %+v", r)
	}
	harness.Eventually(t, 10*time.Second, "the health check goes on", func() bool {
		return d.OK("inspect", "-f", "{{.State.Health.Status}}", "box") == "healthy"
	})
	d.OK("stop", "-t", "0", "box")
	d.OK("start", "box")
	d.OK("exec", "box", "true")
}

// TestNetworkWithoutDaemon: ports of every kind and names answer without a daemon, and after its return the ports are
// still taken, then freed.
func TestNetworkWithoutDaemon(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	w := newWitnesses(t, d)
	bin := filepath.Join(t.TempDir(), "udpecho")
	build := exec.Command("go", "build", "-o", bin, "../engine/testdata/udpecho")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.OK("run", "-d", "-p", "18071:53/udp", "-v", bin+":/udpecho:ro", "busybox", "/udpecho")
	d.Kill()
	w.portsAndNamesWork(0)
	harness.Eventually(t, 10*time.Second, "a datagram comes back", func() bool {
		return d.InNet("timeout", "2", "bash", "-c", "exec 3<>/dev/udp/127.0.0.1/18071; echo ping >&3; head -1 <&3").Out == "ping\n"
	})
	d.Up()
	w.portsAndNamesWork(1)
	d.Fails("port is already allocated", "run", "--rm", "-p", witnessPort+":80", "busybox", "true")
	d.OK("run", "--rm", "--network", "witness", "busybox", "nslookup", "server.")
	d.OK("rm", "-f", w.server)
	d.OK("run", "--rm", "-p", witnessPort+":80", "busybox", "true")
	d.OK("network", "disconnect", "witness", w.asker)
	d.OK("network", "rm", "witness")
}

// TestResolverKilled: names come back within seconds while the daemon lives, and with the next start otherwise.
func TestResolverKilled(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	w := newWitnesses(t, d)
	for round := range 3 {
		old := d.Resolver()
		if old == 0 {
			t.Fatal("there is no resolver process")
		}
		kill(t, old)
		harness.Eventually(t, 3*time.Second, "names come back", func() bool { return d.Resolver() != old && w.namesWork() })
		d.OK("run", "--rm", "--network", "witness", "busybox", "nslookup", "server.")
		d.Kill()
		w.portsAndNamesWork(round)
		kill(t, d.Resolver())
		d.Up()
		w.portsAndNamesWork(round)
	}
	w.neverStopped()
}
