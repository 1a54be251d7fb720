package registryclient

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Passing tells whether a failure may be over when the same is tried again: the registry said "later" (408, 429, 5xx), or
// a connection broke that had been made. after is how long the registry asks to wait, 0 when it does not say.
func Passing(err error) (after time.Duration, ok bool) {
	var re *Error
	if errors.As(err, &re) {
		return re.After, later(re.Status)
	}
	if err == nil || errors.Is(err, context.Canceled) || Unreachable(err) {
		return 0, false
	}
	for _, broken := range []error{io.ErrUnexpectedEOF, io.EOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed, errStalled} {
		if errors.Is(err, broken) {
			return 0, true
		}
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return 0, true
	}
	// The standard library's HTTP/2 and the one broken pipe of its transport have no exported errors.
	text := err.Error()
	for _, s := range []string{"stream error: ", "http2: ", "connection reset by peer", "server closed idle connection", "connection lost", "unexpected EOF"} {
		if strings.Contains(text, s) {
			return 0, true
		}
	}
	return 0, false
}

// later tells the statuses that mean "not now".
func later(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= http.StatusInternalServerError
}

// Unreachable tells that no connection could be made: the host is not known or nobody listens there.
func Unreachable(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	var con contactError
	return errors.As(err, &dns) || errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") || errors.As(err, &con)
}

// contactError is a registry that did not answer the first question in time.
type contactError struct{ error }

// Unwrap gives the cause.
func (c contactError) Unwrap() error { return c.error }

// errStalled ends a download of which nothing comes any more.
var errStalled = errors.New("nothing was received for too long")

// retryAfter reads the header of that name (RFC 9110 section 10.2.3): seconds or a date; 0 when there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseInt(v, 10, 32); err == nil {
		return time.Duration(max(n, 0)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}
