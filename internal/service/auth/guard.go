package auth

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

// guard slows guessing down. The first failures of a name and of an address cost nothing; each one after them doubles the
// time until the next attempt is looked at, for that name from anywhere and for that address with any name. Attempts that
// come earlier wait for their turn, one after the other; those whose turn is too far off are refused unseen.
//
// A password that was right before is not asked about (passwords.right), so that guessing at a name does not lock its
// owner's clients out.
type guard struct {
	now func() time.Time
	// wait waits, or until ctx ends; tests have another.
	wait func(ctx context.Context, d time.Duration) error

	mu      sync.Mutex // guards what follows
	entries map[string]*failures
	swept   time.Time
}

type failures struct {
	count int
	// next is when the next attempt may be looked at; last is the last failure.
	next, last time.Time
}

const (
	// freeForName and freeForAddress are how many failures cost nothing. Many people may share an address.
	freeForName, freeForAddress = 5, 30
	// firstDelay is the cost of the next one, longestDelay that of the last.
	firstDelay, longestDelay = time.Second, time.Minute
	// patience is how long an attempt waits for its turn before it is refused.
	patience = 5 * time.Second
	// forgetAfter is how long failures are remembered.
	forgetAfter = 15 * time.Minute
	// maxFailures bounds the names and addresses that are remembered.
	maxFailures = 50_000
)

func newGuard(now func() time.Time) *guard {
	return &guard{now: now, entries: map[string]*failures{}, wait: func(ctx context.Context, d time.Duration) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}

// keysOf are what an attempt counts for. A name that nobody can have takes no more memory than others.
func keysOf(user, address string) [2]string {
	if len(user) > sha256.Size {
		sum := sha256.Sum256([]byte(user))
		user = string(sum[:])
	}
	return [2]string{"name " + user, "address " + network(address)}
}

// network is what an address counts as: itself, or the /64 of IPv6, which is what one client has.
func network(address string) string {
	a, err := netip.ParseAddr(host(address))
	if err != nil {
		return ""
	}
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a.String()
	}
	return p.String()
}

// host takes a port away.
func host(address string) string {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		return ap.Addr().String()
	}
	return address
}

// enter waits for the attempt's turn, or refuses it.
func (g *guard) enter(ctx context.Context, user, address string) error {
	d, ok := g.turn(user, address)
	if !ok {
		return ErrSlowDown
	}
	if d > 0 {
		return g.wait(ctx, d)
	}
	return nil
}

// turn books the attempt's turn: how long it must wait. Those who wait are as far apart as the delay is.
func (g *guard) turn(user, address string) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	at := now
	keys := keysOf(user, address)
	for _, k := range keys {
		if f := g.entries[k]; f != nil && f.next.After(at) && now.Sub(f.last) < forgetAfter {
			at = f.next
		}
	}
	if at.Sub(now) > patience {
		return 0, false
	}
	for i, k := range keys {
		if f := g.entries[k]; f != nil && f.delay(i) > 0 {
			f.next = at.Add(f.delay(i))
		}
	}
	return at.Sub(now), true
}

// delay is what the failures of a name (0) or an address (1) cost.
func (f *failures) delay(kind int) time.Duration {
	n := f.count - [2]int{freeForName, freeForAddress}[kind]
	if n < 0 {
		return 0
	}
	if n > 6 {
		return longestDelay
	}
	return min(firstDelay<<n, longestDelay)
}

func (g *guard) failed(user, address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.sweep(now)
	for i, k := range keysOf(user, address) {
		f := g.entries[k]
		if f == nil || now.Sub(f.last) >= forgetAfter {
			f = &failures{}
			g.entries[k] = f
		}
		f.count++
		f.last = now
		if next := now.Add(f.delay(i)); f.next.Before(next) {
			f.next = next
		}
	}
}

// succeeded forgets the failures of a name; an address may be trying many names with one of its own.
func (g *guard) succeeded(user string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.entries, keysOf(user, "")[0])
}

// sweep forgets old failures now and then, and everything when there are too many.
func (g *guard) sweep(now time.Time) {
	full := len(g.entries) >= maxFailures
	if !full && now.Sub(g.swept) < forgetAfter {
		return
	}
	g.swept = now
	for k, f := range g.entries {
		if now.Sub(f.last) >= forgetAfter {
			delete(g.entries, k)
		}
	}
	if len(g.entries) >= maxFailures {
		clear(g.entries)
	}
}
