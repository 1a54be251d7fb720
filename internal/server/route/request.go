package route

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"longshore/internal/core/fault"
)

// MaxBody bounds a JSON request body in bytes.
const MaxBody = 4 << 20

// Dialect holds the behaviours of old API versions that no field tells; the zero value is the newest API.
// It is filled by the version ladder and read by handlers and the server.
type Dialect struct {
	// PlainTextErrors: error bodies are plain text (before 1.24).
	PlainTextErrors bool
	// UnframedStreams: attach and logs are not framed even without a TTY (before 1.6).
	UnframedStreams bool
	// RawStreamType: streams are announced as application/vnd.docker.raw-stream even when framed (before 1.42).
	RawStreamType bool
	// NoUpgrade: a hijack is always answered with 200, never 101.
	NoUpgrade bool
	// TextWebSocket: websocket frames are text frames (before 1.28).
	TextWebSocket bool
	// LateWaitHeaders: the headers of wait go out with its result (before 1.30).
	LateWaitHeaders bool
	// PlainProgress: progress is plain text, not JSON (before 1.1 and, for build, 1.8).
	PlainProgress bool
	// MultipartBuild: a build's context comes as a form with the parts Dockerfile and Context (before 1.3).
	MultipartBuild bool
}

// Request is a parsed request as handlers see it: always in the newest API's terms.
type Request struct {
	HTTP    *http.Request
	Vars    map[string]string
	Query   url.Values
	Dialect Dialect
	// Body replaces HTTP.Body when the ladder lifted the request.
	Body io.Reader

	notes map[string]bool
}

// Var returns a path variable.
func (r *Request) Var(name string) string { return r.Vars[name] }

// Bool reads a docker boolean query parameter: "", "0", "no", "false", "none" (any case) are false.
func (r *Request) Bool(name string) bool {
	switch strings.ToLower(strings.TrimSpace(r.Query.Get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// BoolOr is Bool with a default for a missing parameter.
func (r *Request) BoolOr(name string, def bool) bool {
	if !r.Query.Has(name) {
		return def
	}
	return r.Bool(name)
}

// Int reads an integer query parameter; def when it is missing or empty. Bad numbers are ErrInvalidArgument.
func (r *Request) Int(name string, def int) (int, error) {
	s := r.Query.Get(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fault.Invalid("invalid value for %s: %q", name, s)
	}
	return n, nil
}

// Filters reads the "filters" parameter in both forms that docker had: {"name":["v"]} and {"name":{"v":true}}.
func (r *Request) Filters() (Filters, error) { return ParseFilters(r.Query.Get("filters")) }

// Payload is the request's body, bounded by nothing.
func (r *Request) Payload() io.Reader {
	if r.Body != nil {
		return r.Body
	}
	return r.HTTP.Body
}

// Decode reads exactly one JSON document into v, with docker's words for what is wrong. An empty body is an error
// unless optional.
func (r *Request) Decode(v any) error { return r.decode(v, false) }

// DecodeOptional is Decode for bodies that may be missing.
func (r *Request) DecodeOptional(v any) error { return r.decode(v, true) }

func (r *Request) decode(v any, optional bool) error {
	if r.HTTP.ContentLength == 0 || (r.Body == nil && r.HTTP.Body == nil) {
		if optional {
			return nil
		}
		return invalid("invalid JSON: EOF")
	}
	if ct := r.HTTP.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" {
			return invalid("unsupported Content-Type header (" + ct + "): must be 'application/json'")
		}
	} else if !optional {
		return invalid("unsupported Content-Type header (): must be 'application/json'")
	}
	lr := &io.LimitedReader{R: r.Payload(), N: MaxBody + 1}
	dec := json.NewDecoder(lr)
	if err := dec.Decode(v); err != nil {
		if lr.N <= 0 {
			return invalid(fmt.Sprintf("request body is larger than %d bytes", MaxBody))
		}
		if errors.Is(err, io.EOF) {
			if optional {
				return nil
			}
			return invalid("invalid JSON: EOF")
		}
		return invalid("invalid JSON: " + err.Error())
	}
	if dec.More() {
		return invalid("unexpected content after JSON")
	}
	return nil
}

func invalid(msg string) error { return fault.Invalid("%s", msg) }

// SetBody replaces the request's body.
func (r *Request) SetBody(doc []byte) {
	r.Body = bytes.NewReader(doc)
	r.HTTP.ContentLength = int64(len(doc))
}

// Remarks of the ladder that handlers read: what old clients expect of a new container where they say nothing.
const (
	PlainReadOnly = "a read-only bind leaves the mounts below it writable"
	HostCgroupns  = "the host's cgroup namespace on control groups v1"
)

// Note keeps a remark of the version ladder with the request, for the handler and the way down.
func (r *Request) Note(remark string) {
	if r.notes == nil {
		r.notes = map[string]bool{}
	}
	r.notes[remark] = true
}

// Noted tells whether the remark was made.
func (r *Request) Noted(remark string) bool { return r.notes[remark] }
