package registryapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/distribution"
	"longshore/internal/server/httperr"
	"longshore/internal/service/auth"
)

// errorBody is the specification's "Error Codes".
type errorBody struct {
	Errors []errorEntry `json:"errors"`
}

type errorEntry struct {
	Code    distribution.Code `json:"code"`
	Message string            `json:"message"`
	Detail  any               `json:"detail,omitempty"`
}

// writeError is the one place where errors become answers. cut says that the answer had begun, so that the client can
// only be told by a broken connection.
func (s *Server) writeError(x *exchange, err error) (cut bool) {
	if x.status != 0 {
		level := slog.LevelWarn
		if gone(x, err) {
			level = slog.LevelDebug
		}
		s.log.Log(context.WithoutCancel(x.r.Context()), level, "answer cut off", "path", x.r.URL.Path, "error", err)
		return true
	}
	if gone(x, err) {
		x.status = 499
		return true
	}
	status, entry := describe(err)
	switch status {
	case http.StatusUnauthorized:
		s.challenge(x, err)
	case http.StatusTooManyRequests:
		x.header("Retry-After", "1")
	case http.StatusInternalServerError:
		s.log.Error("request failed", "method", x.r.Method, "path", x.r.URL.Path, "error", cause(err))
	}
	body, jsonErr := json.Marshal(errorBody{[]errorEntry{entry}})
	if jsonErr != nil {
		body = []byte(`{"errors":[{"code":"UNKNOWN","message":"unreadable error"}]}`)
	}
	x.header("Content-Type", "application/json")
	x.header("Content-Length", strconv.Itoa(len(body)))
	x.header("X-Content-Type-Options", "nosniff")
	x.version()
	x.WriteHeader(status)
	_, _ = x.Write(body) // a client that has gone needs no answer
	return false
}

// gone says that an error is the client's going away.
func gone(x *exchange, err error) bool {
	return errors.Is(err, context.Canceled) && x.r.Context().Err() != nil ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// describe finds status and words for an error.
func describe(err error) (int, errorEntry) {
	var e *distribution.Error
	if errors.As(err, &e) {
		return httperr.Status(err), errorEntry{e.Code, e.Message, e.Detail}
	}
	var refused *auth.Refused
	var narrow *auth.InsufficientScope
	switch {
	case errors.As(err, &narrow) && narrow.Named:
		// The challenge goes with it: another token may do.
		return http.StatusUnauthorized, errorEntry{Code: distribution.CodeDenied, Message: "requested access to the resource is denied"}
	case errors.Is(err, errdefs.ErrUnauthenticated):
		return http.StatusUnauthorized, errorEntry{Code: distribution.CodeUnauthorized, Message: "authentication required"}
	case errors.As(err, &refused):
		entry := errorEntry{Code: distribution.CodeDenied, Message: "requested access to the resource is denied"}
		if refused.Reason != "" {
			entry.Detail = map[string]string{"reason": refused.Reason}
		}
		return http.StatusForbidden, entry
	case brokenBody(err):
		return http.StatusBadRequest, errorEntry{Code: distribution.CodeSizeInvalid, Message: "the body ended before its announced length"}
	}
	status := httperr.Status(err)
	if status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable {
		return status, errorEntry{Code: distribution.CodeUnknown, Message: "internal error"}
	}
	return status, errorEntry{Code: codeOf(status), Message: err.Error()}
}

// cause is what the log is told where the client is told nothing.
func cause(err error) error {
	var e *distribution.Error
	if errors.As(err, &e) && e.Class != nil {
		return e.Class
	}
	return err
}

// brokenBody says that reading the request failed, which is the client's doing.
func brokenBody(err error) bool {
	var timeout net.Error
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &timeout) && timeout.Timeout() && !errors.Is(err, context.DeadlineExceeded)
}

// codeOf is the specification's code for errors that have only a class.
func codeOf(status int) distribution.Code {
	switch status {
	case http.StatusUnauthorized:
		return distribution.CodeUnauthorized
	case http.StatusForbidden:
		return distribution.CodeDenied
	case http.StatusTooManyRequests:
		return distribution.CodeTooManyRequests
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return distribution.CodeUnsupported
	}
	return distribution.CodeUnknown
}

func errNotFound(path string) error {
	return &distribution.Error{Code: distribution.CodeNameUnknown, Class: errdefs.ErrNotFound,
		Message: "there is nothing under this path", Detail: map[string]string{"path": clip(path)}}
}

func (s *Server) methodNotAllowed(x *exchange, op *operation) error {
	x.header("Allow", op.methods())
	return distribution.NewError(distribution.CodeUnsupported, distribution.ErrMethod, "the operation is unsupported")
}

// version is the header by which old clients know the API.
func (x *exchange) version() { x.header("Docker-Distribution-Api-Version", "registry/2.0") }

// wait lets a failed login wait for its answer, or until the client has gone.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// clip keeps hostile names from filling an answer or a log.
func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}
