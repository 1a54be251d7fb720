package request

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// About puts the container before the words of a refused step.
func About(err error, format, name string) error {
	if err == nil || errors.Is(err, fault.ErrNotModified) || errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	if errors.Is(err, errdefs.ErrConflict) {
		return fault.Conflict("%s%w", fmt.Sprintf(format, name), err)
	}
	return err
}

// ClassOf keeps an error's class under a new text.
func ClassOf(err error) error {
	for _, c := range []error{errdefs.ErrNotFound, errdefs.ErrInvalidArgument, errdefs.ErrConflict} {
		if errors.Is(err, c) {
			return c
		}
	}
	return errdefs.ErrInternal
}

// CannotRemove is docker's refusal to remove a container that is alive.
func CannotRemove(rec *core.Record) error {
	how := "stop the container before removing or force remove"
	if rec.State.Phase == core.Paused {
		how = "unpause and then " + how
	}
	return fault.Conflict("cannot remove container %q: container is %s: %s", "/"+rec.Name, rec.State.Status(), how)
}

// TakesExec refuses execs in containers that cannot take one.
func TakesExec(rec *core.Record) error {
	switch rec.State.Phase {
	case core.Running:
		return nil
	case core.Paused:
		return fault.Conflict("container %s is paused, unpause the container before exec", rec.Name)
	case core.Restarting:
		return fault.Conflict("container %s is restarting, wait until the container is running", rec.ID)
	}
	return fault.Conflict("container %s is not running", rec.ID)
}
