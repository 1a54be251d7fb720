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
	rec   network.Record // immutable
	index int            // of the bridge interface

	mu        sync.Mutex // guards all below
	v4, v6    *network.Subnet
	endpoints map[string]*endpoint // by container ID
	removed   bool
}

// endpoint is a container's place on a network as others may see it. Immutable.
type endpoint struct {
	network.EndpointRecord
	container string // its name
}

const (
	driverBridge = "bridge"
	driverHost   = "host"
	driverNull   = "null"
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
func (n *netw) userDefined() bool { return n.rec.Driver == driverBridge && !predefined(n.rec.Name) }

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

// subnets lists what the networks occupy, and the names of their bridges.
func (r *registry) subnets() ([]netip.Prefix, map[string]bool) {
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

// newNetw makes a live network of a record, with its gateways and auxiliary addresses taken.
func newNetw(rec network.Record, rng netip.Prefix) *netw {
	n := &netw{rec: rec, endpoints: map[string]*endpoint{}}
	if rec.Driver != driverBridge || rec.ConfigOnly {
		return n
	}
	for _, c := range rec.IPAM.Config {
		r := c.IPRange
		if !r.IsValid() && c.Subnet.Addr().Is4() {
			r = rng
		}
		sub := network.NewSubnet(c.Subnet, r)
		_ = sub.Take(c.Gateway) // the gateway may be one of the reserved addresses
		for _, a := range c.AuxAddress {
			_ = sub.Take(a)
		}
		if c.Subnet.Addr().Is6() {
			n.v6 = sub
		} else {
			n.v4 = sub
		}
	}
	return n
}

// config is the record's IPAM configuration of a family, if it has one.
func (n *netw) config(ipv6 bool) (mobynet.IPAMConfig, bool) {
	for _, c := range n.rec.IPAM.Config {
		if c.Subnet.Addr().Is6() == ipv6 {
			return c, true
		}
	}
	return mobynet.IPAMConfig{}, false
}

// gateway is the way out of the network; not valid for internal networks.
func (n *netw) gateway(ipv6 bool) netip.Addr {
	c, _ := n.config(ipv6)
	if n.rec.Internal {
		return netip.Addr{}
	}
	return c.Gateway
}

// bridgeAddress is the bridge's own address with the subnet's length.
func (n *netw) bridgeAddress(ipv6 bool) netip.Prefix {
	c, ok := n.config(ipv6)
	if !ok || !c.Gateway.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(c.Gateway, c.Subnet.Bits())
}
