// Package streams joins clients' connections with the stdio of containers and execs: copying, detach keys, half-closing,
// and the framing of log lines.
package streams

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/moby/term"

	"longshore/internal/core/fault"
	"longshore/internal/core/runtime"
)

// Conn is a client's connection.
type Conn interface {
	io.ReadWriter
	// CloseWrite tells the client that no more output comes.
	CloseWrite() error
	SetReadDeadline(t time.Time) error
}

// Options say how a stream is joined.
type Options struct {
	// Stdin copies the client's input; Output the container's output.
	Stdin, Output bool
	// TTY: no framing, and detach keys are looked for.
	TTY bool
	// Frame adds the stdcopy headers of stdout to output that has none.
	Frame bool
	// Unframe strips the stdcopy headers from the output.
	Unframe bool
	// CloseStdin: the end of the client's input ends the container's input (StdinOnce, exec).
	CloseStdin bool
	// Keys is the detach sequence; nil is ctrl-p, ctrl-q.
	Keys []byte
	// Ended is called when the container's output has ended by itself and before the client sees the end: whatever a
	// client asks for next must know of it already. May be nil.
	Ended func()
}

// defaultKeys is ctrl-p, ctrl-q.
var defaultKeys = []byte{16, 17}

// linger is how long a client may take to hang up once it has all output.
const linger = 2 * time.Second

// ParseKeys reads a detach sequence such as "ctrl-p,ctrl-q"; empty is the default. what is docker's word for it in errors:
// "detach" where a container is attached to, "escape" with an exec.
func ParseKeys(s, what string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	keys, err := term.ToBytes(s)
	if err != nil {
		return nil, fault.Invalid("Invalid %s keys (%s) provided", what, s)
	}
	return keys, nil
}

// Proxy copies both ways until the container's output ends, the client goes, the client detaches (detached is true then)
// or ctx is done. It closes s and waits for its goroutines; conn stays open.
func Proxy(ctx context.Context, conn Conn, s runtime.Stream, o Options) (detached bool) {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	input := make(chan bool, 1)
	var left atomic.Bool // the client detached
	go func() { input <- feed(conn, s, o, &left) }()
	copied := copyOutput(conn, s, o)
	if copied && !left.Load() && o.Ended != nil {
		o.Ended()
	}
	_ = conn.CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(linger))
	_ = s.Close()
	detached = <-input
	return detached
}

// copyOutput copies until the container's output ends, or the client takes no more: whole is false then.
func copyOutput(conn Conn, s runtime.Stream, o Options) (whole bool) {
	var err error
	switch {
	case !o.Output:
		_, err = io.Copy(io.Discard, s)
	case o.Frame:
		_, err = io.Copy(framer{conn}, s)
	case o.Unframe:
		err = Unframe(conn, s)
	default:
		_, err = io.Copy(conn, s) // the stream's own WriteTo knows the shortest way
	}
	if err != nil {
		_ = s.Close()
	}
	return err == nil
}

// framer writes each piece as a frame of stdout.
type framer struct{ w io.Writer }

func (f framer) Write(p []byte) (int, error) {
	if _, err := f.w.Write(Frame(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Unframe copies the payload of stdcopy frames until the end of r.
func Unframe(w io.Writer, r io.Reader) error {
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if _, err := io.CopyN(w, r, int64(binary.BigEndian.Uint32(head[4:]))); err != nil {
			return err
		}
	}
}

// feed copies the client's input until it ends and tells whether the client detached.
func feed(conn Conn, s runtime.Stream, o Options, left *atomic.Bool) (detached bool) {
	if !o.Stdin {
		_, _ = io.Copy(io.Discard, conn)
		return false
	}
	var in io.Reader = conn
	if o.TTY {
		keys := o.Keys
		if len(keys) == 0 {
			keys = defaultKeys
		}
		in = term.NewEscapeProxy(conn, keys)
	}
	_, err := io.Copy(s, in)
	var esc term.EscapeError
	switch {
	case errors.As(err, &esc):
		detached = true
		left.Store(true)
		_ = s.Close()
	case o.CloseStdin && !o.TTY:
		_ = s.CloseWrite()
	default:
		_ = s.Close()
	}
	_, _ = io.Copy(io.Discard, conn) // a container that reads no more must not block the client
	return detached
}
