// Package networks is the engine's networking: docker's networks, and the sandboxes (network namespaces with their
// endpoints, names and published ports) that containers run in.
//
// Life cycle: New checks the configuration, Restore brings kernel and records together (always, once, before anything
// else is asked), Run keeps namespaces prepared and repairs what others break; it waits for Restore, and at its end lets
// go of what only a living daemon needs. Containers, their ports and their names go on after that as after a crash; the
// next Restore adopts them.
package networks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"longshore/internal/core/event"
	"longshore/internal/core/firewall"
	"longshore/internal/core/network"
	"longshore/internal/core/state"
	"longshore/internal/driver/bridge"
	"longshore/internal/driver/hostport"
	"longshore/internal/driver/netns"
	"longshore/internal/driver/resolver"
	"longshore/internal/service/engine/networks/spaces"
)

// Config is dockerd's networking configuration. The zero value, with ExecRoot, is docker's default.
type Config struct {
	// ExecRoot is the directory for run state; the namespaces live in its "netns".
	ExecRoot string
	// Bridge is the default network's interface (--bridge): one that exists, or "none" for no default network. Empty:
	// docker0 is made, or longshore0 where docker0 belongs to somebody else.
	Bridge string
	// IPv6 gives the default network IPv6 (--ipv6).
	IPv6 bool
	// BIP and BIP6 are the default bridge's addresses with their subnets' lengths (--bip, --bip6); FixedCIDR and FixedCIDR6
	// limit its containers' addresses (--fixed-cidr, --fixed-cidr-v6).
	BIP, BIP6, FixedCIDR, FixedCIDR6 netip.Prefix
	// DefaultGateway and DefaultGateway6 are the default network's gateways when they are not the bridge
	// (--default-gateway, --default-gateway-v6).
	DefaultGateway, DefaultGateway6 netip.Addr
	// NetworkOptions are options of new networks by driver (--default-network-opt).
	NetworkOptions map[string]map[string]string
	// AddressPools are cut into subnets for networks that ask for none (--default-address-pool).
	AddressPools []network.AddressPool
	// MTU of the default network in bytes; 0 means 1500.
	MTU int
	// NoICC, NoMasquerade and NoForward are --icc=false, --ip-masq=false and --ip-forward=false.
	NoICC, NoMasquerade, NoForward bool
	// NoForwardDrop lets a host on which the engine switched forwarding on forward everything (--ip-forward-no-drop).
	NoForwardDrop bool
	// UserlandProxy carries published ports where the kernel cannot (--userland-proxy).
	UserlandProxy bool
	// Firewall is how Deps.Firewall was configured.
	Firewall firewall.Config
	// BindIP is where ports are published that name no address (--ip).
	BindIP netip.Addr
	// HostGateways stand for host-gateway in extra hosts (--host-gateway-ip); default: the default bridge's addresses.
	HostGateways []netip.Addr
	// DNS, DNSSearch and DNSOptions are for containers that have none of their own.
	DNS                   []netip.Addr
	DNSSearch, DNSOptions []string
	// ResolvConf and Hosts are the host's files; default /etc/resolv.conf and /etc/hosts.
	ResolvConf, Hosts string
	// ResolverCommand is the program of the DNS resolver process; default: this program with "resolver".
	ResolverCommand []string
	// Enter makes network namespaces belong to user namespaces of their own (--userns-remap); nil leaves them to the host's.
	// Join makes them belong to the user namespace at a path.
	Enter netns.Enter
	Join  func(path string) netns.Enter
	// Warm is how many namespaces of each kind are kept prepared; 0 means 8, less than 0 none.
	Warm int
}

