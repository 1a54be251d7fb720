// Package crash kills the daemon, its shims and its resolver, at random under load and at chosen moments, and compares
// what clients were told with what is there.
package crash

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestCrash kills at random moments while clients work, and looks after each kill whether every promise was kept: those
// that clients were given, and those that containers have of an engine that is dead.
func TestCrash(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	w := newWitnesses(t, d)
	l := newLedger(t, d)
	l.pullable = serveImages(t, d)
	kills := harness.Count(t, "LONGSHORE_KILLS", 20)
	for round := range kills {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i, work := range []func(*ledger, string){workContainers, workContainers, workOthers} {
			wg.Go(func() {
				for n := 0; !over(stop); n++ {
					work(l, fmt.Sprintf("r%dw%d-%d", round, i, n))
				}
			})
		}
		pause(time.Duration(100+rand.N(700)) * time.Millisecond)
		switch round % 4 {
		case 1:
			kill(t, d.Resolver())
		case 3:
			l.dying.Store(true)
			l.killShim()
		}
		l.dying.Store(true)
		d.Kill()
		close(stop)
		if round%4 == 1 {
			w.portsWork(round)
		} else {
			w.portsAndNamesWork(round)
		}
		wg.Wait()
		d.Up()
		l.dying.Store(false)
		l.compare(round)
		w.portsAndNamesWork(round)
		if t.Failed() {
			return
		}
		if n := round + 1; n%20 == 0 || n == kills {
			t.Logf("%d of %d kills, %d promises", n, kills, l.promises.Load())
		}
	}
	w.neverStopped()
	l.nothingIsHeld()
}

func over(stop chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if pid == 0 {
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		t.Errorf("kill %d: %v", pid, err)
	}
}

// witnesses are containers that live through everything: a web server with a published port that logs without a pause,
// and one that looks it up by name.
type witnesses struct {
	t             *testing.T
	d             *harness.Daemon
	server, asker string
	askerPID      string
}

const witnessPort = "18070"

func newWitnesses(t *testing.T, d *harness.Daemon) *witnesses {
	w := &witnesses{t: t, d: d}
	d.OK("network", "create", "witness")
	w.server = d.OK("run", "-d", "--name", "server", "--network", "witness", "-p", witnessPort+":80", "busybox", "sh", "-c",
		"httpd -p 80 -h /etc; i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.05; done")
	w.asker = d.OK("run", "-d", "--name", "asker", "--network", "witness", "busybox", "sleep", "100000")
	w.askerPID = d.OK("inspect", "-f", "{{.State.Pid}}", w.asker)
	return w
}

// portsWork asks from outside the engine, which may be dead.
func (w *witnesses) portsWork(round int) {
	w.t.Helper()
	if out := w.d.InNet("curl", "-s", "-m", "5", "http://127.0.0.1:"+witnessPort+"/group").Out; !strings.HasPrefix(out, "root:") {
		w.t.Errorf("round %d: the published port does not answer", round)
	}
}

func (w *witnesses) portsAndNamesWork(round int) {
	w.t.Helper()
	w.portsWork(round)
	harness.Eventually(w.t, 3*time.Second, fmt.Sprintf("round %d: DNS between containers", round), w.namesWork)
}

// namesWork enters the container from outside, because no engine may be there to do it.
func (w *witnesses) namesWork() bool {
	r := w.d.InNet("nsenter", "-t", w.askerPID, "-n", "-m", "/bin/busybox", "nslookup", "server.", "127.0.0.11")
	return r.Code == 0 && strings.Contains(r.Out, "Name:")
}

// neverStopped: state, and a log without gaps and double lines.
func (w *witnesses) neverStopped() {
	w.t.Helper()
	for _, id := range []string{w.server, w.asker} {
		if s := w.d.OK("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", id); s != "running 0" {
			w.t.Errorf("witness %s is %q", id, s)
		}
	}
	checkTicks(w.t, w.d.OK("logs", w.server))
}

func checkTicks(t *testing.T, out string) {
	t.Helper()
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if line != fmt.Sprintf("tick %d", i) {
			t.Fatalf("line %d of the log is %q", i, line)
		}
	}
}

// pause lets the load run for a random while before the kill: the moment is what is being tested, nothing waits on it.
func pause(d time.Duration) { <-time.After(d) }
