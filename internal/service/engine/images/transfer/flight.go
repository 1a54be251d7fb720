package transfer

import (
	"context"
	"sync"
)

// Flights lets requests for the same thing share one piece of work. Each sees all its progress: what was reported before
// it came, the newest line of each object, and then what follows. The work ends early only when nobody waits for it
// any more. The zero value is ready.
type Flights struct {
	mu      sync.Mutex
	running map[string]*flight
}

type flight struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before done is closed

	mu      sync.Mutex
	waiters int
	lines   []any          // to be told to who comes late
	byID    map[string]int // index in lines of an object's newest line
	subs    map[*subscriber]bool
}

type subscriber struct{ wake chan struct{} }

// Do runs work, or joins it when it runs already under key.
func (f *Flights) Do(ctx context.Context, key string, emit Emit, work func(ctx context.Context, emit Emit) error) error {
	for {
		f.mu.Lock()
		fl, joined := f.running[key]
		if !joined {
			fl = f.start(ctx, key, work)
		}
		fl.mu.Lock()
		if joined && fl.waiters == 0 { // just given up by everyone: wait for its end and start anew
			fl.mu.Unlock()
			f.mu.Unlock()
			<-fl.done
			continue
		}
		fl.waiters++
		fl.mu.Unlock()
		f.mu.Unlock()
		return fl.follow(ctx, emit)
	}
}

// start runs work in a goroutine that its waiters wait for. The caller holds f.mu.
func (f *Flights) start(ctx context.Context, key string, work func(ctx context.Context, emit Emit) error) *flight {
	wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fl := &flight{cancel: cancel, done: make(chan struct{}), byID: map[string]int{}, subs: map[*subscriber]bool{}}
	if f.running == nil {
		f.running = map[string]*flight{}
	}
	f.running[key] = fl
	go func() {
		defer cancel()
		err := work(wctx, fl.tell)
		f.mu.Lock()
		delete(f.running, key)
		f.mu.Unlock()
		fl.err = err
		close(fl.done)
	}()
	return fl
}

// tell keeps a line and wakes who waits for it. Lines about the same object replace each other as long as no other kind
// of line lies between.
func (fl *flight) tell(v any) error {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if m, ok := v.(Progress); ok && m.ID != "" {
		if i, seen := fl.byID[m.ID]; seen {
			if old, ok := fl.lines[i].(Progress); ok && old.Status == m.Status {
				fl.lines[i] = nil // superseded
			}
		}
		fl.byID[m.ID] = len(fl.lines)
	}
	fl.lines = append(fl.lines, v)
	for s := range fl.subs {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// follow sends all lines and gives the work's result. The last one that leaves stops the work and waits for its end.
func (fl *flight) follow(ctx context.Context, emit Emit) error {
	sub := &subscriber{wake: make(chan struct{}, 1)}
	fl.mu.Lock()
	fl.subs[sub] = true
	fl.mu.Unlock()
	err := fl.send(ctx, sub, emit)
	fl.mu.Lock()
	delete(fl.subs, sub)
	fl.waiters--
	last := fl.waiters == 0
	fl.mu.Unlock()
	if last {
		fl.cancel()
		<-fl.done
	}
	return err
}

func (fl *flight) send(ctx context.Context, sub *subscriber, emit Emit) error {
	at := 0
	flush := func() error {
		fl.mu.Lock()
		batch := append([]any(nil), fl.lines[at:]...)
		at = len(fl.lines)
		fl.mu.Unlock()
		for _, v := range batch {
			if v == nil {
				continue
			}
			if err := emit(v); err != nil {
				return err
			}
		}
		return nil
	}
	for {
		if err := flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-sub.wake:
		case <-fl.done:
			if err := flush(); err != nil {
				return err
			}
			return fl.err
		}
	}
}
