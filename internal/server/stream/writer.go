// Package stream moves bytes between handlers and connections: a writer that gathers small writes without delaying
// them, and hijacked connections.
package stream

import (
	"io"
	"sync"
)

// limit bounds what waits in memory for a slow reader, in bytes.
const limit = 256 << 10

// Writer hands bytes to a second goroutine that writes and flushes them. While that one is busy, further writes
// gather, so a fast producer of small pieces gets large writes and a slow one is never delayed. Close waits for it.
type Writer struct {
	mu     sync.Mutex
	cond   sync.Cond
	buf    []byte
	err    error
	closed bool
	done   chan struct{}
}

// NewWriter starts a writer over w; flush is called after each write and may be nil. Close must be called.
func NewWriter(w io.Writer, flush func() error) *Writer {
	s := &Writer{done: make(chan struct{})}
	s.cond.L = &s.mu
	go s.run(w, flush)
	return s
}

// Write queues p. It blocks while the reader is behind and answers the first error of the connection.
func (s *Writer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buf) >= limit && s.err == nil {
		s.cond.Wait()
	}
	if s.err != nil {
		return 0, s.err
	}
	s.buf = append(s.buf, p...)
	s.cond.Broadcast()
	return len(p), nil
}

// Close writes what is queued, waits for it and answers the first error.
func (s *Writer) Close() error {
	s.mu.Lock()
	s.closed = true
	s.cond.Broadcast()
	s.mu.Unlock()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Writer) run(w io.Writer, flush func() error) {
	defer close(s.done)
	var spare []byte
	for {
		s.mu.Lock()
		for len(s.buf) == 0 && !s.closed {
			s.cond.Wait()
		}
		out := s.buf
		s.buf = spare[:0]
		s.cond.Broadcast()
		s.mu.Unlock()
		if len(out) == 0 {
			return
		}
		_, err := w.Write(out)
		if err == nil && flush != nil {
			err = flush()
		}
		spare = out
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.cond.Broadcast()
			s.mu.Unlock()
			return
		}
	}
}
