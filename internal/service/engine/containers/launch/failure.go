package launch

import (
	"errors"

	"longshore/internal/core/fault"
	"longshore/internal/core/runtime"
)

// ExitCode is docker's exit code of a container that did not start.
func ExitCode(err error) int {
	var se *runtime.StartError
	if errors.As(err, &se) && se.Code != 0 {
		return se.Code
	}
	return 128
}

// Fault gives a failed start docker's class: what the user can mend is invalid, the rest is internal.
func Fault(err error) error {
	var se *runtime.StartError
	if !errors.As(err, &se) {
		return err
	}
	if se.Code == 126 || se.Code == 127 {
		return fault.Invalid("%w", err)
	}
	return fault.Internal("%w", err)
}
