package container

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestScripts runs the life cycle over testdata/*.txt: each "> input" line is followed by the state and the effects that
// come of it. Times are seconds since the script's start.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(text))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("%s differs; run with -update and read the diff. Now:\n%s", f, got)
			}
		})
	}
}

type script struct {
	spec  Spec
	state State
	out   strings.Builder
}

func runScript(t *testing.T, text string) string {
	s := &script{state: State{Phase: Created}}
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "> "):
			fmt.Fprintln(&s.out, line)
			s.feed(t, strings.Fields(line[2:]))
		case strings.HasPrefix(line, "#"), line == "":
			fmt.Fprintln(&s.out, line)
		case strings.HasPrefix(line, "spec "):
			fmt.Fprintln(&s.out, line)
			s.configure(strings.Fields(line[5:]))
		}
	}
	return s.out.String()
}

func (s *script) configure(words []string) {
	s.spec = Spec{}
	for _, w := range words {
		switch k, v, _ := strings.Cut(w, "="); k {
		case "policy":
			name, n, _ := strings.Cut(v, ":")
			s.spec.Policy.Name = container.RestartPolicyMode(name)
			s.spec.Policy.MaximumRetryCount, _ = strconv.Atoi(n)
		case "rm":
			s.spec.AutoRemove = true
		case "health":
			s.spec.Health = true
		}
	}
}

func at(sec string) time.Time {
	f, _ := strconv.ParseFloat(sec, 64)
	return time.Unix(1000, int64(f*1e9)).UTC()
}

func (s *script) feed(t *testing.T, w []string) {
	arg := func(i int) string {
		if i < len(w) {
			return w[i]
		}
		return ""
	}
	num := func(i int) int { n, _ := strconv.Atoi(arg(i)); return n }
	var in Input
	switch w[0] {
	case "start":
		in = StartAsked{}
	case "due":
		in = RestartDue{Boot: arg(1) == "boot"}
	case "started":
		in = Started{PID: num(1), At: at(arg(2))}
	case "failed":
		in = StartFailed{Code: num(1), Error: arg(2), At: at(arg(3))}
	case "ended":
		in = Ended{Code: num(1), At: at(arg(2)), OOMKilled: arg(3) == "oom", Shutdown: arg(3) == "shutdown"}
	case "stop":
		in = Stopping{Restart: arg(1) == "restart"}
	case "kill":
		in = Killing{Signal: num(1), Fatal: arg(2) == "fatal"}
	case "freeze":
		in = Frozen{}
	case "thaw":
		in = Thawed{}
	case "remove":
		in = RemoveAsked{}
	case "removefailed":
		in = RemoveFailed{Error: arg(1)}
	case "probe":
		in = Probed{Result: container.HealthcheckResult{ExitCode: num(1)}, Retries: 3, Grace: arg(2) == "grace"}
	case "boot":
		fmt.Fprintf(&s.out, "  starts at boot: %v\n", StartsAtBoot(s.spec.Policy, s.state))
		return
	default:
		t.Fatalf("unknown input %q", w[0])
	}
	next, effects, err := Step(s.spec, s.state, in)
	if err != nil {
		fmt.Fprintf(&s.out, "  error: %v\n", err)
		return
	}
	s.state = next
	fmt.Fprintf(&s.out, "  %s\n", show(next))
	for _, e := range effects {
		fmt.Fprintf(&s.out, "  - %s\n", showEffect(e))
	}
}

func show(s State) string {
	b := []string{string(s.Phase)}
	add := func(cond bool, format string, a ...any) {
		if cond {
			b = append(b, fmt.Sprintf(format, a...))
		}
	}
	add(s.PID != 0, "pid=%d", s.PID)
	add(s.ExitCode != 0, "code=%d", s.ExitCode)
	add(s.OOMKilled, "oom")
	add(s.Error != "", "error=%s", s.Error)
	add(s.RestartCount != 0, "restarts=%d", s.RestartCount)
	add(s.Backoff != 0, "backoff=%s", s.Backoff)
	add(s.ManualStop, "manual-stop")
	add(s.NoRestart, "no-restart")
	add(s.KeepOnExit, "keep")
	add(s.Exits != 0, "exits=%d", s.Exits)
	if s.Health != nil {
		add(true, "health=%s/%d/%d", s.Health.Status, s.Health.FailingStreak, len(s.Health.Log))
	}
	return strings.Join(b, " ")
}

func showEffect(e Effect) string {
	switch e := e.(type) {
	case Emit:
		s := "event " + string(e.Action)
		for _, k := range []string{"exitCode", "execDuration", "signal"} {
			if v, ok := e.Attrs[k]; ok {
				s += " " + k + "=" + v
			}
		}
		return s
	case Schedule:
		return "restart after " + e.After.String()
	}
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", e), "container."))
}
