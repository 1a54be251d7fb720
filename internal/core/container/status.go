package container

import (
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
)

// Sentence is the state as the STATUS column of docker ps shows it.
func (s State) Sentence(now time.Time) string {
	if s.Phase == Starting {
		s.Phase = s.Before
	}
	switch s.Phase {
	case Running:
		up := "Up " + units.HumanDuration(now.Sub(s.StartedAt))
		if h := healthWord(s.Health); h != "" {
			up += " (" + h + ")"
		}
		return up
	case Paused:
		return fmt.Sprintf("Up %s (Paused)", units.HumanDuration(now.Sub(s.StartedAt)))
	case Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, units.HumanDuration(now.Sub(s.FinishedAt)))
	case Removing:
		return "Removal In Progress"
	case Dead:
		return "Dead"
	}
	if s.StartedAt.IsZero() || s.FinishedAt.IsZero() {
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, units.HumanDuration(now.Sub(s.FinishedAt)))
}

func healthWord(h *container.Health) string {
	switch {
	case h == nil:
		return ""
	case h.Status == container.Starting:
		return "health: starting"
	}
	return string(h.Status)
}

// HealthSummary is the health as a list shows it.
func (s State) HealthSummary() *container.HealthSummary {
	if s.Health == nil {
		return &container.HealthSummary{Status: container.NoHealthcheck}
	}
	return &container.HealthSummary{Status: s.Health.Status, FailingStreak: s.Health.FailingStreak}
}
