package cgroupfs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"longshore/internal/core/cgroup"
	"longshore/internal/core/fault"
)

// poll calls f at growing intervals (1 to 50 ms) until it is done or fails.
func poll(ctx context.Context, f func() (bool, error)) error {
	for wait := time.Millisecond; ; wait = min(wait*2, 50*time.Millisecond) {
		done, err := f()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// freezeLimit bounds the wait for the kernel; a process in uninterruptible sleep may hold it up.
const freezeLimit = 10 * time.Second

// awaitFrozen polls until a group is frozen; one that does not get there is thawed.
func awaitFrozen(ctx context.Context, name string, g cgroup.Group, frozen func() (bool, error)) error {
	limited, cancel := context.WithTimeout(ctx, freezeLimit)
	defer cancel()
	if err := poll(limited, frozen); err != nil {
		return errors.Join(fmt.Errorf("freeze cgroup %s: %w", name, err), g.Thaw(context.WithoutCancel(ctx)))
	}
	return nil
}

// Freeze stops every process of the group. The v1 freezer can hang half-way when processes fork meanwhile; thawing for a
// moment lets it begin anew. On failure the group is left thawed.
func (g *groupV1) Freeze(ctx context.Context) error {
	dir := g.dir("freezer")
	if dir == "" {
		return fault.Invalid("cgroup not configured for container: the freezer controller is not mounted")
	}
	tries := 0
	return awaitFrozen(ctx, g.path, g, func() (bool, error) {
		if tries++; tries%25 == 0 {
			if err := write(dir, "freezer.state", "THAWED"); err != nil {
				return false, err
			}
		}
		if err := write(dir, "freezer.state", "FROZEN"); err != nil {
			return false, err
		}
		state, err := read(dir, "freezer.state")
		return string(state) == "FROZEN", err
	})
}

// Thaw lets a frozen group go on.
func (g *groupV1) Thaw(context.Context) error {
	dir := g.dir("freezer")
	if dir == "" {
		return nil
	}
	return write(dir, "freezer.state", "THAWED")
}
