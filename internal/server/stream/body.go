package stream

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// Stall is how long a client may send nothing while its body is read.
const Stall = 60 * time.Second

// Body reads a request's body, and gives up when the client sends nothing for too long. It knows nothing of its request:
// whoever was interrupted may still be reading while the connection serves another one.
type Body struct {
	from    io.Reader
	control *http.ResponseController
	renew   time.Time
	n       atomic.Int64
}

// NewBody reads from, which came over w's connection.
func NewBody(w http.ResponseWriter, from io.Reader) *Body {
	return &Body{from: from, control: http.NewResponseController(w)}
}

// Received is the number of bytes that were read so far. Safe beside Read.
func (b *Body) Received() int64 { return b.n.Load() }

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	if now := time.Now(); now.After(b.renew) {
		// A transport without deadlines has limits of its own.
		_ = b.control.SetReadDeadline(now.Add(Stall))
		b.renew = now.Add(Stall / 4)
	}
	n, err := b.from.Read(p)
	b.n.Add(int64(n))
	if err != nil {
		// net/http goes on reading to notice when the client leaves: the deadline must not look like that.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
