// Package route is the shape of an HTTP operation on every server of Longshore: a pattern, the API versions that have
// it, and a handler that returns a value. Handlers write neither status nor JSON; the server does, in one place.
//
//	route.Route{Method: "GET", Pattern: "/containers/{id}/json", Since: "1.0", Handle: h.inspect}
package route

import (
	"context"
	"io"
	"net"
	"net/http"
)

// Handler answers one request. Errors carry an errdefs class.
type Handler func(ctx context.Context, r *Request) (Response, error)

// Route is one operation. Since and Until (inclusive, empty: still there) are API versions such as "1.24".
type Route struct {
	Method string
	// Pattern has segments: literal, {name} (one segment) or {name...} (one or more, for names with slashes).
	Pattern      string
	Since, Until string
	Handle       Handler
}

// Key names a route in tables: "GET /containers/{id}/json".
func (r Route) Key() string { return r.Method + " " + r.Pattern }

// Response is one of JSON, Empty, Lines, Raw or Hijack.
type Response interface{ response() }

// JSON is a document. Status 0 means 200.
type JSON struct {
	Status int
	Body   any
	Header http.Header
}

// Empty is a status without a body. Status 0 means 204.
type Empty struct {
	Status int
	Header http.Header
}

// Lines is a stream of JSON objects, flushed one by one. Headers go out with the first object, or at once when Early is
// set. An error before the first byte becomes an ordinary error answer; a later one is sent as docker's
// {"errorDetail":…,"error":…} object when ErrorLine is set, and otherwise ends the stream.
//
// Duplex says that Run reads the request's body, and may answer before all of it has come. Of other requests the body is
// read before Run begins: net/http notices a client that leaves, and keeps the connection, only when it has seen its end.
type Lines struct {
	Header    http.Header
	Early     bool
	ErrorLine bool
	Duplex    bool
	Run       func(ctx context.Context, emit func(v any) error) error
}

// Raw is a stream of bytes: tar archives, plain text. Headers go out with the first byte, or at once when Early is set.
type Raw struct {
	ContentType string
	Status      int
	Header      http.Header
	Early       bool
	Duplex      bool // as in Lines
	Run         func(ctx context.Context, w io.Writer) error
}

// Hijack takes the connection over. The server answers 101 UPGRADED when the client asked for an upgrade and 200
// otherwise, with the content type, and hands over the raw connection. With WebSocket the server does the websocket
// hand-shake and the connection carries its frames' payload.
type Hijack struct {
	// ContentType of the stream: "application/vnd.docker.raw-stream" or "…multiplexed-stream"; empty for h2c.
	ContentType string
	// Upgrade is the protocol named in the answer; default "tcp".
	Upgrade   string
	WebSocket bool
	// Prepare runs before anything is sent; its error becomes an ordinary answer. May be nil.
	Prepare func(ctx context.Context) error
	// Run owns conn until it returns; the server closes it then.
	Run func(ctx context.Context, conn Conn) error
}

// Conn is a hijacked connection. Bytes that the client sent with its request come out of Read first.
type Conn interface {
	net.Conn
	// CloseWrite half-closes towards the client where the transport can.
	CloseWrite() error
}

// HTTP is an escape for protocols that are HTTP handlers of their own (pprof, metrics, gRPC).
type HTTP struct{ Handler http.Handler }

func (JSON) response()   {}
func (Empty) response()  {}
func (Lines) response()  {}
func (Raw) response()    {}
func (Hijack) response() {}
func (HTTP) response()   {}

// Encoded is the body of a JSON response that is encoded already.
type Encoded []byte

// MarshalJSON implements json.Marshaler.
func (e Encoded) MarshalJSON() ([]byte, error) { return e, nil }
