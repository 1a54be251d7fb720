package request

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

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
