package networks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"path/filepath"
	"sync"
	"time"

	"longshore/internal/core/network"
	"longshore/internal/driver/bridge"
	"longshore/internal/driver/netns"
	"longshore/internal/driver/resolver"
)

// kind is how far a namespace is prepared.
type kind int

const (
	bare    kind = iota // with a loopback interface only: mode none
	wired               // eth0 is there, its outer end is in no bridge yet: user-defined networks
	plugged             // eth0 is a port of the default network's bridge
	kinds
)

// refillAfter is how long the pool waits for a quiet moment: making namespaces takes locks of the kernel that
// containers under way need. An empty pool does not wait.
const refillAfter = 20 * time.Millisecond

// pool keeps namespaces prepared. Each costs about 200 kB of kernel memory, and making one some milliseconds.
type pool struct {
	svc   *Service
	sizes [kinds]int
	low   chan struct{} // told when a namespace was taken

	mu     sync.Mutex // guards all below
	ready  [kinds][]*slot
	index  int // of the default bridge; 0 without
	closed bool
}

// slot is a prepared namespace. id is the sandbox ID to be.
type slot struct {
	id    string
	kind  kind
	space *netns.Space
	// host is the outer end of eth0 where that is there already; dns is where its DNS server listens, if it has one.
	host string
	dns  resolver.Ports
}

func newPool(s *Service, size int) *pool {
	p := &pool{svc: s, low: make(chan struct{}, 1)}
	if size > 0 {
		p.sizes = [kinds]int{bare: size/4 + 1, wired: size/2 + 1, plugged: size}
	}
	return p
}

// randomID is docker's kind of ID: 64 hexadecimal digits.
func randomID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// take gives a namespace away, made on the spot when none is left.
func (p *pool) take(k kind) (*slot, error) {
	p.mu.Lock()
	var got *slot
	if n := len(p.ready[k]); n > 0 {
		got = p.ready[k][n-1]
		p.ready[k] = p.ready[k][:n-1]
	}
	p.mu.Unlock()
	select {
	case p.low <- struct{}{}:
	default:
	}
	if got != nil {
		return got, nil
	}
	return p.make(k)
}

func (p *pool) make(k kind) (*slot, error) {
	s := &slot{id: randomID(), kind: k}
	var err error
	s.space, err = netns.Create(filepath.Join(p.svc.netnsDir(), s.id[:12]), bridge.Prepare)
	if err != nil || k == bare {
		return s, err
	}
	s.host = vethName()
	plug := bridge.Plug{Host: s.host, Name: firstInterface}
	if k == plugged {
		p.mu.Lock()
		plug.Bridge = p.index
		p.mu.Unlock()
		plug.MTU, plug.Isolated = p.svc.cfg.MTU, p.svc.cfg.NoICC
	}
	err = p.svc.links.Plug(inside(s.space), plug)
	if err == nil && k == wired {
		err = p.prepareDNS(s)
	}
	if err != nil {
		p.discard(s)
		return nil, err
	}
	return s, nil
}

// prepareDNS makes the embedded DNS server ready where one will be wanted: when others use it already.
func (p *pool) prepareDNS(s *slot) error {
	ctx, cancel := context.WithTimeout(context.Background(), dnsTimeout)
	defer cancel()
	ports, err := p.svc.names.Prepare(ctx, s.space.Path)
	if err != nil || ports == (resolver.Ports{}) {
		return err
	}
	s.dns = ports
	return s.space.Do(func() error { return p.svc.deps.RedirectDNS(network.InternalResolver(), ports.UDP, ports.TCP) })
}

// dnsTimeout bounds what the pool waits for the resolver, which does nothing that takes long.
const dnsTimeout = 5 * time.Second

// firstInterface is the name of a container's first interface.
const firstInterface = "eth0"

func vethName() string { return "veth" + randomID()[:7] }

func inside(s *netns.Space) bridge.Inside { return bridge.Inside{FD: s.FD(), Link: s.Link, Do: s.Do} }

func (p *pool) discard(s *slot) {
	if s.dns != (resolver.Ports{}) {
		ctx, cancel := context.WithTimeout(context.Background(), dnsTimeout)
		defer cancel()
		if err := p.svc.names.Forget(ctx, s.space.Path); err != nil {
			p.svc.deps.Log.Warn("a prepared network namespace stays until the next start", "error", err)
		}
	}
	s.space.Close()
	p.svc.removeNamespace(s.space.Path)
}

// use sets the default bridge to plug into.
func (p *pool) use(index int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index = index
}

// run fills the pool after namespaces were taken, until ctx ends.
func (p *pool) run(ctx context.Context) error {
	p.mu.Lock()
	p.closed = false
	p.mu.Unlock()
	defer p.drain()
	for {
		for p.fill(ctx) {
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.low:
		}
		p.quiet(ctx)
	}
}

// quiet waits until nobody has taken a namespace for a while, or one kind has run out.
func (p *pool) quiet(ctx context.Context) {
	timer := time.NewTimer(refillAfter)
	defer timer.Stop()
	for !p.out() {
		select {
		case <-ctx.Done():
			return
		case <-p.low:
			timer.Reset(refillAfter)
		case <-timer.C:
			return
		}
	}
}

// out says whether a kind of namespace has run out.
func (p *pool) out() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range kinds {
		if len(p.ready[k]) == 0 && p.wants(k) > 0 {
			return true
		}
	}
	return false
}

// wants is how many namespaces of a kind are missing. The caller holds mu.
func (p *pool) wants(k kind) int {
	if k == plugged && p.index == 0 {
		return 0
	}
	return p.sizes[k] - len(p.ready[k])
}

// fill makes one namespace, of the kind that misses most; false when none is wanted or it failed, which the next taker
// will tell.
func (p *pool) fill(ctx context.Context) bool {
	p.mu.Lock()
	k := bare
	for other := range kinds {
		if p.wants(other) > p.wants(k) {
			k = other
		}
	}
	wanted := p.wants(k) > 0 && !p.closed
	p.mu.Unlock()
	if !wanted || ctx.Err() != nil {
		return false
	}
	s, err := p.make(k)
	if err != nil {
		p.svc.deps.Log.Warn("no network namespace could be prepared", "error", err)
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.discard(s)
		return false
	}
	p.ready[k] = append(p.ready[k], s)
	return true
}

// drain removes all that is prepared.
func (p *pool) drain() {
	p.mu.Lock()
	all := p.ready
	p.ready, p.closed = [kinds][]*slot{}, true
	p.mu.Unlock()
	for _, list := range all {
		for _, s := range list {
			p.discard(s)
		}
	}
}
