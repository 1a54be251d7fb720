// Package fault makes errors whose text is exactly what a client must read and whose class decides the status.
//
//	return fault.NotFound("No such container: %s", ref)
package fault

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
)

// ErrNotModified is the class for "it is already so": start of a running container, stop of a stopped one (304).
var ErrNotModified = errors.New("not modified")

type fault struct {
	text  string
	class error
	cause error
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() []error {
	if f.cause == nil {
		return []error{f.class}
	}
	return []error{f.class, f.cause}
}

// New makes an error with a class; a %w verb in the format keeps the cause.
func New(class error, format string, a ...any) error {
	err := fmt.Errorf(format, a...)
	return &fault{text: err.Error(), class: class, cause: errors.Unwrap(err)}
}

// NotFound is an error of class ErrNotFound (404).
func NotFound(format string, a ...any) error { return New(errdefs.ErrNotFound, format, a...) }

// Invalid is an error of class ErrInvalidArgument (400).
func Invalid(format string, a ...any) error { return New(errdefs.ErrInvalidArgument, format, a...) }

// Conflict is an error of class ErrConflict (409).
func Conflict(format string, a ...any) error { return New(errdefs.ErrConflict, format, a...) }

// Forbidden is an error of class ErrPermissionDenied (403).
func Forbidden(format string, a ...any) error { return New(errdefs.ErrPermissionDenied, format, a...) }

// Unauthorized is a caller who must first say, or prove, who it is.
func Unauthorized(format string, a ...any) error {
	return New(errdefs.ErrUnauthenticated, format, a...)
}

// Unavailable is an error of class ErrUnavailable (503).
func Unavailable(format string, a ...any) error { return New(errdefs.ErrUnavailable, format, a...) }

// NotImplemented is an error of class ErrNotImplemented (501).
func NotImplemented(format string, a ...any) error {
	return New(errdefs.ErrNotImplemented, format, a...)
}

// NotModified is an error of class ErrNotModified (304).
func NotModified(format string, a ...any) error { return New(ErrNotModified, format, a...) }

// Internal is an error of class ErrInternal (500).
func Internal(format string, a ...any) error { return New(errdefs.ErrInternal, format, a...) }
