// Package spaces keeps network namespaces prepared for containers to come: with a loopback interface, with an interface
// that is in no bridge yet, or with one that is a port of the default network's bridge.
package spaces

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"longshore/internal/core/network"
	"longshore/internal/driver/bridge"
	"longshore/internal/driver/netns"
	"longshore/internal/driver/resolver"
)

// Kind is how far a namespace is prepared.
type Kind int

// Kinds.
const (
	Bare    Kind = iota // with a loopback interface only: mode none
	Wired               // eth0 is there, its outer end is in no bridge yet: user-defined networks
	Plugged             // eth0 is a port of the default network's bridge
	kinds
)

// refillAfter is how long the pool waits for a quiet moment: making namespaces takes locks of the kernel that
// containers under way need. An empty pool does not wait.
const refillAfter = 20 * time.Millisecond

// Pool keeps namespaces prepared. Each costs about 200 kB of kernel memory, and making one some milliseconds.
type Pool struct {
	cfg   Config
	sizes [kinds]int
	low   chan struct{} // told when a namespace was taken

	mu     sync.Mutex // guards all below
	ready  [kinds][]*Slot
	index  int // of the default bridge; 0 without
	closed bool
}

// Slot is a prepared namespace. ID is the sandbox ID to be.
type Slot struct {
	ID    string
	Kind  Kind
	Space *netns.Space
	// Host is the outer end of eth0 where that is there already; DNS is where its DNS server listens, if it has one.
	Host string
	DNS  resolver.Ports
}

// Config is what the pool makes namespaces of.
type Config struct {
	// Dir is where namespaces are mounted; Links plugs their interfaces in, Names makes their DNS servers ready.
	Dir   string
	Links *bridge.Driver
	Names *resolver.Client
	// RedirectDNS leads port 53 of the resolver's address to where it listens, in the calling thread's namespace.
	RedirectDNS func(addr netip.Addr, udp, tcp uint16) error
	Log         *slog.Logger
	// MTU of the default network's interfaces in bytes; Isolated keeps them from each other.
	MTU      int
	Isolated bool
	// Enter makes namespaces belong to user namespaces of their own; nil leaves them to the host's. Join makes them belong to
	// the user namespace at a path.
	Enter netns.Enter
	Join  func(path string) netns.Enter
	// Size is how many namespaces of a kind to keep, none when it is not above 0.
	Size int
}

// New makes an empty pool; Run fills it.
func New(cfg Config) *Pool {
	p := &Pool{cfg: cfg, low: make(chan struct{}, 1)}
	if n := cfg.Size; n > 0 {
		p.sizes = [kinds]int{Bare: n/4 + 1, Wired: n/2 + 1, Plugged: n}
	}
	return p
}

// RandomID is docker's kind of ID: 64 hexadecimal digits.
func RandomID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Take gives a namespace away, made on the spot when none is left.
// Where namespaces have owners, user is whom it belongs to, as in network.Request.
func (p *Pool) Take(k Kind, user string) (*Slot, error) {
	switch {
	case p.cfg.Enter == nil || user == "":
	case user == network.UserNSHost:
		return p.make(k, nil)
	default:
		return p.make(k, p.cfg.Join(user))
	}
	p.mu.Lock()
	var got *Slot
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
	return p.make(k, p.cfg.Enter)
}

func (p *Pool) make(k Kind, enter netns.Enter) (*Slot, error) {
	s := &Slot{ID: RandomID(), Kind: k}
	var err error
	path := filepath.Join(p.cfg.Dir, s.ID[:12])
	if enter == nil {
		s.Space, err = netns.Create(path, bridge.Prepare)
	} else {
		s.Space, err = netns.CreateOwned(path, enter, bridge.Prepare)
	}
	if err != nil || k == Bare {
		return s, err
	}
	s.Host = VethName()
	plug := bridge.Plug{Host: s.Host, Name: FirstInterface}
	if k == Plugged {
		p.mu.Lock()
		plug.Bridge = p.index
		p.mu.Unlock()
		plug.MTU, plug.Isolated = p.cfg.MTU, p.cfg.Isolated
	}
	err = p.cfg.Links.Plug(Inside(s.Space), plug)
	if err == nil && k == Wired {
		err = p.prepareDNS(s)
	}
	if err != nil {
		p.discard(s)
		return nil, err
	}
	return s, nil
}

// prepareDNS makes the embedded DNS server ready where one will be wanted: when others use it already.
func (p *Pool) prepareDNS(s *Slot) error {
	ctx, cancel := context.WithTimeout(context.Background(), dnsTimeout)
	defer cancel()
	ports, err := p.cfg.Names.Prepare(ctx, s.Space.Path)
	if err != nil || ports == (resolver.Ports{}) {
		return err
	}
	s.DNS = ports
	return s.Space.Do(func() error { return p.cfg.RedirectDNS(network.InternalResolver(), ports.UDP, ports.TCP) })
}

// dnsTimeout bounds what the pool waits for the resolver, which does nothing that takes long.
const dnsTimeout = 5 * time.Second

// FirstInterface is the name of a container's first interface.
const FirstInterface = "eth0"

// VethName is a new name for the outer end of an interface.
func VethName() string { return "veth" + RandomID()[:7] }

// Inside is a namespace as driver/bridge needs it.
func Inside(s *netns.Space) bridge.Inside { return bridge.Inside{FD: s.FD(), Link: s.Link, Do: s.Do} }

func (p *Pool) discard(s *Slot) {
	if s.DNS != (resolver.Ports{}) {
		ctx, cancel := context.WithTimeout(context.Background(), dnsTimeout)
		defer cancel()
		if err := p.cfg.Names.Forget(ctx, s.Space.Path); err != nil {
			p.cfg.Log.Warn("a prepared network namespace stays until the next start", "error", err)
		}
	}
	s.Space.Close()
	if err := netns.Remove(s.Space.Path); err != nil {
		p.cfg.Log.Warn("a network namespace stays behind until the next start", "path", s.Space.Path, "error", err)
	}
}

// Use sets the default bridge to plug into.
func (p *Pool) Use(index int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index = index
}

// Run fills the pool after namespaces were taken, until ctx ends.
func (p *Pool) Run(ctx context.Context) error {
	p.mu.Lock()
	p.closed = false
	p.mu.Unlock()
	defer p.Drain()
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
func (p *Pool) quiet(ctx context.Context) {
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
func (p *Pool) out() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range kinds {
		if len(p.ready[k]) == 0 && p.wants(k) > 0 {
			return true
		}
	}
	return false
}

// Missing is how many namespaces the pool still has to make.
func (p *Pool) Missing() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for k := range kinds {
		n += p.wants(k)
	}
	return n
}

// wants is how many namespaces of a kind are missing. The caller holds mu.
func (p *Pool) wants(k Kind) int {
	if k == Plugged && p.index == 0 {
		return 0
	}
	return p.sizes[k] - len(p.ready[k])
}

// fill makes one namespace, of the kind that misses most; false when none is wanted or it failed, which the next taker
// will tell.
func (p *Pool) fill(ctx context.Context) bool {
	p.mu.Lock()
	k := Bare
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
	s, err := p.make(k, p.cfg.Enter)
	if err != nil {
		p.cfg.Log.Warn("no network namespace could be prepared", "error", err)
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

// Drain removes all that is prepared.
func (p *Pool) Drain() {
	p.mu.Lock()
	all := p.ready
	p.ready, p.closed = [kinds][]*Slot{}, true
	p.mu.Unlock()
	for _, list := range all {
		for _, s := range list {
			p.discard(s)
		}
	}
}
