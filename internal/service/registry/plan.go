package registry

import (
	"time"

	"longshore/internal/core/retention"
)

// plan is a GCConfig, settled and compiled.
type plan struct {
	GCConfig
	window    window
	retention *retention.Engine
}

// Reschedule puts another schedule and other retention rules in force while the service works; a collection that runs
// goes on by the old ones. When it errs, the old ones stay.
func (s *Service) Reschedule(gc GCConfig) error {
	if gc.Delay <= 0 {
		gc.Delay = time.Hour
	}
	if gc.Interval <= 0 {
		gc.Interval = time.Hour
	}
	w, err := parseWindow(gc.Window)
	if err != nil {
		return err
	}
	keep, err := retention.New(gc.Retention)
	if err != nil {
		return err
	}
	s.plan.Store(&plan{GCConfig: gc, window: w, retention: keep})
	select {
	case s.replanned <- struct{}{}:
	default: // Run has yet to look
	}
	return nil
}
