package container

import (
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"longshore/internal/core/fault"
)

// Input is something that happens to a container.
type Input interface{ input() }

// The inputs. Times come from outside: this package reads no clock.
type (
	// StartAsked is a user's start.
	StartAsked struct{}
	// RestartDue is the end of a back-off, or (Boot) a start by policy when the daemon comes up.
	RestartDue struct{ Boot bool }
	// Started reports a successful launch.
	Started struct {
		PID int
		At  time.Time
	}
	// StartFailed reports a launch that did not come up.
	StartFailed struct {
		Code  int
		Error string
		At    time.Time
	}
	// Ended reports the end of a run.
	Ended struct {
		Code      int
		OOMKilled bool
		Error     string
		At        time.Time
		// Shutdown: the daemon is going down; the policy applies at the next start of the daemon.
		Shutdown bool
	}
	// Stopping precedes the signals of a user's stop or restart.
	Stopping struct {
		// Restart: the container comes back, so auto-remove must not take it.
		Restart bool
	}
	// Killing precedes a user's signal. Fatal: the policy must not bring the container back.
	Killing struct {
		Signal int
		Fatal  bool
	}
	// Frozen and Thawed report pause and unpause.
	Frozen struct{}
	// Thawed reports unpause.
	Thawed struct{}
	// RemoveAsked marks the container for removal.
	RemoveAsked struct{}
	// RemoveFailed reports what prevented removal.
	RemoveFailed struct{ Error string }
	// Probed reports a health probe.
	Probed struct {
		Result  container.HealthcheckResult
		Retries int
		// Grace: the probe ran within the start period.
		Grace bool
	}
)

func (StartAsked) input()   {}
func (RestartDue) input()   {}
func (Started) input()      {}
func (StartFailed) input()  {}
func (Ended) input()        {}
func (Stopping) input()     {}
func (Killing) input()      {}
func (Frozen) input()       {}
func (Thawed) input()       {}
func (RemoveAsked) input()  {}
func (RemoveFailed) input() {}
func (Probed) input()       {}

// Effect is something to do after the record has been stored, in order.
type Effect interface{ effect() }

// The effects.
type (
	// Launch starts a run; its outcome comes back as Started or StartFailed.
	Launch struct{}
	// Emit publishes an event with these attributes besides the container's own.
	Emit struct {
		Action events.Action
		Attrs  map[string]string
	}
	// Release gives back what the run held: names, ports, mounts, run directory. Destroy includes it.
	Release struct{}
	// Schedule asks for RestartDue after the delay.
	Schedule struct{ After time.Duration }
	// Unschedule cancels a scheduled restart.
	Unschedule struct{}
	// Probe starts the health checks, StopProbe ends them.
	Probe struct{}
	// StopProbe ends the health checks.
	StopProbe struct{}
	// Destroy removes the container with its anonymous volumes (auto-remove).
	Destroy struct{}
)

func (Launch) effect()     {}
func (Emit) effect()       {}
func (Release) effect()    {}
func (Schedule) effect()   {}
func (Unschedule) effect() {}
func (Probe) effect()      {}
func (StopProbe) effect()  {}
func (Destroy) effect()    {}

// Step is the life cycle. It answers an error, with the state unchanged, when the input does not fit the state; the
// errors carry docker's class but not the container's name, which the caller adds.
func Step(spec Spec, s State, in Input) (State, []Effect, error) {
	switch in := in.(type) {
	case StartAsked:
		return startAsked(s)
	case RestartDue:
		return restartDue(s, in)
	case Started:
		return started(spec, s, in)
	case StartFailed:
		return startFailed(spec, s, in)
	case Ended:
		return ended(spec, s, in)
	case Stopping:
		return stopping(s, in)
	case Killing:
		return killing(s, in)
	case Frozen:
		return frozen(s)
	case Thawed:
		return thawed(s)
	case RemoveAsked:
		return removeAsked(s)
	case RemoveFailed:
		s.Phase, s.Error = Dead, in.Error
		return s, nil, nil
	case Probed:
		return probed(s, in)
	}
	return s, nil, fault.Internal("unknown input %T", in)
}

func startAsked(s State) (State, []Effect, error) {
	switch s.Phase {
	case Running, Starting:
		return s, nil, fault.NotModified("container is already running")
	case Paused:
		return s, nil, fault.Conflict("cannot start a paused container, try unpause instead")
	case Removing:
		return s, nil, fault.Conflict("container is marked for removal and cannot be started")
	case Dead:
		return s, nil, fault.Conflict("container is marked for removal and cannot be started")
	}
	effects := []Effect{Launch{}}
	if s.Phase == Restarting {
		effects = []Effect{Unschedule{}, Launch{}}
	}
	s.RestartCount, s.Backoff = 0, 0
	return launching(s), effects, nil
}

func restartDue(s State, in RestartDue) (State, []Effect, error) {
	if s.Phase == Restarting || (in.Boot && s.Phase == Exited) {
		return launching(s), []Effect{Launch{}}, nil
	}
	return s, nil, fault.NotModified("container is not waiting for a restart")
}

