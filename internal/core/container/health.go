package container

import (
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
)

// MaxHealthLog is how many probe results are kept.
const MaxHealthLog = 5

// Probing is a health check with docker's defaults filled in.
type Probing struct {
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
}

// ProbingOf fills defaults: 30 s interval and timeout, no start period, 5 s start interval, 3 retries.
func ProbingOf(h *container.HealthConfig) Probing {
	or := func(d, def time.Duration) time.Duration {
		if d <= 0 {
			return def
		}
		return d
	}
	p := Probing{
		Interval:      or(h.Interval, 30*time.Second),
		Timeout:       or(h.Timeout, 30*time.Second),
		StartPeriod:   or(h.StartPeriod, 0),
		StartInterval: or(h.StartInterval, 5*time.Second),
		Retries:       h.Retries,
	}
	if p.Retries <= 0 {
		p.Retries = 3
	}
	return p
}

// Grace tells whether failures do not count yet, at a time that is age after the start. A negative age, which a clock that was set back
// gives, is no grace: it would last until the clock is where it was.
func (p Probing) Grace(age time.Duration) bool { return age >= 0 && age < p.StartPeriod }

// Wait is the time until the next probe, at a time that is age after the start.
func (p Probing) Wait(status container.HealthStatus, age time.Duration) time.Duration {
	if status == container.Starting && p.Grace(age) {
		return p.StartInterval
	}
	return p.Interval
}

func probed(s State, in Probed) (State, []Effect, error) {
	if s.Health == nil || !s.Live() {
		return s, nil, nil
	}
	old := s.Health
	h := &container.Health{Status: old.Status, FailingStreak: old.FailingStreak}
	first := max(0, len(old.Log)+1-MaxHealthLog)
	h.Log = append(append(make([]*container.HealthcheckResult, 0, MaxHealthLog), old.Log[first:]...), &in.Result)
	if in.Result.ExitCode == 0 {
		h.Status, h.FailingStreak = container.Healthy, 0
	} else if !in.Grace || old.Status != container.Starting {
		h.FailingStreak++
		if h.FailingStreak >= in.Retries {
			h.Status = container.Unhealthy
		}
	}
	s.Health = h
	if h.Status == old.Status {
		return s, nil, nil
	}
	action := events.ActionHealthStatusHealthy
	if h.Status == container.Unhealthy {
		action = events.ActionHealthStatusUnhealthy
	}
	return s, []Effect{Emit{Action: action}}, nil
}

// unchecked is the health of a container that ended: docker shows the last state as unhealthy once it stops probing.
func unchecked(h *container.Health) *container.Health {
	if h == nil {
		return nil
	}
	return &container.Health{Status: container.Unhealthy, FailingStreak: h.FailingStreak, Log: h.Log}
}

// ProbeCommand is what a check runs: CMD as it stands, CMD-SHELL by the container's shell.
func ProbeCommand(cfg *container.Config) []string {
	test := cfg.Healthcheck.Test
	if test[0] != "CMD-SHELL" {
		return test[1:]
	}
	shell := cfg.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(append([]string(nil), shell...), test[1:]...)
}
