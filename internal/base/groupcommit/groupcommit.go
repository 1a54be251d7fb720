// Package groupcommit lets calls that wait for something slow and exclusive, such as a commit, share it: those that come
// while one is under way go into the next together, and a call alone never waits for company.
//
//	q := groupcommit.New(func(waiting []*change) (taken int, end func()) { … })
//	q.Do(c) // c's outcome is in c
package groupcommit

import "sync"

// Queue has no goroutine: the first call that finds it idle leads, works for all who wait, and hands the lead on to the
// first of those who came meanwhile.
type Queue[T any] struct {
	work func(waiting []T) (taken int, end func())

	mu    sync.Mutex // guards queue and busy
	queue []entry[T]
	busy  bool
}

type entry[T any] struct {
	item T
	done chan struct{}
	lead chan struct{} // "you lead now"
}

// New makes a queue. work is given all who wait, in order; it does what is exclusive for some of the first, at least one,
// and says how many those are. end, which may be nil, is the rest of the work: the next is led meanwhile.
func New[T any](work func(waiting []T) (taken int, end func())) *Queue[T] {
	return &Queue[T]{work: work}
}

// Do returns when the work that took item has ended. Outcomes travel in the item.
func (q *Queue[T]) Do(item T) {
	e := entry[T]{item: item, done: make(chan struct{}), lead: make(chan struct{}, 1)}
	q.mu.Lock()
	q.queue = append(q.queue, e)
	leader := !q.busy
	q.busy = true
	q.mu.Unlock()
	if !leader {
		select {
		case <-e.done:
			return
		case <-e.lead:
		}
	}
	q.turn()
}

// turn works for the first of the queue, of whom the caller is one.
func (q *Queue[T]) turn() {
	q.mu.Lock()
	waiting := make([]T, len(q.queue))
	for i, e := range q.queue {
		waiting[i] = e.item
	}
	q.mu.Unlock()

	taken, end := q.work(waiting)

	q.mu.Lock()
	batch := q.queue[:taken:taken]
	q.queue = q.queue[taken:]
	if len(q.queue) > 0 {
		q.queue[0].lead <- struct{}{}
	} else {
		q.busy, q.queue = false, nil
	}
	q.mu.Unlock()
	if end != nil {
		end()
	}
	for _, e := range batch {
		close(e.done)
	}
}
