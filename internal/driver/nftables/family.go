package nftables

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"

	nft "github.com/google/nftables"

	"longshore/internal/core/firewall"
)

// family is our table of one address family: the names of its sets and how their keys look.
type family struct {
	table *nft.Table
	v6    bool
	cfg   firewall.Config
	// guarded tables let nothing be forwarded that is of no bridge of ours.
	guarded bool
	sets
}

// sets are the table's sets and maps.
type sets struct {
	bridges, internal, open, routed *nft.Set // interface names of our bridges: all, those cut off, and by gateway mode

	same    *nft.Set // (bridge . the same bridge): bridged packets that br_netfilter shows to us
	trusted *nft.Set // (interface of the host . bridge): may reach published ports at their own addresses
	subnets *nft.Set // subnets of our bridges
	masq    *nft.Set // those that are masqueraded
	source  *nft.Set // those that leave with an address of their own → address

	published     *nft.Set // proto . port → address . port
	publishedAddr *nft.Set // proto . host address . port → address . port
	targets       *nft.Set // proto . address . port: where published ports lead
	links         *nft.Set // proto . from . to . port: containers of separated bridges that may meet
}

// all lists them.
func (f sets) all() []*nft.Set {
	return []*nft.Set{
		f.bridges, f.internal, f.open, f.routed, f.same, f.trusted, f.subnets, f.masq, f.source,
		f.published, f.publishedAddr, f.targets, f.links,
	}
}

