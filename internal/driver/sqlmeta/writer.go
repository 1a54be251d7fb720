package sqlmeta

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// maxBatch bounds how many changes share one commit.
const maxBatch = 256

// writer is SQLite's one writing connection. There is no goroutine: the first change that finds the connection idle
// leads, runs everything that has queued up in one transaction, commits once, and hands the lead to the next in the
// queue. A change alone commits at once; changes that come during a commit share the next. The next transaction runs
// while this one's commit is synced.
type writer struct {
	conn *sql.Conn
	st   *prepared
	all  *statements
	sync *walSync

	mu    sync.Mutex // guards queue and busy
	queue []*change
	busy  bool
}

type change struct {
	fn   func(tx) error
	lazy bool          // need not be durable yet
	done chan error    // the outcome, once
	lead chan struct{} // "you lead now"
}

func newWriter(conn *sql.Conn, sync *walSync) *writer {
	all := &statements{db: conn}
	text := func(q string) string { return q }
	return &writer{conn: conn, all: all, sync: sync, st: &prepared{ctx: context.Background(), text: text, get: all.get}}
}

func (w *writer) close() error { return errors.Join(w.all.Close(), w.sync.close()) }

// change queues fn and returns when it is committed or has failed. A context that ends meanwhile is not heeded: the
// change is short, and its outcome must be known.
func (w *writer) change(ctx context.Context, fn func(tx) error) error {
	return w.run(ctx, &change{fn: fn})
}

// later is change without the sync: the next change makes it durable.
func (w *writer) later(ctx context.Context, fn func(tx) error) error {
	return w.run(ctx, &change{fn: fn, lazy: true})
}

func (w *writer) run(ctx context.Context, c *change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.done, c.lead = make(chan error, 1), make(chan struct{}, 1)
	w.mu.Lock()
	w.queue = append(w.queue, c)
	leader := !w.busy
	w.busy = true
	w.mu.Unlock()
	if !leader {
		select {
		case err := <-c.done:
			return err
		case <-c.lead:
		}
	}
	w.turn()
	return <-c.done
}

// turn runs what is queued, passes the lead on, and tells the outcome when it is durable.
func (w *writer) turn() {
	w.mu.Lock()
	n := min(len(w.queue), maxBatch)
	batch := w.queue[:n:n]
	w.queue = w.queue[n:]
	w.mu.Unlock()

	outcome, committed := w.commit(batch)

	w.mu.Lock()
	if len(w.queue) > 0 {
		w.queue[0].lead <- struct{}{}
	} else {
		w.busy, w.queue = false, nil
	}
	w.mu.Unlock()

	var lost error
	if committed && slices.ContainsFunc(batch, func(c *change) bool { return !c.lazy }) {
		lost = w.sync.wait()
	}
	for i, c := range batch {
		if lost != nil && outcome[i] == nil {
			outcome[i] = lost
		}
		c.done <- outcome[i]
	}
}

// commit runs the batch in one transaction and gives each change's outcome; committed says that there is something to
// sync. A change that fails leaves nothing behind and does not touch the others.
func (w *writer) commit(batch []*change) (outcome []error, committed bool) {
	outcome = make([]error, len(batch))
	fail := func(err error) ([]error, bool) {
		for i := range outcome {
			if outcome[i] == nil {
				outcome[i] = err
			}
		}
		return outcome, false
	}
	if err := w.sync.prepare(); err != nil {
		return fail(fmt.Errorf("prepare log: %w", err))
	}
	if _, err := w.st.exec("BEGIN IMMEDIATE"); err != nil {
		return fail(fmt.Errorf("begin: %w", err))
	}
	good := 0
	for i, c := range batch {
		var broken error
		if outcome[i], broken = w.apply(c); broken != nil {
			_, _ = w.st.exec("ROLLBACK")
			return fail(broken)
		}
		if outcome[i] == nil {
			good++
		}
	}
	if good == 0 {
		_, _ = w.st.exec("ROLLBACK")
		return outcome, false
	}
	if _, err := w.st.exec("COMMIT"); err != nil {
		_, _ = w.st.exec("ROLLBACK")
		return fail(fmt.Errorf("commit: %w", err))
	}
	w.sync.committed.Add(1)
	return outcome, true
}

// apply runs one change below a savepoint. broken means that the transaction is gone as a whole. A change that panics
// takes its batch with it, but not the writers in the queue: they get their turn.
func (w *writer) apply(c *change) (err, broken error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("change panicked: %v", p)
			broken = err
		}
	}()
	if _, err := w.st.exec("SAVEPOINT one"); err != nil {
		return nil, fmt.Errorf("savepoint: %w", err)
	}
	if err = c.fn(w.st); err != nil {
		if _, broken := w.st.exec("ROLLBACK TO one"); broken != nil {
			return err, fmt.Errorf("roll back: %w", broken)
		}
	}
	if _, broken := w.st.exec("RELEASE one"); broken != nil {
		return err, fmt.Errorf("release: %w", broken)
	}
	return err, nil
}
