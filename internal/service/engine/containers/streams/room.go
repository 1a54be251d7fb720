package streams

import (
	"context"
	"sync"

	"longshore/internal/core/logs"
	"longshore/internal/core/runtime"
)

// LogReader and Selection are the contract's, under the names by which this package's users know them.
type (
	LogReader = logs.Reader
	Selection = logs.ReadOptions
)

// Room is where the clients of a container's stdio meet its process: those who come before there is one wait here, and
// are attached before it starts, so that they miss nothing. The zero value is ready; safe for concurrent use.
type Room struct {
	mu      sync.Mutex
	now     runtime.Process
	waiting []*Seat
}

// Process is the running process, nil when there is none.
func (r *Room) Process() runtime.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// Begin sets the process and attaches all who wait; call it before the process starts.
func (r *Room) Begin(ctx context.Context, p runtime.Process) {
	r.mu.Lock()
	list := r.waiting
	r.now, r.waiting = p, nil
	r.mu.Unlock()
	for _, s := range list {
		s.open(ctx, p)
	}
}

// End forgets the process. Who sits down from now on waits for the next one.
func (r *Room) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = nil
}

// Sit takes a seat, which is attached at once when there is a process.
func (r *Room) Sit(ctx context.Context, o runtime.AttachOptions) (*Seat, error) {
	s := &Seat{room: r, opts: o, ready: make(chan struct{})}
	r.mu.Lock()
	p := r.now
	if p == nil {
		r.waiting = append(r.waiting, s)
	}
	r.mu.Unlock()
	if p == nil {
		return s, nil
	}
	s.open(ctx, p)
	return s, s.err
}

// Dismiss tells all who wait that nothing will come.
func (r *Room) Dismiss() {
	r.mu.Lock()
	list := r.waiting
	r.waiting = nil
	r.mu.Unlock()
	for _, s := range list {
		s.once.Do(func() { close(s.ready) })
	}
}

// Seat is one client's place.
type Seat struct {
	room  *Room
	opts  runtime.AttachOptions
	ready chan struct{}
	once  sync.Once

	mu     sync.Mutex // guards what follows
	left   bool
	stream runtime.Stream
	err    error
}

// Ready is closed once Stream has its answer.
func (s *Seat) Ready() <-chan struct{} { return s.ready }

// Stream is the attached stream; nil when nothing came.
func (s *Seat) Stream() (runtime.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream, s.err
}

// Options are the streams that the seat is for.
func (s *Seat) Options() runtime.AttachOptions { return s.opts }

func (s *Seat) open(ctx context.Context, p runtime.Process) {
	stream, err := p.Attach(context.WithoutCancel(ctx), s.opts)
	s.mu.Lock()
	if s.left && stream != nil {
		_ = stream.Close()
		stream = nil
	}
	s.stream, s.err = stream, err
	s.mu.Unlock()
	s.once.Do(func() { close(s.ready) })
}

// Leave gives the seat up and closes its stream, also one that is still to be opened. Idempotent.
func (s *Seat) Leave() {
	r := s.room
	r.mu.Lock()
	for i, w := range r.waiting {
		if w == s {
			r.waiting = append(r.waiting[:i:i], r.waiting[i+1:]...)
			break
		}
	}
	r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
	if s.stream != nil {
		_ = s.stream.Close()
	}
}
