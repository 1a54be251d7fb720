package classic

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"longshore/internal/core/build"
	"longshore/internal/service/build/dockerfile"
)

// Error is a failed build in the classic builder's words.
type Error struct {
	Message string
	// Code is the exit code of the step's process; 0 when none ran.
	Code int
	err  error
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the builder's error.
func (e *Error) Unwrap() error { return e.err }

// ExitCode is told to the client beside the message.
func (e *Error) ExitCode() int { return e.Code }

// failure tells what the failed step had said and finds words for its error.
func (s *Service) failure(err error, plan *dockerfile.Plan, stream *Stream) error {
	var failed *build.StepError
	if !errors.As(err, &failed) {
		return err
	}
	if terr := stream.Fail(failed.Vertex, failed.Line); terr != nil {
		return terr
	}
	e := &Error{Message: failed.Error(), Code: failed.ExitCode, err: err}
	switch text := instruction(plan, failed.Line); {
	case failed.ExitCode != 0 && len(failed.Command) > 0:
		e.Message = fmt.Sprintf("The command '%s' returned a non-zero code: %d", strings.Join(failed.Command, " "), failed.ExitCode)
	case text == "COPY" || text == "ADD":
		e.Message = missing(text, e.Message)
	}
	return e
}

// instruction is the name of what stands on a line.
func instruction(plan *dockerfile.Plan, line int) string {
	for _, stage := range plan.Stages {
		for _, st := range stage.Steps {
			if st.Line == line && line > 0 {
				name, _, _ := strings.Cut(st.Text, " ")
				return strings.ToUpper(name)
			}
		}
	}
	return ""
}

var notFound = regexp.MustCompile(`"/?([^"]+)": not found$`)

// missing says of a file that is not there what the classic builder said.
func missing(instruction, message string) string {
	if m := notFound.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("%s failed: file not found in build context or excluded by .dockerignore: stat %s: file does not exist", instruction, m[1])
	}
	return fmt.Sprintf("%s failed: %s", instruction, message)
}