// Deps are what the service needs of others.
type Deps struct {
	Store  state.Store
	Events event.Publisher
	Log    *slog.Logger
	// Firewall is the host's; the service closes it at its end. RedirectDNS leads port 53 of an address to where the
	// resolver listens, in the calling thread's network namespace.
	Firewall    firewall.Firewall
	RedirectDNS func(addr netip.Addr, udp, tcp uint16) error
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Service implements the networks API and network.Sandboxes.
type Service struct {
	cfg  Config
	deps Deps

	links    *bridge.Driver
	firewall firewall.Firewall
	ports    *hostport.Ports
	names    *resolver.Client
	pool     *spaces.Pool

	nets  *registry
	boxes boxes

	pruning  atomic.Bool
	running  atomic.Bool   // Run is there to take work from reap
	reap     chan string   // namespaces to remove
	restored chan struct{} // closed by Restore
	named    chan struct{} // told when a network with DNS is there
}

var _ network.Sandboxes = (*Service)(nil)

// New settles the configuration's defaults and connects to the kernel. It changes nothing there; Restore does.
func New(cfg Config, deps Deps) (*Service, error) {
	if cfg.ExecRoot == "" || deps.Store == nil || deps.Events == nil || deps.Log == nil || deps.Firewall == nil || deps.RedirectDNS == nil {
		return nil, fmt.Errorf("networks: exec root, store, events, logger and firewall are needed")
	}
	if err := cfg.settle(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	links, err := bridge.New()
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, deps: deps,
		links: links, firewall: deps.Firewall, ports: hostport.New(),
		names: resolver.NewClient(cfg.ExecRoot, cfg.ResolverCommand, deps.Log),
		nets:  newRegistry(),
		boxes: boxes{byID: map[string]*sandbox{}},
		reap:  make(chan string, 1024), restored: make(chan struct{}), named: make(chan struct{}, 1),
	}
	s.pool = spaces.New(spaces.Config{
		Dir: s.netnsDir(), Links: links, Names: s.names, RedirectDNS: deps.RedirectDNS, Log: deps.Log, MTU: cfg.MTU, Isolated: cfg.NoICC, Size: cfg.Warm, Enter: cfg.Enter, Join: cfg.Join,
	})
	return s, nil
}

func (c *Config) settle() error {
	if c.FixedCIDR.IsValid() && c.BIP.IsValid() && !c.BIP.Masked().Overlaps(c.FixedCIDR) {
		return fmt.Errorf("networks: --fixed-cidr %s is not part of the bridge's subnet %s", c.FixedCIDR, c.BIP.Masked())
	}
	if c.Bridge != "" && c.Bridge != noBridge && c.BIP.IsValid() {
		return fmt.Errorf("networks: You specified --bridge & --bip, mutually exclusive options. Please specify only one")
	}
	if len(c.AddressPools) == 0 {
		c.AddressPools = network.DefaultPools()
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.Warm == 0 {
		c.Warm = 8
	}
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.Hosts == "" {
		c.Hosts = "/etc/hosts"
	}
	if !c.BindIP.IsValid() {
		c.BindIP = netip.IPv4Unspecified()
	}
	if len(c.ResolverCommand) == 0 {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("networks: %w", err)
		}
		c.ResolverCommand = []string{self, "resolver"}
	}
	return nil
}

// noBridge is the value of --bridge that means no default network.
const noBridge = "none"

func (s *Service) netnsDir() string { return filepath.Join(s.cfg.ExecRoot, "netns") }

// Run works in the background until ctx ends, from Restore on: it prepares namespaces, removes used ones, looks after
// the resolver process and the firewall's tables. It ends with Shutdown.
func (s *Service) Run(ctx context.Context) error {
	select {
	case <-s.restored:
	case <-ctx.Done():
		return nil
	}
	s.running.Store(true)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.pool.Run(ctx) })
	g.Go(func() error { return s.names.Run(ctx) })
	g.Go(func() error { return s.startNames(ctx) })
	g.Go(func() error { return s.firewall.Run(ctx) })
	g.Go(func() error { return s.runReaper(ctx) })
	err := g.Wait()
	s.running.Store(false)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	return errors.Join(err, s.Shutdown(ctx))
}

// startNames starts the resolver process, which takes as long as a container may, before the first container waits for
// it: as soon as there is a user-defined network.
func (s *Service) startNames(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.named:
	}
	if err := s.names.Start(ctx); err != nil && ctx.Err() == nil {
		s.deps.Log.Warn("the DNS resolver of containers does not start", "error", err) // the first container tries again
	}
	return nil
}

// wantNames tells startNames that a network has DNS.
func (s *Service) wantNames(n *netw) {
	if !n.userDefined() || n.rec.ConfigOnly {
		return
	}
	select {
	case s.named <- struct{}{}:
	default:
	}
}

// shutdownLimit bounds what the end of Run waits for.
const shutdownLimit = 10 * time.Second

// Shutdown ends what only a living daemon needs: prepared namespaces, and the resolver process when nobody uses it. It
// is for those who never Run.
func (s *Service) Shutdown(ctx context.Context) error {
	s.pool.Drain()
	s.drainReaper()
	s.names.Stop(ctx)
	s.firewall.Close()
	s.links.Close()
	return nil
}

func (s *Service) runReaper(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case path := <-s.reap:
			s.removeNamespace(path)
		}
	}
}

func (s *Service) drainReaper() {
	for {
		select {
		case path := <-s.reap:
			s.removeNamespace(path)
		default:
			return
		}
	}
}

// discard removes a namespace soon.
func (s *Service) discard(path string) {
	if s.running.Load() {
		select {
		case s.reap <- path:
			return
		default:
		}
	}
	s.removeNamespace(path)
}

func (s *Service) removeNamespace(path string) {
	if err := netns.Remove(path); err != nil {
		s.deps.Log.Warn("a network namespace stays behind until the next start", "path", path, "error", err)
	}
}

// boxes are the live sandboxes by container ID.
type boxes struct {
	mu   sync.RWMutex // guards byID
	byID map[string]*sandbox
}

func (b *boxes) get(id string) *sandbox {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byID[id]
}

// add is false when the container has a sandbox already.
func (b *boxes) add(id string, box *sandbox) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.byID[id]; ok {
		return false
	}
	b.byID[id] = box
	return true
}

func (b *boxes) remove(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byID, id)
}

func (b *boxes) all() []*sandbox {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make([]*sandbox, 0, len(b.byID))
	for _, box := range b.byID {
		out = append(out, box)
	}
	return out
}