// families describes our tables: IPv4's, and IPv6's where the kernel has IPv6.
func families(cfg firewall.Config) []family {
	var all []family
	if !cfg.NoIPv4 {
		all = append(all, newFamily(cfg, false))
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil && !cfg.NoIPv6 {
		all = append(all, newFamily(cfg, true))
	}
	return all
}

func newFamily(cfg firewall.Config, v6 bool) family {
	t := &nft.Table{Name: Table, Family: nft.TableFamilyIPv4}
	addr := nft.TypeIPAddr
	if v6 {
		t.Family, addr = nft.TableFamilyIPv6, nft.TypeIP6Addr
	}
	set := func(name string, key nft.SetDatatype) *nft.Set { return &nft.Set{Table: t, Name: name, KeyType: key} }
	f := family{table: t, v6: v6, cfg: cfg, sets: sets{
		bridges:       set("bridges", nft.TypeIFName),
		internal:      set("internal", nft.TypeIFName),
		open:          set("open", nft.TypeIFName),
		routed:        set("routed", nft.TypeIFName),
		same:          set("same", concat(nft.TypeIFName, nft.TypeIFName)),
		trusted:       set("trusted", concat(nft.TypeIFName, nft.TypeIFName)),
		subnets:       set("subnets", addr),
		masq:          set("masquerade", addr),
		source:        set("source", addr),
		published:     set("published", concat(nft.TypeInetProto, nft.TypeInetService)),
		publishedAddr: set("published_addr", concat(nft.TypeInetProto, addr, nft.TypeInetService)),
		targets:       set("targets", concat(nft.TypeInetProto, addr, nft.TypeInetService)),
		links:         set("links", concat(nft.TypeInetProto, addr, addr, nft.TypeInetService)),
	}}
	f.subnets.Interval, f.masq.Interval, f.source.Interval = true, true, true
	f.source.IsMap, f.source.DataType = true, addr
	for _, m := range []*nft.Set{f.published, f.publishedAddr} {
		m.IsMap, m.DataType = true, concat(addr, nft.TypeInetService)
	}
	return f
}

// concat cannot fail for the two or three types that it is called with.
func concat(types ...nft.SetDatatype) nft.SetDatatype {
	t, err := nft.ConcatSetType(types...)
	if err != nil {
		return nft.TypeInvalid
	}
	return t
}

// create adds everything inside of an empty table to the transaction.
func (f family) create(c *nft.Conn, networks []firewall.Network, ports []firewall.Port) error {
	f.guarded = guarded(networks, f.v6)
	for _, s := range f.all() {
		if err := c.AddSet(s, nil); err != nil {
			return err
		}
	}
	f.chains(c)
	for _, n := range networks {
		if err := f.network(n, c.SetAddElements); err != nil {
			return err
		}
	}
	if err := f.publish(ports, c.SetAddElements); err != nil {
		return err
	}
	return f.aim(ports, c.SetAddElements)
}

func guarded(networks []firewall.Network, ipv6 bool) bool {
	return slices.ContainsFunc(networks, func(n firewall.Network) bool { return n.Guard(ipv6) })
}

// edit is SetAddElements or SetDeleteElements.
type edit func(*nft.Set, []nft.SetElement) error

// network adds or deletes a bridge's elements.
func (f family) network(n firewall.Network, do edit) error {
	name := ifname(n.Bridge)
	sets := []*nft.Set{f.bridges}
	switch mode := n.Mode(f.v6); {
	case n.Internal:
		sets = append(sets, f.internal)
	case mode == firewall.Routed:
		sets = append(sets, f.routed)
	case mode == firewall.Unprotected:
		sets = append(sets, f.open)
	}
	for _, s := range sets {
		if err := do(s, []nft.SetElement{{Key: name}}); err != nil {
			return err
		}
	}
	if !n.Separate {
		if err := do(f.same, []nft.SetElement{{Key: pair(n.Bridge, n.Bridge)}}); err != nil {
			return err
		}
	}
	for _, trusted := range n.Trusted {
		if err := do(f.trusted, []nft.SetElement{{Key: pair(trusted, n.Bridge)}}); err != nil {
			return err
		}
	}
	if err := f.link(n.Links, do); err != nil {
		return err
	}
	return f.addresses(n, do)
}

// addresses adds or deletes the elements of a bridge's subnets.
func (f family) addresses(n firewall.Network, do edit) error {
	for _, p := range n.Subnets {
		if p.Addr().Is6() != f.v6 {
			continue
		}
		if err := do(f.subnets, interval(p)); err != nil {
			return err
		}
		var err error
		switch src := n.Source(f.v6); {
		case !n.Masquerade || n.Internal || n.Mode(f.v6) == firewall.Routed:
		case src.IsValid():
			ends := interval(p)
			ends[0].Val = src.AsSlice()
			err = do(f.source, ends)
		default:
			err = do(f.masq, interval(p))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// link adds or deletes the elements of links.
func (f family) link(links []firewall.Link, do edit) error {
	var all []nft.SetElement
	for _, l := range links {
		if l.From.Is6() == f.v6 && l.To.Addr().Is6() == f.v6 {
			k := append([]byte{l.Proto, 0, 0, 0}, l.From.AsSlice()...)
			k = append(k, l.To.Addr().AsSlice()...)
			all = append(all, nft.SetElement{Key: append(k, port(l.To.Port())...)})
		}
	}
	return inChunks(f.links, all, do)
}

// chunk bounds the elements of one netlink attribute, whose length has 16 bits.
const chunk = 500

// publish adds or deletes the elements of ports that are translated.
func (f family) publish(ports []firewall.Port, do edit) error {
	var all, addr []nft.SetElement
	for _, p := range ports {
		if p.Target.Addr().Is6() != f.v6 || p.HostPort == 0 {
			continue
		}
		value := append(p.Target.Addr().AsSlice(), port(p.Target.Port())...)
		k := []byte{p.Proto, 0, 0, 0}
		if p.HostIP.IsUnspecified() || !p.HostIP.IsValid() {
			all = append(all, nft.SetElement{Key: append(k, port(p.HostPort)...), Val: value})
			continue
		}
		k = append(k, p.HostIP.AsSlice()...)
		addr = append(addr, nft.SetElement{Key: append(k, port(p.HostPort)...), Val: value})
	}
	if err := inChunks(f.published, all, do); err != nil {
		return err
	}
	return inChunks(f.publishedAddr, addr, do)
}

// aim adds or deletes ports' targets. Several ports may have one target: adding it twice is no error, deleting it is the
// caller's to do once.
func (f family) aim(ports []firewall.Port, do edit) error {
	var all []nft.SetElement
	for _, p := range ports {
		if p.Target.Addr().Is6() == f.v6 {
			k := append([]byte{p.Proto, 0, 0, 0}, p.Target.Addr().AsSlice()...)
			all = append(all, nft.SetElement{Key: append(k, port(p.Target.Port())...)})
		}
	}
	return inChunks(f.targets, all, do)
}

func inChunks(s *nft.Set, elements []nft.SetElement, do edit) error {
	for len(elements) > 0 {
		n := min(len(elements), chunk)
		if err := do(s, elements[:n]); err != nil {
			return err
		}
		elements = elements[n:]
	}
	return nil
}

// port is a port as a field of a concatenation: network order, padded to a register.
func port(p uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, p), 0, 0) }

// ifname is an interface name as the kernel compares it.
func ifname(s string) []byte {
	b := make([]byte, 16)
	copy(b[:15], s)
	return b
}

// pair is a concatenation of two interface names.
func pair(a, b string) []byte { return append(ifname(a), ifname(b)...) }

// interval is a prefix as the two elements of an interval set.
func interval(p netip.Prefix) []nft.SetElement {
	p = p.Masked()
	end := p.Addr().AsSlice()
	for i := p.Bits(); i < len(end)*8; i++ {
		end[i/8] |= 1 << (7 - i%8)
	}
	out := []nft.SetElement{{Key: p.Addr().AsSlice()}}
	last, _ := netip.AddrFromSlice(end)
	if next := last.Next(); next.IsValid() {
		out = append(out, nft.SetElement{Key: next.AsSlice(), IntervalEnd: true})
	}
	return out
}
