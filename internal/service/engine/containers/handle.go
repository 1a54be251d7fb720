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
	"longshore/internal/service/engine/containers/listing"
	"longshore/internal/service/engine/containers/notice"
	"longshore/internal/service/engine/containers/streams"
)

// handle is a live container. Everything below "owned" is touched by its actor only; the rest is safe for anyone.
type handle struct {
	id    string
	snap  atomic.Pointer[core.Record]
	shown atomic.Pointer[listing.Shown]
	mail  chan func(ctx context.Context)
	// gone is closed when the record has been deleted.
	gone    chan struct{}
	changes *notice.Board
	room    streams.Room
	roots   rootUsers
	execs   sync.Map // of running execs: ID -> *execution

	// owned by the actor
	tasks   sync.WaitGroup
	restart *time.Timer
	probing context.CancelFunc
	over    bool   // the actor may end
	restore string // the checkpoint that the start under way continues from; empty: none
	// chores are done once the present call has been answered and before the next one: what nobody waits for, but what
	// the next call must find done.
	chores []func(ctx context.Context)
}

// live is a running process with its specification, and the process of its health checks.
type live struct {
	runtime.Process
	spec  atomic.Pointer[specs.Spec]
	probe atomic.Pointer[specs.Process]
}

func newHandle(rec *core.Record) *handle {
	h := &handle{id: rec.ID, mail: make(chan func(context.Context)), gone: make(chan struct{}), changes: notice.NewBoard()}
	h.snap.Store(rec)
	return h
}

// record is the present snapshot; nobody changes it.
func (h *handle) record() *core.Record { return h.snap.Load() }

// publish makes a new snapshot visible and wakes those who wait for one.
func (h *handle) publish(rec *core.Record) {
	h.snap.Store(rec)
	h.changes.Post()
}

// process is the running process, or a conflict in docker's words.
func (h *handle) process() (*live, error) {
	if l, ok := h.room.Process().(*live); ok {
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
		changed := h.changes.Next()
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

// later adds a chore. On the actor, or before there is one.
func (h *handle) later(f func(ctx context.Context)) { h.chores = append(h.chores, f) }

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
	for {
		for len(h.chores) > 0 {
			f := h.chores[0]
			h.chores = h.chores[1:]
			f(ctx)
		}
		if h.over {
			return
		}
		select {
		case f := <-h.mail:
			f(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// rootUsers counts who uses the mounted root filesystem. mu is held while it is mounted or unmounted.
type rootUsers struct {
	mu  sync.Mutex
	n   int  // besides the run
	run bool // a run has it, from before its launch until it has been taken down
}
