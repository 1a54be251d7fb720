package shimclient

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"longshore/internal/core/runtime"
)

// daemonVariable makes this test program a daemon that starts the launch in the variable's file and waits to be killed.
const daemonVariable = "LONGSHORE_TEST_DAEMON"

// beDaemon spawns and starts, telling each step on stdout.
func beDaemon(file string) {
	b, err := os.ReadFile(file)
	must(err)
	var job struct {
		Shim   string
		Launch runtime.Launch
	}
	must(json.Unmarshal(b, &job))
	c := New(job.Shim, slog.New(slog.DiscardHandler))
	os.Stdout.WriteString("spawn\n")
	p, err := c.Spawn(context.Background(), job.Launch)
	must(err)
	os.Stdout.WriteString("spawned\n")
	must(p.Start(context.Background()))
	os.Stdout.WriteString("started\n")
	x, err := p.Exec(context.Background(), runtime.ExecLaunch{ID: "e", Process: job.Launch.Spec.Process, Stdout: true})
	must(err)
	os.Stdout.WriteString("exec\n")
	x.Wait(context.Background())
	select {}
}

// TestDaemonKilled kills a daemon at many moments of a start. Afterwards the run is adopted, or is known not to have
// started; and cleaning leaves nothing behind.
func TestDaemonKilled(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		moments := []struct {
			after string
			delay time.Duration
		}{
			{"spawn", 0}, {"spawn", time.Millisecond}, {"spawn", 3 * time.Millisecond}, {"spawned", 0},
			{"spawned", 2 * time.Millisecond}, {"spawned", 8 * time.Millisecond}, {"spawned", 20 * time.Millisecond},
			{"started", 0}, {"started", 5 * time.Millisecond}, {"exec", 0},
		}
		for _, m := range moments {
			r := newRig(t, b)
			l := r.launch("sleep", "1000")
			r.killDaemon(l, m.after, m.delay)
			a, err := r.c.Adopt(testContext(t), l)
			switch {
			case err == nil:
				if x, err := a.Process.Exec(testContext(t), r.execLaunch("true")); err == nil {
					if end, err := x.Wait(testContext(t)); err != nil || end.Code != 0 {
						t.Errorf("%v: exec in the adopted container: %+v %v", m, end, err)
					}
				}
			case !errors.Is(err, errdefs.ErrNotFound) || a.Exit != nil:
				t.Errorf("%v: %+v %v", m, a, err)
			}
			r.check(r.c.Cleanup(testContext(t), l))
			if _, err := os.Stat(l.Dir); !os.IsNotExist(err) {
				t.Errorf("%v: run directory is left", m)
			}
			if left, _ := os.ReadDir(r.b.Root); len(left) != 0 {
				t.Errorf("%v: runtime state is left: %v", m, left)
			}
			for _, d := range l.CgroupDirs {
				r.until("groups are empty", func() bool { return len(groupPIDs(d)) == 0 })
			}
		}
	})
}

// killDaemon runs a daemon until it says the word, waits a little and kills it.
func (r *rig) killDaemon(l runtime.Launch, word string, delay time.Duration) {
	r.t.Helper()
	job, err := json.Marshal(map[string]any{"Shim": shimPath, "Launch": l})
	r.check(err)
	file := filepath.Join(r.base, "job.json")
	r.check(os.WriteFile(file, job, 0o600))
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), daemonVariable+"="+file)
	out, err := cmd.StdoutPipe()
	r.check(err)
	cmd.Stderr = os.Stderr
	r.check(cmd.Start())
	for s := bufio.NewScanner(out); s.Scan() && s.Text() != word; {
	}
	<-time.After(delay)
	r.check(cmd.Process.Signal(unix.SIGKILL))
	cmd.Wait()
}

// TestShimKilledEarly kills the shim while the OCI runtime is at work; cleaning leaves nothing behind.
func TestShimKilledEarly(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		for _, delay := range []time.Duration{0, 2, 5, 9, 14, 25, 40} {
			r := newRig(t, b)
			l := r.launch("sleep", "1000")
			p := r.spawn(l).(*process)
			started := make(chan error, 1)
			go func() { started <- p.Start(testContext(t)) }()
			<-time.After(delay * time.Millisecond)
			r.check(unix.Kill(p.shimPID, unix.SIGKILL))
			if x := r.wait(p); x.Code != 137 || x.Error == "" {
				t.Errorf("%v: exit %+v", delay, x)
			}
			if err := <-started; err != nil && !errors.Is(err, errdefs.ErrUnavailable) {
				t.Errorf("%v: start: %v", delay, err)
			}
			r.check(r.c.Cleanup(testContext(t), l))
			if left, _ := os.ReadDir(r.b.Root); len(left) != 0 {
				t.Errorf("%v: runtime state is left: %v", delay, left)
			}
			for _, d := range l.CgroupDirs {
				r.until("groups are empty", func() bool { return len(groupPIDs(d)) == 0 })
			}
		}
	})
}
