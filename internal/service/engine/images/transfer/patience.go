package transfer

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"longshore/internal/driver/registryclient"
)

const (
	// uploadAttempts is how often the sending of one thing is tried, as by dockerd.
	uploadAttempts = 5
	// firstPause is about how long the first repetition waits; each further one waits twice as long.
	firstPause = time.Second
	// longestPause bounds a pause, and what a registry may ask for.
	longestPause = 30 * time.Second
	// advance is how many bytes must come for attempts to be counted anew: a line that breaks every now and then does
	// not end a download that gets ahead.
	advance = 16 << 20
)

// patience is how often something is tried.
type patience struct {
	attempts int
	// tell says before each pause, and each second of it, how long is left; nil: nobody is told.
	tell func(seconds int) error
	// log takes a line for each failure that is not the end; nil: none.
	log *slog.Logger
	// unreachable tells that a host where nothing answers is worth waiting for: it has answered before.
	unreachable bool
}

// try calls do until it succeeds, fails for good, or has failed too often. do tells how many bytes it got ahead.
func (p patience) try(ctx context.Context, do func() (int64, error)) error {
	failed, ahead := 0, int64(0)
	for {
		n, err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if ahead += n; ahead >= advance && p.attempts > 1 {
			failed, ahead = 0, 0
		}
		after, passing := registryclient.Passing(err)
		passing = passing || p.unreachable && registryclient.Unreachable(err)
		if failed++; !passing || failed >= p.attempts {
			return err
		}
		wait := pauseAfter(failed, after, rand.Float64()) //nolint:gosec // nothing is kept secret by it
		if p.log != nil {
			p.log.Info("transfer failed and is tried again", "attempt", failed, "of", p.attempts, "pause", wait, "error", err)
		}
		if err := p.pause(ctx, wait); err != nil {
			return err
		}
	}
}

// pauseAfter is how long to wait after that many failures: longer each time, never all clients at once, and at least as
// long as the registry asks for, within reason. chance is between 0 and 1.
func pauseAfter(failures int, asked time.Duration, chance float64) time.Duration {
	d := longestPause
	if failures < 6 {
		d = firstPause << (failures - 1)
	}
	d = d/2 + time.Duration(chance*float64(d/2))
	return min(max(d, asked), longestPause)
}

// pause waits, and counts the seconds down.
func (p patience) pause(ctx context.Context, d time.Duration) error {
	for d > 0 {
		if p.tell != nil {
			if err := p.tell(int((d + time.Second - 1) / time.Second)); err != nil {
				return err
			}
		}
		step := d % time.Second
		if step == 0 {
			step = time.Second
		}
		t := time.NewTimer(step)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		d -= step
	}
	return nil
}

// retrying is docker's line for a pause.
func retrying(emit Emit, id string) func(int) error {
	if emit == nil {
		return nil
	}
	return func(seconds int) error {
		s := "s"
		if seconds == 1 {
			s = ""
		}
		return emit(State(id, fmt.Sprintf("Retrying in %d second%s", seconds, s)))
	}
}
