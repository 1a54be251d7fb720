// Package shimproto is the wire protocol between the engine and longshore-shim.
//
// The shim listens on one unix socket. A connection says with its first bytes (Preface) what it is: the control
// connection of a daemon, an attach stream of the container, or the stream of one exec. A stream carries nothing but
// stdio after the shim's one-byte answer; a control connection carries frames in both directions:
//
//	4 bytes length of the rest, big endian · 1 byte Kind · 4 bytes call number · payload
//
// Requests have a call number that their Reply repeats; events have call number 0. The package imports as little as it
// can because each kilobyte of the shim exists once per container.
package shimproto

import (
	"encoding/binary"
	"errors"
	"io"
)

// Kind says what a frame is.
type Kind byte

// Requests of the daemon are answered by Reply, except Ack and Pong.
const (
	// Setup carries Config; it is the first frame on the connection that the shim inherits, and not answered.
	Setup Kind = iota + 1
	// Start runs the container; the Reply carries the pid or the failure.
	Start
	// Signal carries a Target and a signal number.
	Signal
	// Resize carries a Target, height and width.
	Resize
	// Exec carries ExecRequest.
	Exec
	// Stop kills the container (or ends a shim that never started one).
	Stop
	// Ack says that the daemon has taken note of Exited.
	Ack
	// Pong answers Ping.
	Pong
	// Reply answers a request.
	Reply
	// Hello carries State; it is the shim's first frame on every control connection.
	Hello
	// Exited tells the end of the container (Exit).
	Exited
	// ExecExited tells the end of an exec (its ID and Exit).
	ExecExited
	// Ping asks whether the daemon is alive while a client does not read.
	Ping
	// Warned carries a text: output could not be logged.
	Warned
)

// MaxFrame bounds a frame's length; a longer one is an error.
const MaxFrame = 1 << 20

const head = 9

// ErrFrame is a malformed frame or payload.
var ErrFrame = errors.New("shim protocol: malformed frame")

// Frame is one message of a control connection.
type Frame struct {
	Kind    Kind
	Call    uint32
	Payload []byte
}

// Write sends a frame with one call of w.
func (f Frame) Write(w io.Writer) error {
	b := make([]byte, head, head+len(f.Payload))
	binary.BigEndian.PutUint32(b, uint32(head-4+len(f.Payload)))
	b[4] = byte(f.Kind)
	binary.BigEndian.PutUint32(b[5:], f.Call)
	_, err := w.Write(append(b, f.Payload...))
	return err
}

// Read receives the next frame. io.EOF means that the other side closed between frames.
func Read(r io.Reader) (Frame, error) {
	var h [head]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n < head-4 || n > MaxFrame {
		return Frame{}, ErrFrame
	}
	f := Frame{Kind: Kind(h[4]), Call: binary.BigEndian.Uint32(h[5:])}
	if n > head-4 {
		f.Payload = make([]byte, n-(head-4))
		if _, err := io.ReadFull(r, f.Payload); err != nil {
			return Frame{}, err
		}
	}
	return f, nil
}

// Writer builds a payload.
type Writer []byte

// Uint appends a number.
func (w *Writer) Uint(v uint64) { *w = binary.AppendUvarint(*w, v) }

// Int appends a signed number.
func (w *Writer) Int(v int64) { *w = binary.AppendVarint(*w, v) }

// Bool appends a truth value.
func (w *Writer) Bool(v bool) {
	if v {
		*w = append(*w, 1)
	} else {
		*w = append(*w, 0)
	}
}

// String appends a length and the bytes.
func (w *Writer) String(s string) {
	w.Uint(uint64(len(s)))
	*w = append(*w, s...)
}

// Strings appends a count and the elements.
func (w *Writer) Strings(s []string) {
	w.Uint(uint64(len(s)))
	for _, v := range s {
		w.String(v)
	}
}

// Parser reads a payload; after the first fault every value is zero and Err is set.
type Parser struct {
	B   []byte
	Err error
}

func (p *Parser) fail() {
	p.B, p.Err = nil, ErrFrame
}

// Uint reads a number.
func (p *Parser) Uint() uint64 {
	v, n := binary.Uvarint(p.B)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.B = p.B[n:]
	return v
}

// Int reads a signed number.
func (p *Parser) Int() int64 {
	v, n := binary.Varint(p.B)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.B = p.B[n:]
	return v
}

// Bool reads a truth value.
func (p *Parser) Bool() bool {
	if len(p.B) == 0 {
		p.fail()
		return false
	}
	v := p.B[0] != 0
	p.B = p.B[1:]
	return v
}

// String reads a string.
func (p *Parser) String() string {
	n := p.Uint()
	if n > uint64(len(p.B)) {
		p.fail()
		return ""
	}
	s := string(p.B[:n])
	p.B = p.B[n:]
	return s
}

// Strings reads a list of strings.
func (p *Parser) Strings() []string {
	n := p.Uint()
	if n > uint64(len(p.B)) { // each element takes a byte at least
		p.fail()
		return nil
	}
	var s []string
	for range n {
		s = append(s, p.String())
	}
	if p.Err != nil {
		return nil
	}
	return s
}
