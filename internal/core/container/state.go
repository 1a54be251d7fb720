package container

import (
	"time"

	"github.com/moby/moby/api/types/container"
)

// Phase is where a container stands in its life.
type Phase string

// The phases. Starting is written down before the shim is spawned, so that a daemon that dies in between looks for one.
const (
	Created    Phase = "created"
	Starting   Phase = "starting"
	Running    Phase = "running"
	Paused     Phase = "paused"
	Restarting Phase = "restarting"
	Exited     Phase = "exited"
	Removing   Phase = "removing"
	Dead       Phase = "dead"
)

// State is a container's state. It is a value; Health is replaced, never changed in place.
type State struct {
	Phase     Phase
	PID       int
	ExitCode  int
	OOMKilled bool
	Error     string
	// StartedAt and FinishedAt are zero before the first start and end.
	StartedAt, FinishedAt time.Time
	// RestartCount counts the restarts by policy since the last start by a user.
	RestartCount int
	// Backoff is the last delay before a restart by policy.
	Backoff time.Duration
	// ManualStop is set by stop and kill and cleared by start: unless-stopped does not bring the container back.
	ManualStop bool
	// NoRestart suppresses the policy for the coming exit.
	NoRestart bool
	// KeepOnExit suppresses auto-remove for the coming exit: a user's restart is under way.
	KeepOnExit bool
	// Exits counts the ends of runs, so that waiters recognise the next one.
	Exits uint64
	// Health is nil without a health check.
	Health *container.Health
	// Before is the phase to fall back to when a start fails.
	Before Phase
}

// Live tells whether a process runs (paused or not).
func (s State) Live() bool { return s.Phase == Running || s.Phase == Paused }

// Active tells what docker calls running: live, or waiting for a restart.
func (s State) Active() bool { return s.Live() || s.Phase == Restarting }

// View is the state as inspect shows it.
func (s State) View() *container.State {
	return &container.State{
		Status:     s.Status(),
		Running:    s.Active(),
		Paused:     s.Phase == Paused,
		Restarting: s.Phase == Restarting,
		OOMKilled:  s.OOMKilled,
		Dead:       s.Phase == Dead,
		Pid:        s.PID,
		ExitCode:   s.ExitCode,
		Error:      s.Error,
		StartedAt:  s.StartedAt.UTC().Format(time.RFC3339Nano),
		FinishedAt: s.FinishedAt.UTC().Format(time.RFC3339Nano),
		Health:     s.Health,
	}
}

// Status is docker's word for the phase. Starting shows as what was before.
func (s State) Status() container.ContainerState {
	p := s.Phase
	if p == Starting {
		p = s.Before
	}
	switch p {
	case Running:
		return container.StateRunning
	case Paused:
		return container.StatePaused
	case Restarting:
		return container.StateRestarting
	case Removing:
		return container.StateRemoving
	case Exited:
		return container.StateExited
	case Dead:
		return container.StateDead
	}
	return container.StateCreated
}
