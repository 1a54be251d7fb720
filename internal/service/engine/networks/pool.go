package networks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"path/filepath"
	"sync"

	"longshore/internal/driver/bridge"
	"longshore/internal/driver/netns"
)

// pool keeps namespaces prepared: bare ones with a loopback interface, and ones that are plugged into the default
// network's bridge already. Each costs about 200 kB of kernel memory, and making one some milliseconds.
type pool struct {
	svc  *Service
	size int
	low  chan struct{} // told when a namespace was taken

	mu            sync.Mutex // guards all below
	bare, plugged []*slot
	index         int // of the default bridge; 0 without
	closed        bool
}

// slot is a prepared namespace. id is the sandbox ID to be.
type slot struct {
	id    string
	space *netns.Space
	// host is the outer end of eth0 where it is plugged in already.
	host string
}

func newPool(s *Service, size int) *pool {
	return &pool{svc: s, size: size, low: make(chan struct{}, 1)}
}

// randomID is docker's kind of ID: 64 hexadecimal digits.
func randomID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// take gives a namespace away, made on the spot when none is left.
func (p *pool) take(plugged bool) (*slot, error) {
	p.mu.Lock()
	list := &p.bare
	if plugged {
		list = &p.plugged
	}
	var got *slot
	if n := len(*list); n > 0 {
		got = (*list)[n-1]
		*list = (*list)[:n-1]
	}
	p.mu.Unlock()
	select {
	case p.low <- struct{}{}:
	default:
	}
	if got != nil {
		return got, nil
	}
	return p.make(plugged)
}

func (p *pool) make(plugged bool) (*slot, error) {
	s := &slot{id: randomID()}
	var err error
	s.space, err = netns.Create(filepath.Join(p.svc.netnsDir(), s.id[:12]), bridge.Prepare)
	if err != nil || !plugged {
		return s, err
	}
	p.mu.Lock()
	index := p.index
	p.mu.Unlock()
	s.host = vethName()
	plug := bridge.Plug{Host: s.host, Name: "eth0", Bridge: index, MTU: p.svc.cfg.MTU, Isolated: p.svc.cfg.NoICC}
	if err := p.svc.links.Plug(inside(s.space), plug); err != nil {
		p.discard(s)
		return nil, err
	}
	return s, nil
}

func vethName() string { return "veth" + randomID()[:7] }

func inside(s *netns.Space) bridge.Inside { return bridge.Inside{FD: s.FD(), Link: s.Link, Do: s.Do} }

func (p *pool) discard(s *slot) {
	s.space.Close()
	p.svc.removeNamespace(s.space.Path)
}

// use sets the default bridge to plug into.
func (p *pool) use(index int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index = index
}

// run fills the pool whenever something was taken, plugged namespaces first, until ctx ends.
func (p *pool) run(ctx context.Context) error {
	p.mu.Lock()
	p.closed = false
	p.mu.Unlock()
	for {
		for p.fill(ctx) {
		}
		select {
		case <-ctx.Done():
			p.drain()
			return nil
		case <-p.low:
		}
	}
}

// fill makes one namespace; false when none is wanted or it failed, which the next taker will tell.
func (p *pool) fill(ctx context.Context) bool {
	p.mu.Lock()
	plugged := p.index != 0 && len(p.plugged) < p.size && (len(p.plugged) <= len(p.bare) || len(p.bare) >= p.size)
	full := len(p.bare) >= p.size && (p.index == 0 || len(p.plugged) >= p.size)
	p.mu.Unlock()
	if full || ctx.Err() != nil {
		return false
	}
	s, err := p.make(plugged)
	if err != nil {
		p.svc.deps.Log.Warn("no network namespace could be prepared", "error", err)
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		p.discard(s)
	case plugged:
		p.plugged = append(p.plugged, s)
	default:
		p.bare = append(p.bare, s)
	}
	return !p.closed
}

// drain removes all that is prepared.
func (p *pool) drain() {
	p.mu.Lock()
	all := append(p.bare, p.plugged...)
	p.bare, p.plugged, p.closed = nil, nil, true
	p.mu.Unlock()
	for _, s := range all {
		p.discard(s)
	}
}
