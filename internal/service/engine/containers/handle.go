package containers

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/runtime"
)

// handle is a live container. Everything below "owned" is touched by its actor only; the rest is safe for anyone.
type handle struct {
	id   string
	snap atomic.Pointer[core.Record]
	mail chan func(ctx context.Context)
	// gone is closed when the record has been deleted.
	gone    chan struct{}
	changes broadcast
	clients clients
	roots   rootUsers
	execs   sync.Map // of running execs: ID -> *execution

	// owned by the actor
	tasks   sync.WaitGroup
	restart *time.Timer
	probing context.CancelFunc
	over    bool                        // the actor may end
	backlog []func(ctx context.Context) // what Restore left to do; run first
}

// live is a running process with its specification.
type live struct {
	runtime.Process
	spec atomic.Pointer[specs.Spec]
}

func newHandle(rec *core.Record) *handle {
	h := &handle{id: rec.ID, mail: make(chan func(context.Context)), gone: make(chan struct{})}
	h.changes.ch = make(chan struct{})
	h.snap.Store(rec)
	return h
}

// record is the present snapshot; nobody changes it.
func (h *handle) record() *core.Record { return h.snap.Load() }

// publish makes a new snapshot visible and wakes those who wait for one.
func (h *handle) publish(rec *core.Record) {
	h.snap.Store(rec)
	h.changes.wake()
}

// process is the running process, or a conflict in docker's words.
func (h *handle) process() (*live, error) {
	if l := h.clients.live(); l != nil {
		return l, nil
	}
	return nil, fault.Conflict("container %s is not running", h.id)
}

// do runs f on the container's actor and waits for it. When the caller's ctx ends first, f still runs to its end.
func (h *handle) do(ctx context.Context, f func(ctx context.Context) error) error {
	done := make(chan error, 1)
	if err := h.post(ctx, func(actor context.Context) { done <- f(actor) }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// post hands f to the actor.
func (h *handle) post(ctx context.Context, f func(ctx context.Context)) error {
	select {
	case h.mail <- f:
		return nil
	case <-h.gone:
		return fault.NotFound("No such container: %s", h.id)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await blocks until ok accepts a snapshot, the container is gone (gone is true) or ctx is done.
func (h *handle) await(ctx context.Context, ok func(*core.Record) bool) (rec *core.Record, gone bool, err error) {
	for {
		changed := h.changes.next()
		rec = h.record()
		if ok(rec) {
			return rec, false, nil
		}
		select {
		case <-h.gone:
			return h.record(), true, nil
		default:
		}
		select {
		case <-changed:
		case <-h.gone:
		case <-ctx.Done():
			return rec, false, ctx.Err()
		}
	}
}

// own is the actor: it runs what is posted, one after the other, until the container is gone or the daemon ends.
func (s *Service) own(ctx context.Context, h *handle) {
	defer h.tasks.Wait()
	defer func() {
		if h.restart != nil {
			h.restart.Stop()
		}
		if h.probing != nil {
			h.probing()
		}
	}()
	for _, f := range h.backlog {
		if !h.over {
			f(ctx)
		}
	}
	h.backlog = nil
	for !h.over {
		select {
		case f := <-h.mail:
			f(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// broadcast wakes all who wait for the next change.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ch
}

func (b *broadcast) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ch)
	b.ch = make(chan struct{})
}

// rootUsers counts who uses the mounted root filesystem. mu is held while it is mounted or unmounted.
type rootUsers struct {
	mu  sync.Mutex
	n   int  // besides the run
	run bool // a run has it, from before its launch until it has been taken down
}

// clients joins attach clients with the process: those who come before it wait here.
type clients struct {
	mu      sync.Mutex
	now     *live
	waiting []*attachment
}

func (c *clients) live() *live {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// begin sets the process and takes those who wait for it.
func (c *clients) begin(l *live) []*attachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.waiting
	c.now, c.waiting = l, nil
	return list
}

// end forgets the process; who waits by then goes on waiting.
func (c *clients) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = nil
}

// wait adds a client unless there is a process already, which it answers then.
func (c *clients) wait(a *attachment) *live {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		c.waiting = append(c.waiting, a)
	}
	return c.now
}

// leave removes a waiting client.
func (c *clients) leave(a *attachment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range c.waiting {
		if w == a {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			return
		}
	}
}

// dismiss takes all waiting clients: nothing will come for them.
func (c *clients) dismiss() []*attachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.waiting
	c.waiting = nil
	return list
}
