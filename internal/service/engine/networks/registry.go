package networks

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"

	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
	"longshore/internal/core/network"
)

// registry holds the live networks.
type registry struct {
	changes sync.Mutex   // orders creations and removals, which choose among all networks
	mu      sync.RWMutex // guards byID
	byID    map[string]*netw
}

func newRegistry() *registry { return &registry{byID: map[string]*netw{}} }

// netw is a live network.
type netw struct {
	rec    network.Record // immutable, as are opts and parent
	opts   network.BridgeOptions
	parent network.ParentOptions
	index  int // of the bridge interface
	// guard4 and guard6 say that the engine switched forwarding on for the network; set when it is raised.
	guard4, guard6 bool

	linking sync.Mutex // orders changes of the firewall's links

	mu        sync.Mutex // guards all below
	subnets   []*network.Subnet
	endpoints map[string]*endpoint // by container ID
	removed   bool
}

// endpoint is a container's place on a network as others may see it. Immutable.
type endpoint struct {
	network.EndpointRecord
	container string // its name
	request   *network.Request
}

const (
	driverBridge = network.DriverBridge
	driverHost   = network.DriverHost
	driverNull   = network.DriverNull
)

// predefined says whether a network of that name is made by the engine itself.
func predefined(name string) bool {
	switch name {
	case mobynet.NetworkBridge, mobynet.NetworkHost, mobynet.NetworkNone, mobynet.NetworkDefault:
		return true
	}
	return false
}

// userDefined networks have embedded DNS and let endpoints choose addresses.
func (n *netw) userDefined() bool { return n.private() && !predefined(n.rec.Name) }

// private networks give containers interfaces of their own.
func (n *netw) private() bool { return n.rec.Driver != driverHost && n.rec.Driver != driverNull }

// onParent networks are shares of an interface of the host.
func (n *netw) onParent() bool {
	return n.rec.Driver == network.DriverMacvlan || n.rec.Driver == network.DriverIPvlan
}

func (r *registry) add(n *netw) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byID[n.rec.ID] = n
}

func (r *registry) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
}

func (r *registry) get(id string) *netw {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byID[id]
}

// all lists the networks by name.
func (r *registry) all() []*netw {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]*netw, 0, len(r.byID))
	for _, n := range r.byID {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *netw) int {
		return cmp.Or(strings.Compare(a.rec.Name, b.rec.Name), strings.Compare(a.rec.ID, b.rec.ID))
	})
	return out
}

func (r *registry) byName(name string) *netw {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, n := range r.byID {
		if n.rec.Name == name {
			return n
		}
	}
	return nil
}

// find resolves what a client calls a network: its ID, its name, or an unambiguous beginning of its ID. scope, when
// not empty, is the only scope looked in.
func (r *registry) find(term, scope string) (*netw, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if n := r.byID[term]; n != nil && (scope == "" || n.rec.Scope == scope) {
		return n, nil
	}
	var named, prefixed []*netw
	for _, n := range r.byID {
		if scope != "" && n.rec.Scope != scope {
			continue
		}
		if n.rec.Name == term {
			named = append(named, n)
		}
		if term != "" && strings.HasPrefix(n.rec.ID, term) {
			prefixed = append(prefixed, n)
		}
	}
	switch {
	case len(named) == 1:
		return named[0], nil
	case len(named) > 1:
		return nil, fault.Invalid("network %s is ambiguous (%d matches found based on name)", term, len(named))
	case len(prefixed) == 1:
		return prefixed[0], nil
	case len(prefixed) > 1:
		return nil, fault.Invalid("network %s is ambiguous (%d matches found based on ID prefix)", term, len(prefixed))
	}
	return nil, fault.NotFound("network %s not found", term)
}

// taken lists what the networks occupy, and the names of their bridges.
func (r *registry) taken() ([]netip.Prefix, map[string]bool) {
	var out []netip.Prefix
	bridges := map[string]bool{}
	for _, n := range r.all() {
		for _, c := range n.rec.IPAM.Config {
			if !n.rec.ConfigOnly {
				out = append(out, c.Subnet)
			}
		}
		if n.rec.Bridge != "" {
			bridges[n.rec.Bridge] = true
		}
	}
	return out, bridges
}

// newNetw makes a live network of a record, with its gateways and auxiliary addresses taken. Options that do not parse
// were refused when the network was made.
func newNetw(rec network.Record) *netw {
	n := &netw{rec: rec, endpoints: map[string]*endpoint{}}
	if !n.private() || rec.ConfigOnly {
		return n
	}
	if n.onParent() {
		n.parent, _ = network.ParseParentOptions(rec.Driver, rec.Options)
		n.opts.ICC = true
	} else {
		n.opts, _ = network.ParseBridgeOptions(rec.Options)
	}
	for _, c := range rec.IPAM.Config {
		sub := network.NewSubnet(c.Subnet, c.IPRange)
		if c.Gateway.IsValid() {
			_ = sub.Take(c.Gateway) // the gateway may be one of the reserved addresses
		}
		for _, a := range c.AuxAddress {
			_ = sub.Take(a)
		}
		n.subnets = append(n.subnets, sub)
	}
	return n
}

// config is the IPAM configuration of the subnet that has an address.
func (n *netw) config(a netip.Addr) (mobynet.IPAMConfig, bool) {
	for _, c := range n.rec.IPAM.Config {
		if c.Subnet.Contains(a) {
			return c, true
		}
	}
	return mobynet.IPAMConfig{}, false
}

// gateway is the way out of the network for an address of it; not valid where there is none, or where everything is at
// the interface itself.
func (n *netw) gateway(a netip.Addr) netip.Addr {
	c, ok := n.config(a)
	switch {
	case !ok || !n.leadsOut() || n.parent.Layer3():
		return netip.Addr{}
	case n.rec.Driver != driverBridge:
		return c.Gateway
	}
	aux := network.AuxGateway4
	if a.Is6() {
		aux = network.AuxGateway6
	}
	if other := c.AuxAddress[aux]; other.IsValid() {
		return other
	}
	return c.Gateway
}

// leadsOut says whether the network may be its containers' way to the rest of the world.
func (n *netw) leadsOut() bool {
	return n.private() && !n.rec.Internal && (!n.onParent() || n.parent.Parent != "")
}

// bridgeAddress is the bridge's own address of a family with the subnet's length; not valid where it has none.
func (n *netw) bridgeAddress(ipv6 bool) netip.Prefix {
	for _, c := range n.rec.IPAM.Config {
		if c.Subnet.Addr().Is6() != ipv6 {
			continue
		}
		if !c.Gateway.IsValid() || n.opts.Mode(ipv6) == network.ModeIsolated || (!ipv6 && n.opts.InhibitIPv4) {
			break
		}
		return netip.PrefixFrom(c.Gateway, c.Subnet.Bits())
	}
	return netip.Prefix{}
}

// subnet is the pool that an address belongs to; nil without.
func (n *netw) subnet(a netip.Addr) *network.Subnet {
	for _, sub := range n.subnets {
		if sub.Prefix().Contains(a) {
			return sub
		}
	}
	return nil
}
