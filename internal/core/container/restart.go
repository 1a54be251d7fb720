package container

import (
	"time"

	"github.com/moby/moby/api/types/container"
)

// Docker's back-off: the first restart by policy waits FirstBackoff, each further one twice as long up to MaxBackoff; a
// run of at least SteadyRun starts over.
const (
	FirstBackoff = 100 * time.Millisecond
	MaxBackoff   = time.Minute
	SteadyRun    = 10 * time.Second
)

// NextBackoff is the delay before the next restart, after a run of the given length and the last delay.
func NextBackoff(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= SteadyRun {
		return FirstBackoff
	}
	return min(2*last, MaxBackoff)
}

// ShouldRestart applies a restart policy to the end of a run.
func ShouldRestart(p container.RestartPolicy, s State, code int) bool {
	switch p.Name {
	case container.RestartPolicyAlways:
		return true
	case container.RestartPolicyUnlessStopped:
		return !s.ManualStop
	case container.RestartPolicyOnFailure:
		return code != 0 && (p.MaximumRetryCount == 0 || s.RestartCount < p.MaximumRetryCount)
	}
	return false
}

// StartsAtBoot tells whether the policy brings a container up when the daemon starts. A container that a user stopped
// comes back with "always" only; one that was never started does not come up.
func StartsAtBoot(p container.RestartPolicy, s State) bool {
	switch s.Phase {
	case Restarting:
		return true
	case Exited:
		return ShouldRestart(p, s, s.ExitCode) && (p.Name != container.RestartPolicyOnFailure || !s.ManualStop)
	}
	return false
}