func launching(s State) State {
	s.Before, s.Phase = s.Phase, Starting
	s.ManualStop, s.NoRestart, s.KeepOnExit = false, false, false
	return s
}

func started(spec Spec, s State, in Started) (State, []Effect, error) {
	s.Phase, s.Before = Running, ""
	s.PID, s.StartedAt = in.PID, in.At
	s.ExitCode, s.Error, s.OOMKilled = 0, "", false
	effects := []Effect{Emit{Action: events.ActionStart}}
	s.Health = nil
	if spec.Health {
		s.Health = &container.Health{Status: container.Starting, Log: []*container.HealthcheckResult{}}
		effects = append(effects, Probe{})
	}
	return s, effects, nil
}

func startFailed(spec Spec, s State, in StartFailed) (State, []Effect, error) {
	byPolicy := s.Before == Restarting
	s.Phase, s.Before = s.Before, ""
	if byPolicy {
		s.Phase, s.FinishedAt = Exited, in.At
	}
	s.PID, s.ExitCode, s.Error = 0, in.Code, in.Error
	s.Exits++
	if spec.AutoRemove {
		return s, []Effect{Destroy{}}, nil
	}
	return s, []Effect{Release{}}, nil
}

func ended(spec Spec, s State, in Ended) (State, []Effect, error) {
	if !s.Live() && s.Phase != Starting {
		return s, nil, fault.NotModified("container is not running")
	}
	ran := max(in.At.Sub(s.StartedAt), 0)
	s.PID, s.ExitCode, s.OOMKilled, s.Error = 0, in.Code, in.OOMKilled, in.Error
	s.FinishedAt, s.Before = in.At, ""
	s.Exits++
	var effects []Effect
	if spec.Health {
		effects = append(effects, StopProbe{})
		s.Health = unchecked(s.Health)
	}
	if in.OOMKilled {
		effects = append(effects, Emit{Action: events.ActionOOM})
	}
	effects = append(effects, Emit{Action: events.ActionDie, Attrs: map[string]string{
		"exitCode":     strconv.Itoa(in.Code),
		"execDuration": strconv.Itoa(int(ran.Seconds())),
	}})
	keep := s.KeepOnExit
	again := !in.Shutdown && !s.NoRestart && ShouldRestart(spec.Policy, s, in.Code)
	s.NoRestart, s.KeepOnExit = false, false
	if again {
		s.Phase = Restarting
		s.RestartCount++
		s.Backoff = NextBackoff(s.Backoff, ran)
		return s, append(effects, Release{}, Schedule{After: s.Backoff}), nil
	}
	s.Phase = Exited
	if spec.AutoRemove && !keep && !in.Shutdown {
		return s, append(effects, Destroy{}), nil
	}
	return s, append(effects, Release{}), nil
}

func stopping(s State, in Stopping) (State, []Effect, error) {
	switch {
	case s.Live():
		s.ManualStop, s.NoRestart, s.KeepOnExit = !in.Restart, true, in.Restart
		return s, nil, nil
	case s.Phase == Restarting:
		s.Phase, s.ManualStop = Exited, !in.Restart
		return s, []Effect{Unschedule{}}, nil
	}
	return s, nil, fault.NotModified("container is already stopped")
}

func killing(s State, in Killing) (State, []Effect, error) {
	kill := Emit{Action: events.ActionKill, Attrs: map[string]string{"signal": strconv.Itoa(in.Signal)}}
	switch {
	case s.Live():
		s.ManualStop, s.NoRestart = true, in.Fatal
		return s, []Effect{kill}, nil
	case s.Phase == Restarting && in.Fatal:
		s.Phase, s.ManualStop = Exited, true
		return s, []Effect{Unschedule{}, kill}, nil
	}
	return s, nil, fault.Conflict("is not running")
}

func frozen(s State) (State, []Effect, error) {
	switch s.Phase {
	case Running:
		s.Phase = Paused
		return s, []Effect{Emit{Action: events.ActionPause}}, nil
	case Paused:
		return s, nil, fault.Conflict("is already paused")
	case Restarting:
		return s, nil, fault.Conflict("is restarting, wait until the container is running")
	}
	return s, nil, fault.Conflict("is not running")
}

func thawed(s State) (State, []Effect, error) {
	if s.Phase != Paused {
		return s, nil, fault.Conflict("is not paused")
	}
	s.Phase = Running
	return s, []Effect{Emit{Action: events.ActionUnPause}}, nil
}

func removeAsked(s State) (State, []Effect, error) {
	switch s.Phase {
	case Running, Paused, Starting:
		return s, nil, fault.Conflict("container is running")
	case Removing:
		return s, nil, fault.Conflict("removal of container is already in progress")
	}
	var effects []Effect
	if s.Phase == Restarting {
		effects = append(effects, Unschedule{})
	}
	s.Phase = Removing
	return s, effects, nil
}
