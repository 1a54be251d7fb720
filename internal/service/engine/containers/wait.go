package containers

import (
	"context"

	"github.com/moby/moby/api/types/container"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// Waiting is a wait that has begun: what happens after Wait answered is not missed.
type Waiting struct {
	h     *handle
	exits uint64
	cond  container.WaitCondition
}

// Wait begins to wait for a condition; empty is not-running.
func (s *Service) Wait(ref string, cond container.WaitCondition) (*Waiting, error) {
	switch cond {
	case "", container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return nil, fault.Invalid("invalid condition: %q", string(cond))
	}
	h, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	return &Waiting{h: h, exits: h.record().State.Exits, cond: cond}, nil
}

// Result blocks until the condition holds.
func (w *Waiting) Result(ctx context.Context) (*container.WaitResponse, error) {
	rec, gone, err := w.h.await(ctx, w.holds)
	if err != nil {
		return nil, err
	}
	if gone && w.cond != container.WaitConditionRemoved && rec.State.Exits == w.exits && rec.State.Live() {
		return nil, fault.NotFound("No such container: %s", w.h.id)
	}
	r := &container.WaitResponse{StatusCode: int64(rec.State.ExitCode)}
	if rec.State.Phase == core.Dead { // it could not be removed; a failed start is told to who asked for it
		r.Error = &container.WaitExitError{Message: rec.State.Error}
	}
	return r, nil
}

func (w *Waiting) holds(rec *core.Record) bool {
	switch w.cond {
	case container.WaitConditionNextExit:
		return rec.State.Exits != w.exits
	case container.WaitConditionRemoved:
		return false // the end of the handle answers
	}
	st := rec.State
	return st.Exits != w.exits || (!st.Active() && st.Phase != core.Starting)
}
