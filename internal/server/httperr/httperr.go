// Package httperr maps error classes to HTTP: the single table for the engine API and for the registry API.
package httperr

import (
	"context"
	"errors"
	"net/http"

	"github.com/containerd/errdefs"

	"longshore/internal/core/fault"
)

// Status is the HTTP status for an error's class. Unknown classes are 500.
func Status(err error) int {
	var s interface{ HTTPStatus() int }
	if errors.As(err, &s) {
		return s.HTTPStatus()
	}
	for _, row := range table {
		if errors.Is(err, row.class) {
			return row.status
		}
	}
	return http.StatusInternalServerError
}

// The order matters only for errors that carry two classes: the more telling one stands first.
var table = []struct {
	class  error
	status int
}{
	{fault.ErrNotModified, http.StatusNotModified},
	{errdefs.ErrNotFound, http.StatusNotFound},
	{errdefs.ErrInvalidArgument, http.StatusBadRequest},
	{errdefs.ErrConflict, http.StatusConflict},
	{errdefs.ErrAlreadyExists, http.StatusConflict},
	{errdefs.ErrUnauthenticated, http.StatusUnauthorized},
	{errdefs.ErrPermissionDenied, http.StatusForbidden},
	{errdefs.ErrResourceExhausted, http.StatusTooManyRequests},
	{errdefs.ErrNotImplemented, http.StatusNotImplemented},
	{errdefs.ErrUnavailable, http.StatusServiceUnavailable},
	{errdefs.ErrFailedPrecondition, http.StatusBadRequest},
	{errdefs.ErrOutOfRange, http.StatusBadRequest},
	{errdefs.ErrAborted, http.StatusConflict},
	{errdefs.ErrDataLoss, http.StatusInternalServerError},
	{errdefs.ErrInternal, http.StatusInternalServerError},
	{errdefs.ErrUnknown, http.StatusInternalServerError},
	{context.Canceled, 499},
	{context.DeadlineExceeded, http.StatusGatewayTimeout},
}
