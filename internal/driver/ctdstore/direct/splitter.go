package direct

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
)

// ahead is how many chunks the fastest of those who read one stream may be before the slowest.
const ahead = 8

// Splitter hands streams to several readers each, chunk by chunk, without copying. Its memory, ahead chunks, is shared by all
// streams that come through it, and made when it is needed.
type Splitter struct{ free chan *chunk }

// NewSplitter makes one.
func NewSplitter() *Splitter {
	s := &Splitter{free: make(chan *chunk, ahead)}
	for range ahead {
		s.free <- &chunk{}
	}
	return s
}

type chunk struct {
	b     []byte
	n     int
	users atomic.Int32
}

// Reader is one reader's view of a stream. It must be read to its end or closed, or the others wait for it for ever.
type Reader struct {
	split *Splitter
	queue chan *chunk
	why   error // instead of io.EOF; written before the queue is closed
	cur   *chunk
	off   int
}

// Readers makes n readers of one stream, which Feed fills.
func (s *Splitter) Readers(n int) []*Reader {
	out := make([]*Reader, n)
	for i := range out {
		out[i] = &Reader{split: s, queue: make(chan *chunk, ahead)}
	}
	return out
}

// Feed reads from to its end for all the readers, who see its error, too. It ends early when ctx is done or stop says so.
func (s *Splitter) Feed(ctx context.Context, from io.Reader, readers []*Reader, stop func() bool) (err error) {
	defer func() {
		for _, r := range readers {
			r.why = err
			close(r.queue)
		}
	}()
	for ctx.Err() == nil {
		var c *chunk
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c = <-s.free:
		}
		if c.b == nil {
			c.b = make([]byte, Chunk) // which Go aligns to pages
		}
		c.n, err = readFull(from, c.b)
		c.users.Store(int32(len(readers)))
		for _, r := range readers {
			r.queue <- c // has room for all that there are
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case stop():
			return errStopped
		}
	}
	return ctx.Err()
}

var errStopped = errors.New("nobody wants the rest")

// readFull fills b as far as r goes, and keeps r's own error.
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

// next waits for a chunk; nil at the end.
func (r *Reader) next() []byte {
	r.release()
	c, ok := <-r.queue
	if !ok {
		return nil
	}
	r.cur, r.off = c, 0
	return c.b[:c.n]
}

func (r *Reader) release() {
	if r.cur != nil && r.cur.users.Add(-1) == 0 {
		r.split.free <- r.cur
	}
	r.cur = nil
}

// end is what a reader is told at the end.
func (r *Reader) end() error {
	if r.why != nil {
		return r.why
	}
	return io.EOF
}

// Each gives f all chunks. After an error of f the rest is passed over. The error is f's, or the stream's.
func (r *Reader) Each(f func([]byte) error) error {
	var failed error
	for b := r.next(); b != nil; b = r.next() {
		if failed == nil && len(b) > 0 {
			failed = f(b)
		}
	}
	if err := r.end(); failed == nil && !errors.Is(err, io.EOF) {
		failed = err
	}
	return failed
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for r.cur == nil || r.off == r.cur.n {
		if r.next() == nil {
			return 0, r.end()
		}
	}
	n := copy(p, r.cur.b[r.off:r.cur.n])
	r.off += n
	return n, nil
}

// Close passes over the rest, as long as there is any. It waits for the stream's end.
func (r *Reader) Close() {
	for r.next() != nil {
	}
}
