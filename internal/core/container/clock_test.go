package container

import (
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
)

// TestClockJumps: what is decided by the wall clock, which a restart of the daemon leaves nothing else of, stays bounded when the clock is set.
func TestClockJumps(t *testing.T) {
	p := ProbingOf(&container.HealthConfig{
		Test: []string{"CMD", "true"}, Interval: 30 * time.Second, StartPeriod: time.Minute, StartInterval: 5 * time.Second,
	})
	for _, c := range []struct {
		what  string
		age   time.Duration
		grace bool
		wait  time.Duration
	}{
		{"no jump", 10 * time.Second, true, 5 * time.Second},
		{"no jump, later", 2 * time.Minute, false, 30 * time.Second},
		{"a year back", -365 * 24 * time.Hour, false, 30 * time.Second},
		{"a year ahead", 365 * 24 * time.Hour, false, 30 * time.Second},
	} {
		if g, w := p.Grace(c.age), p.Wait(container.Starting, c.age); g != c.grace || w != c.wait {
			t.Errorf("%s: grace %v, wait %v", c.what, g, w)
		}
	}
	start := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for what, end := range map[string]time.Time{"back": start.Add(-1000 * time.Hour), "ahead": start.Add(1000 * time.Hour), "none": start.Add(time.Second)} {
		s := State{Phase: Running, StartedAt: start, Backoff: 10 * time.Second}
		spec := Spec{Policy: container.RestartPolicy{Name: container.RestartPolicyAlways}}
		next, effects, err := Step(spec, s, Ended{Code: 1, At: end})
		if err != nil {
			t.Fatal(err)
		}
		if next.Backoff < FirstBackoff || next.Backoff > MaxBackoff {
			t.Errorf("%s: back-off %v", what, next.Backoff)
		}
		for _, e := range effects {
			if sch, ok := e.(Schedule); ok && (sch.After < FirstBackoff || sch.After > MaxBackoff) {
				t.Errorf("%s: restart after %v", what, sch.After)
			}
		}
	}
}
