package sqlmeta

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"longshore/internal/base/groupcommit"
)

// maxBatch bounds how many changes share one commit.
const maxBatch = 256

// writer is SQLite's one writing connection. A change alone commits at once; changes that come during a commit share the
// next, and the next transaction runs while this one's commit is synced.
type writer struct {
	conn  *sql.Conn
	st    *prepared
	all   *statements
	sync  *walSync
	queue *groupcommit.Queue[*change]
}

type change struct {
	fn   func(tx) error
	lazy bool  // need not be durable yet
	err  error // the outcome
}

func newWriter(conn *sql.Conn, sync *walSync) *writer {
	all := &statements{db: conn}
	text := func(q string) string { return q }
	w := &writer{conn: conn, all: all, sync: sync, st: &prepared{ctx: context.Background(), text: text, get: all.get}}
	w.queue = groupcommit.New(w.turn)
	return w
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
	w.queue.Do(c)
	return c.err
}

// turn runs what is queued; its end is the sync.
func (w *writer) turn(waiting []*change) (taken int, end func()) {
	batch := waiting[:min(len(waiting), maxBatch)]
	if !w.commit(batch) || !slices.ContainsFunc(batch, func(c *change) bool { return !c.lazy }) {
		return len(batch), nil
	}
	return len(batch), func() {
		lost := w.sync.wait()
		for _, c := range batch {
			if c.err == nil {
				c.err = lost
			}
		}
	}
}

// commit runs the batch in one transaction; it says whether there is something to sync. A change that fails leaves nothing
// behind and does not touch the others.
func (w *writer) commit(batch []*change) (committed bool) {
	fail := func(err error) bool {
		for _, c := range batch {
			if c.err == nil {
				c.err = err
			}
		}
		return false
	}
	if err := w.sync.prepare(); err != nil {
		return fail(fmt.Errorf("prepare log: %w", err))
	}
	if _, err := w.st.exec("BEGIN IMMEDIATE"); err != nil {
		return fail(fmt.Errorf("begin: %w", err))
	}
	good := 0
	for _, c := range batch {
		var broken error
		if c.err, broken = w.apply(c); broken != nil {
			_, _ = w.st.exec("ROLLBACK")
			return fail(broken)
		}
		if c.err == nil {
			good++
		}
	}
	if good == 0 {
		_, _ = w.st.exec("ROLLBACK")
		return false
	}
	if _, err := w.st.exec("COMMIT"); err != nil {
		_, _ = w.st.exec("ROLLBACK")
		return fail(fmt.Errorf("commit: %w", err))
	}
	w.sync.committed.Add(1)
	return true
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
