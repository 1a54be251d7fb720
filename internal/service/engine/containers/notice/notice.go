// Package notice tells goroutines that something has changed, without ever blocking who tells.
package notice

import "sync"

// Board wakes all who wait for the next change. A waiter takes Next before it looks, so that it misses nothing.
type Board struct {
	mu sync.Mutex
	ch chan struct{}
}

// NewBoard makes a board.
func NewBoard() *Board { return &Board{ch: make(chan struct{})} }

// Next is closed by the next Post.
func (b *Board) Next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ch
}

// Post wakes all who hold a Next.
func (b *Board) Post() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ch)
	b.ch = make(chan struct{})
}

// Queue hands values from many goroutines to one, of any number.
type Queue[T any] struct {
	mu   sync.Mutex
	list []T
	more chan struct{}
}

// NewQueue makes a queue.
func NewQueue[T any]() *Queue[T] { return &Queue[T]{more: make(chan struct{}, 1)} }

// Add queues a value.
func (q *Queue[T]) Add(v T) {
	q.mu.Lock()
	q.list = append(q.list, v)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// Take answers all queued values.
func (q *Queue[T]) Take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list = nil
	return list
}

// More receives after values were added; Take them then.
func (q *Queue[T]) More() <-chan struct{} { return q.more }
