package cgroupfs

import (
	"context"
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/cgroup"
)

// apply writes the given limits of the group with that name; a nil one is left as it is.
func apply(name string, r *specs.LinuxResources, steps ...func(*specs.LinuxResources) error) error {
	if r == nil {
		return nil
	}
	for _, step := range steps {
		if err := step(r); err != nil {
			return fmt.Errorf("cgroup %s: %w", name, err)
		}
	}
	return nil
}

// begin sets the limits and device rules of a group that was just made; one that cannot have them is removed again. Device
// rules are set here only: an update of limits must not shut out devices that were added while the container runs.
func begin(ctx context.Context, name string, g limited, r *specs.LinuxResources) (cgroup.Group, error) {
	err := g.Update(ctx, r)
	if err == nil {
		err = apply(name, r, g.setDevices)
	}
	if err != nil {
		return nil, errors.Join(err, g.Remove(context.WithoutCancel(ctx)))
	}
	return g, nil
}

// limited is a group of either version.
type limited interface {
	cgroup.Group
	setDevices(r *specs.LinuxResources) error
}
