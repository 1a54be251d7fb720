package registryapi

import (
	"io"
	"net/http"
	"time"

	"longshore/internal/core/condition"
	"longshore/internal/core/distribution"
	"longshore/internal/server/stream"
	"longshore/internal/service/auth"
)

// exchange is one request and its answer. It is reused after the answer: nothing may keep it.
type exchange struct {
	http.ResponseWriter
	r     *http.Request
	set   *settings
	start time.Time
	target
	repo distribution.RepoName // of targets with a name, after the check
	who  *auth.Subject
	told string // who asks, by a mounted handler

	status int
	sent   int64
	in     *stream.Body // the body, once it is read
}

// WriteHeader notes the status.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write counts bytes.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(p)
	x.sent += int64(n)
	return n, err
}

// ReadFrom lets the connection take files by itself (sendfile).
func (x *exchange) ReadFrom(src io.Reader) (int64, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := io.Copy(x.ResponseWriter, src)
	x.sent += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// header sets one value without parsing the name, which must be in canonical form.
func (x *exchange) header(name, value string) { x.Header()[name] = []string{value} }

// repoLabel is the repository's name for statistics: only names that were found good, so that nobody fills memory with
// names that do not exist.
func (x *exchange) repoLabel() string {
	if x.status >= http.StatusBadRequest {
		return ""
	}
	return string(x.repo)
}

// facts are what conditions of access policies may ask.
func (x *exchange) facts() *condition.Facts {
	f := &condition.Facts{
		Time: x.start, Method: x.r.Method, UserAgent: x.r.UserAgent(), ClientIP: host(x.r.RemoteAddr),
		ForwardedFor: list(x.r.Header.Values("X-Forwarded-For")),
	}
	if x.r.TLS != nil {
		f.TLSVersion = tlsVersion(x.r.TLS.Version)
	}
	return f
}

// Limits of patience.
const (
	// piece is how much is sent under one deadline, and pieceTime that deadline: slower clients are cut off.
	piece     = 8 << 20
	pieceTime = 10 * time.Minute
)

// body is the request's body, cut off when the client stalls.
func (x *exchange) body() io.Reader {
	x.in = stream.NewBody(x.ResponseWriter, x.r.Body)
	return x.in
}

// received is the number of bytes that were read.
func (x *exchange) received() int64 {
	if x.in == nil {
		return 0
	}
	return x.in.Received()
}

// send writes n bytes of src piece by piece, so that a client that takes nothing is cut off, and one that is merely slow
// is not.
func (x *exchange) send(src io.Reader, n int64) error {
	control := http.NewResponseController(x.ResponseWriter)
	for n > 0 {
		_ = control.SetWriteDeadline(time.Now().Add(pieceTime))
		m, err := x.ReadFrom(&io.LimitedReader{R: src, N: min(n, piece)})
		if err != nil {
			return err
		}
		if m == 0 {
			return io.ErrUnexpectedEOF
		}
		n -= m
	}
	_ = control.SetWriteDeadline(time.Time{})
	return nil
}
