package transfer

import (
	"context"
	"slices"
	"sync"
)

// Slots bound how much is transferred at a time by the whole engine, and share it out fairly: a free slot goes to the
// fetch or send that has the fewest. When one of them has several and another waits without any, one of its transfers
// that can go on later is interrupted, so that something huge never keeps something small waiting until it is done.
type Slots struct {
	mu      sync.Mutex
	limit   int
	used    int
	waiting []*claim // oldest first
	held    []*slot
}

// party is one fetch or send that takes slots.
type party struct {
	slots *Slots
	held  int // guarded by slots.mu
}

// claim is a transfer that waits.
type claim struct {
	party   *party
	granted *slot
	ready   chan struct{} // closed when granted is set
}

// slot is a transfer that may go on.
type slot struct {
	party     *party
	interrupt func() // makes the transfer give the slot back soon; nil: it cannot
}

// SetLimit says how many slots there are from now on; what is under way goes on.
func (s *Slots) SetLimit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = n
	s.grant()
}

// party begins to take slots.
func (s *Slots) party() *party { return &party{slots: s} }

// take waits for a slot; waits is called first when none is free.
func (p *party) take(ctx context.Context, waits func() error) (*slot, error) {
	s := p.slots
	c := &claim{party: p, ready: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, c)
	s.grant()
	free := c.granted != nil
	if !free {
		s.makeRoom(p)
	}
	s.mu.Unlock()
	if free {
		return c.granted, nil
	}
	if err := waits(); err != nil {
		p.withdraw(c)
		return nil, err
	}
	select {
	case <-c.ready:
		return c.granted, nil
	case <-ctx.Done():
		p.withdraw(c)
		return nil, ctx.Err()
	}
}

// withdraw takes a claim back, and the slot that it may have got meanwhile.
func (p *party) withdraw(c *claim) {
	s := p.slots
	s.mu.Lock()
	s.waiting = slices.DeleteFunc(s.waiting, func(o *claim) bool { return o == c })
	got := c.granted
	s.mu.Unlock()
	if got != nil {
		got.release()
	}
}

// interruptible says how the transfer in the slot is interrupted, or with nil that it cannot be any more.
func (t *slot) interruptible(f func()) {
	s := t.party.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	t.interrupt = f
	if f == nil {
		return
	}
	for _, c := range s.waiting { // who came before this could be interrupted
		if c.party.held == 0 {
			s.makeRoom(c.party)
			return
		}
	}
}

// release gives the slot to who waits.
func (t *slot) release() {
	s := t.party.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	t.party.held--
	s.held = slices.DeleteFunc(s.held, func(o *slot) bool { return o == t })
	s.grant()
}

// grant hands out what is free. The caller holds s.mu.
func (s *Slots) grant() {
	for s.used < s.limit && len(s.waiting) > 0 {
		best := 0
		for i, c := range s.waiting {
			if c.party.held < s.waiting[best].party.held {
				best = i
			}
		}
		c := s.waiting[best]
		s.waiting = slices.Delete(s.waiting, best, best+1)
		s.used++
		c.party.held++
		c.granted = &slot{party: c.party}
		s.held = append(s.held, c.granted)
		close(c.ready)
	}
}

// makeRoom interrupts one transfer of the party that has the most, if it has several and the one that waits has none.
// The caller holds s.mu.
func (s *Slots) makeRoom(waits *party) {
	if waits.held > 0 {
		return
	}
	var victim *slot
	for _, t := range s.held { // the newest of them has the least behind it
		if t.interrupt != nil && t.party.held > 1 && (victim == nil || t.party.held >= victim.party.held) {
			victim = t
		}
	}
	if victim != nil {
		interrupt := victim.interrupt
		victim.interrupt = nil // once
		interrupt()
	}
}
