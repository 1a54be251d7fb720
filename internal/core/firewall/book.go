package firewall

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Book is what a firewall has to keep in force: bridges by name, published ports by key, and how many of them lead to each
// target. Its zero value is not ready: NewBook. Not safe for concurrent use.
type Book struct {
	Networks map[string]Network
	Ports    map[Key]Port
	targets  map[Target]int
}

// Target is where a published port leads.
type Target struct {
	Proto uint8
	Addr  netip.AddrPort
}

// NewBook makes an empty book.
func NewBook() Book {
	return Book{Networks: map[string]Network{}, Ports: map[Key]Port{}, targets: map[Target]int{}}
}

// Reset writes exactly these networks and ports; with none the book is empty.
func (b *Book) Reset(networks []Network, ports []Port) {
	clear(b.Networks)
	clear(b.Ports)
	clear(b.targets)
	for _, n := range networks {
		b.Networks[n.Bridge] = n
	}
	b.Add(ports)
}

// Sorted lists the networks by their bridges' names.
func (b *Book) Sorted() []Network {
	return slices.SortedFunc(maps.Values(b.Networks), func(x, y Network) int { return cmp.Compare(x.Bridge, y.Bridge) })
}

// Targets lists where ports lead, in no order.
func (b *Book) Targets() []Target { return slices.Collect(maps.Keys(b.targets)) }

// Has says whether exactly this port is in the book.
func (b *Book) Has(p Port) bool { return b.Ports[p.Key()] == p }

// Add enters ports, in place of others with their keys, and answers those that are the first to lead to their targets.
func (b *Book) Add(ports []Port) (first []Port) {
	for _, p := range ports {
		if old, had := b.Ports[p.Key()]; had {
			b.Remove([]Port{old})
		}
		b.Ports[p.Key()] = p
		t := Target{p.Proto, p.Target}
		if b.targets[t]++; b.targets[t] == 1 {
			first = append(first, p)
		}
	}
	return first
}

// Remove strikes out ports that are in the book and answers those that were the last to lead to their targets.
func (b *Book) Remove(ports []Port) (last []Port) {
	for _, p := range ports {
		delete(b.Ports, p.Key())
		t := Target{p.Proto, p.Target}
		if b.targets[t]--; b.targets[t] <= 0 {
			delete(b.targets, t)
			last = append(last, p)
		}
	}
	return last
}
