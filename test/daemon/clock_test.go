package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestClockJumps sets the daemon's clock forth and back by days while containers run, are checked, restarted and made, and
// while it is restarted itself: nothing stops, nothing waits for the clock, nothing is lost.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("testdata/clockshift knows amd64 only")
	}
	d := harness.New(t)
	tool, file := filepath.Join(t.TempDir(), "clockshift"), filepath.Join(t.TempDir(), "shift")
	build := exec.Command("go", "build", "-o", tool, "./testdata/clockshift")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	shift := time.Duration(0)
	jump := func(by time.Duration) {
		shift += by
		must(t, os.WriteFile(file+".new", []byte(strconv.Itoa(int(shift.Seconds()))), 0o600))
		must(t, os.Rename(file+".new", file))
	}
	jump(0)
	if out, err := exec.Command(tool, file, "true").CombinedOutput(); err != nil {
		t.Skipf("nobody may be traced, or filtered, here: %v %s", err, out)
	}
	d.Under = []string{tool, file}
	d.Up()
	d.Busybox()
	d.OK("run", "-d", "--name", "well", "--health-cmd", "echo $((n++))", "--health-interval", "200ms", "--health-start-period", "1h", "busybox", "sleep", "10000")
	d.OK("run", "-d", "--name", "again", "--restart", "always", "busybox", "sh", "-c", "echo run; sleep 0.2; exit 1")
	d.OK("run", "-d", "--name", "talks", "busybox", "sh", "-c", "i=0; while sleep 0.1; do i=$((i+1)); echo $i; done")
	restarts := func() int {
		n, err := strconv.Atoi(d.OK("inspect", "-f", "{{.RestartCount}}", "again"))
		must(t, err)
		return n
	}
	lastCheck := func() string {
		return d.OK("inspect", "-f", "{{if .State.Health.Log}}{{(index .State.Health.Log 0).Start}}{{end}}", "well")
	}
	alive := func(when string) {
		t.Helper()
		told, err := time.Parse(time.RFC3339Nano, d.OK("info", "-f", "{{.SystemTime}}"))
		must(t, err)
		if off := time.Until(told) - shift; off.Abs() > 10*time.Second {
			t.Fatalf("%s: the daemon's clock is off by %v, not %v", when, off+shift, shift)
		}
		check := lastCheck()
		harness.Eventually(t, patience, when+": health checks go on", func() bool {
			now := lastCheck()
			return now != "" && now != check && d.OK("inspect", "-f", "{{.State.Health.Status}}", "well") == "healthy"
		})
		// The pause between restarts doubles: they begin anew, so that the test does not wait for the longest.
		d.OK("restart", "-t", "0", "again")
		count := restarts()
		harness.Eventually(t, patience, when+": restarts go on", func() bool { return restarts() > count })
		said := d.OK("logs", "--tail", "1", "talks")
		harness.Eventually(t, patience, when+": logs go on", func() bool { return d.OK("logs", "--tail", "1", "talks") != said })
		name := "made-" + strconv.Itoa(int(shift.Hours()))
		began := time.Now()
		if out := d.OK("run", "--name", name, "-v", "data:/data", "busybox", "sh", "-c", "echo $0 >> /data/f; echo out", name); out != "out" {
			t.Errorf("%s: %q", when, out)
		}
		d.OK("commit", name, "image"+name)
		d.OK("start", name)
		d.OK("wait", name)
		if out := d.OK("ps", "-a", "--filter", "name="+name, "--format", "{{.Status}}"); !strings.HasPrefix(out, "Exited (0)") {
			t.Errorf("%s: status %q", when, out)
		}
		if out := d.OK("exec", "well", "echo", "x"); out != "x" {
			t.Errorf("%s: exec: %q", when, out)
		}
		d.OK("stop", "-t", "1", "talks")
		d.OK("start", "talks")
		if took := time.Since(began); took > patience {
			t.Errorf("%s: that took %v", when, took)
		}
	}
	events := func(when string) {
		t.Helper()
		name := "made-" + strconv.Itoa(int(shift.Hours()))
		now := time.Now().Add(shift)
		out := d.OK("events", "--since", strconv.FormatInt(now.Add(-10*time.Minute).Unix(), 10), "--until", strconv.FormatInt(now.Unix()+1, 10), "--filter", "container="+name, "--format", "{{.Action}}")
		if !strings.Contains(out, "create") || !strings.Contains(out, "die") {
			t.Errorf("%s: events %q", when, out)
		}
	}
	for _, step := range []struct {
		by      time.Duration
		restart bool
	}{{30 * time.Hour, false}, {-100 * time.Hour, true}, {20 * time.Hour, false}} {
		jump(step.by)
		when := "at " + shift.String()
		if step.restart {
			d.Kill()
			d.Up()
			when += ", after a restart"
		}
		alive(when)
		events(when)
	}
	if out := d.OK("run", "--rm", "-v", "data:/data", "busybox", "wc", "-l", "/data/f"); !strings.HasPrefix(out, "6 ") {
		t.Errorf("the volume has %s", out)
	}
	for _, name := range []string{"imagemade-30", "imagemade--70", "imagemade--50"} {
		if r := d.Docker("run", "--rm", name, "true"); r.Code != 0 {
			t.Errorf("%s: %s", name, r.Err)
		}
	}
}
