package launch

import (
	"context"
	"log/slog"
	"time"
)

// stopwatch measures the pieces of a launch for the debug log; without that it does nothing.
type stopwatch struct {
	log  *slog.Logger
	last time.Time
	laps []slog.Attr
}

func newStopwatch(log *slog.Logger, id string) *stopwatch {
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return &stopwatch{}
	}
	return &stopwatch{log: log, last: time.Now(), laps: []slog.Attr{slog.String("container", id)}}
}

func (w *stopwatch) lap(name string) {
	if w.log == nil {
		return
	}
	now := time.Now()
	w.laps = append(w.laps, slog.Duration(name, now.Sub(w.last)))
	w.last = now
}

func (w *stopwatch) report(ctx context.Context) {
	if w.log != nil {
		w.log.LogAttrs(ctx, slog.LevelDebug, "launch prepared", w.laps...)
	}
}
