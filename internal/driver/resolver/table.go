// Package resolver is the embedded DNS server of user-defined networks: every container there asks 127.0.0.11 and
// learns the names of the containers on its networks; anything else is forwarded.
//
// One process serves all containers (Run, the sub-command "longshore resolver"). It is started by the daemon but does
// not end with it, so that names go on while the daemon is away. The daemon tells it by a unix socket which containers
// there are (Client); a daemon that finds it running takes it over, and starts it anew when it has died. It keeps
// nothing on disk, because the daemon's records can always rebuild it. The same process carries the published ports that
// the kernel cannot carry (Proxies).
package resolver

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Sandbox is what the resolver knows of a container.
type Sandbox struct {
	ID string
	// NetNS is the path of its network namespace; empty for a container that is not served but has names.
	NetNS string
	// UDP and TCP are the ports to listen on at 127.0.0.11 there; 0 for any.
	UDP, TCP uint16
	// Servers answer what is not a container's name; none: such questions fail.
	Servers []Server
	// Isolated containers (on internal networks only) have nothing forwarded but to servers that they reach themselves.
	Isolated  bool
	Endpoints []Endpoint
	// Links are names that only this container knows: alias to another container's name.
	Links map[string]string
}

// Server is a DNS server to forward to.
type Server struct {
	Addr netip.Addr
	// Inside says to ask from the container's namespace, not the host's.
	Inside bool
}

// Endpoint is a container's place on a network, with the names it has there; the first is its name for PTR answers.
type Endpoint struct {
	Network, NetworkName string
	Names                []string
	IPv4, IPv6           netip.Addr
}

// table answers questions about names. Safe for concurrent use.
type table struct {
	mu        sync.RWMutex // guards all below
	sandboxes map[string]Sandbox
	networks  map[string]map[string][]Endpoint // network ID → lower case name → endpoints
}

func newTable() *table {
	return &table{sandboxes: map[string]Sandbox{}, networks: map[string]map[string][]Endpoint{}}
}

func (t *table) put(s Sandbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(s.ID)
	t.sandboxes[s.ID] = s
	for _, e := range s.Endpoints {
		names := t.networks[e.Network]
		if names == nil {
			names = map[string][]Endpoint{}
			t.networks[e.Network] = names
		}
		for _, n := range unique(e.Names) {
			names[n] = append(names[n], e)
		}
	}
}

func unique(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, strings.ToLower(n))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (t *table) delete(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(id)
}

func (t *table) drop(id string) {
	for _, e := range t.sandboxes[id].Endpoints {
		names := t.networks[e.Network]
		for _, n := range unique(e.Names) {
			names[n] = slices.DeleteFunc(names[n], func(o Endpoint) bool { return o.IPv4 == e.IPv4 && o.IPv6 == e.IPv6 })
			if len(names[n]) == 0 {
				delete(names, n)
			}
		}
		if len(names) == 0 {
			delete(t.networks, e.Network)
		}
	}
	delete(t.sandboxes, id)
}

// sandbox is what is known of a container.
func (t *table) sandbox(id string) (Sandbox, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s, ok := t.sandboxes[id]
	return s, ok
}

func (t *table) ids() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	ids := make([]string, 0, len(t.sandboxes))
	for id := range t.sandboxes {
		ids = append(ids, id)
	}
	return ids
}

// lookup finds the endpoints that a container means by a name: on its networks in order, the first that knows the
// name wins. The order of several endpoints is random, so that clients spread.
func (t *table) lookup(id, name string) []Endpoint {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.sandboxes[id]
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for alias, target := range s.Links {
		if strings.ToLower(alias) == name {
			name = strings.ToLower(target)
		}
	}
	for _, e := range s.Endpoints {
		found := t.networks[e.Network][name]
		if len(found) == 0 {
			if short, ok := strings.CutSuffix(name, "."+strings.ToLower(e.NetworkName)); ok {
				found = t.networks[e.Network][short]
			}
		}
		if len(found) > 0 {
			found = slices.Clone(found)
			rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
			return found
		}
	}
	return nil
}

// reverse finds the name of an address on a container's networks: "name.network".
func (t *table) reverse(id string, a netip.Addr) (string, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, own := range t.sandboxes[id].Endpoints {
		for _, s := range t.sandboxes {
			for _, e := range s.Endpoints {
				if e.Network == own.Network && (e.IPv4 == a || e.IPv6 == a) && len(e.Names) > 0 {
					return e.Names[0] + "." + e.NetworkName, true
				}
			}
		}
	}
	return "", false
}
