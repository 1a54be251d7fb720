// Package crash kills the daemon and shims at random under load and compares what clients were told with what is there.
package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"longshore/test/harness"
)

// promise is what a client was told of one container.
type promise struct {
	id, name string
	removed  bool // rm was acknowledged
	maybe    bool // rm was asked for and not answered
	started  bool
	exit     int // code that it ends with by itself, -1: it stays
}

type ledger struct {
	mu   sync.Mutex
	list []*promise
}

func (l *ledger) add(p *promise) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, p)
}

func (l *ledger) pick() *promise {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) == 0 {
		return nil
	}
	return l.list[rand.N(len(l.list))]
}

func kills(t *testing.T) int {
	if s := os.Getenv("LONGSHORE_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 20
}

func TestCrash(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	l := &ledger{}
	long := d.OK("run", "-d", "--name", "witness", "-p", "18070:80", "busybox", "sh", "-c", "httpd -p 80 -h /etc; i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.05; done")
	for round := range kills(t) {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for w := range 2 {
			wg.Go(func() { load(d, l, fmt.Sprintf("r%dw%d", round, w), stop) })
		}
		pause(time.Duration(100+rand.N(700)) * time.Millisecond)
		if round%4 == 3 {
			killShim(t, d, l)
		}
		d.Kill()
		if out := d.InNet("curl", "-s", "-m", "3", "http://127.0.0.1:18070/group").Out; !strings.HasPrefix(out, "root:") {
			t.Errorf("round %d: the published port did not survive the daemon", round)
		}
		close(stop)
		wg.Wait()
		d.Up()
		compare(t, d, l, round)
		if t.Failed() {
			return
		}
	}
	if s := d.OK("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", long); s != "running 0" {
		t.Errorf("the witness is %q", s)
	}
	checkTicks(t, d.OK("logs", "witness"))
}

// load works as clients do until told to stop, noting what it was told.
func load(d *harness.Daemon, l *ledger, prefix string, stop chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		name := fmt.Sprintf("%s-%d", prefix, i)
		code := rand.N(3) - 1
		script := "sleep 1000"
		if code >= 0 {
			script = fmt.Sprintf("sleep 0.%d; exit %d", rand.N(5), code)
		}
		r := d.Docker("create", "--name", name, "busybox", "sh", "-c", script)
		if r.Code != 0 {
			continue
		}
		p := &promise{id: strings.TrimSpace(r.Out), name: name, exit: code}
		l.add(p)
		if d.Docker("start", p.id).Code == 0 {
			l.mu.Lock()
			p.started = true
			l.mu.Unlock()
		}
		if rand.N(3) == 0 {
			remove(d, l)
		}
	}
}

func remove(d *harness.Daemon, l *ledger) {
	p := l.pick()
	if p == nil {
		return
	}
	l.mu.Lock()
	p.maybe = true
	l.mu.Unlock()
	if d.Docker("rm", "-f", p.id).Code == 0 {
		l.mu.Lock()
		p.removed = true
		l.mu.Unlock()
	}
}

// killShim kills the shim of one container that should stay and expects it reported dead.
func killShim(t *testing.T, d *harness.Daemon, l *ledger) {
	t.Helper()
	l.mu.Lock()
	var victim *promise
	for _, p := range l.list {
		if p.exit < 0 && p.started && !p.maybe {
			victim = p
		}
	}
	l.mu.Unlock()
	if victim == nil {
		return
	}
	pid := shimOf(d, victim.id)
	if pid == 0 {
		return
	}
	l.mu.Lock()
	victim.exit = 1000 // any code, but no longer running
	l.mu.Unlock()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

func shimOf(d *harness.Daemon, id string) int {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if strings.Contains(string(b), "longshore-shim") && strings.Contains(string(b), d.Dir) && strings.Contains(string(b), id) {
			return pid
		}
	}
	return 0
}

// compare checks every promise against the restarted daemon.
func compare(t *testing.T, d *harness.Daemon, l *ledger, round int) {
	t.Helper()
	there := map[string]string{}
	for _, line := range strings.Split(d.OK("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"), "\n") {
		if id, state, ok := strings.Cut(line, " "); ok {
			there[id] = state
		}
	}
	var keep []*promise
	for _, p := range l.list {
		state, found := there[p.id]
		switch {
		case p.removed && found:
			t.Errorf("round %d: %s was removed and is back (%s)", round, p.name, state)
		case !found && !p.maybe:
			t.Errorf("round %d: %s was created and is gone", round, p.name)
		case found && p.started && p.exit < 0 && state != "running":
			t.Errorf("round %d: %s was started and is %s: %s", round, p.name, state, d.OK("inspect", "-f", "{{json .State}}", p.id))
		case found && p.started && p.exit >= 0 && p.exit < 256:
			harness.Eventually(t, 10*time.Second, p.name+" ends", func() bool {
				return d.OK("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", p.id) == fmt.Sprintf("exited %d", p.exit)
			})
		case found && p.exit == 1000:
			harness.Eventually(t, 10*time.Second, p.name+" is dead", func() bool {
				return d.OK("inspect", "-f", "{{.State.Running}}", p.id) == "false"
			})
		}
		if found && !p.removed {
			keep = append(keep, p)
		}
	}
	l.list = keep
	if len(keep) > 25 { // keep the load steady
		var ids []string
		for _, p := range keep[:15] {
			ids = append(ids, p.id)
		}
		d.OK(append([]string{"rm", "-f"}, ids...)...)
		l.list = keep[15:]
	}
}

// checkTicks: the log of a container that lived through every kill has no gap and no double line.
func checkTicks(t *testing.T, out string) {
	t.Helper()
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if line != fmt.Sprintf("tick %d", i) {
			t.Fatalf("line %d of the witness's log is %q", i, line)
		}
	}
}

// pause lets the load run for a random while before the kill: the moment is what is being tested, nothing waits on it.
func pause(d time.Duration) { <-time.After(d) }
