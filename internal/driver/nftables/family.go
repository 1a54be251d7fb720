package nftables

import (
	"encoding/binary"
	"net/netip"
	"os"

	nft "github.com/google/nftables"
)

// family is our table of one address family: the names of its sets and how their keys look.
type family struct {
	table *nft.Table
	v6    bool

	bridges  *nft.Set // interface names of all our bridges
	internal *nft.Set // those that are cut off
	same     *nft.Set // (bridge . the same bridge): bridged packets that br_netfilter shows to us
	subnets  *nft.Set // subnets of our bridges
	masq     *nft.Set // those that are masqueraded

	published     *nft.Set // proto . port → address . port
	publishedAddr *nft.Set // proto . host address . port → address . port
}

// families describes our tables: IPv4's, and IPv6's where the kernel has IPv6.
func families() []family {
	all := []family{newFamily(false)}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		all = append(all, newFamily(true))
	}
	return all
}

func newFamily(v6 bool) family {
	t := &nft.Table{Name: Table, Family: nft.TableFamilyIPv4}
	addr := nft.TypeIPAddr
	if v6 {
		t.Family, addr = nft.TableFamilyIPv6, nft.TypeIP6Addr
	}
	set := func(name string, key nft.SetDatatype) *nft.Set { return &nft.Set{Table: t, Name: name, KeyType: key} }
	f := family{
		table: t, v6: v6,
		bridges:       set("bridges", nft.TypeIFName),
		internal:      set("internal", nft.TypeIFName),
		same:          set("same", concat(nft.TypeIFName, nft.TypeIFName)),
		subnets:       set("subnets", addr),
		masq:          set("masquerade", addr),
		published:     set("published", concat(nft.TypeInetProto, nft.TypeInetService)),
		publishedAddr: set("published_addr", concat(nft.TypeInetProto, addr, nft.TypeInetService)),
	}
	f.subnets.Interval, f.masq.Interval = true, true
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
func (f family) create(c *nft.Conn, networks []Network, ports []Port) error {
	for _, s := range []*nft.Set{f.bridges, f.internal, f.same, f.subnets, f.masq, f.published, f.publishedAddr} {
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
	return f.publish(ports, c.SetAddElements)
}

// edit is SetAddElements or SetDeleteElements.
type edit func(*nft.Set, []nft.SetElement) error

// network adds or deletes a bridge's elements.
func (f family) network(n Network, do edit) error {
	name := ifname(n.Bridge)
	if err := do(f.bridges, []nft.SetElement{{Key: name}}); err != nil {
		return err
	}
	if err := do(f.same, []nft.SetElement{{Key: append(append([]byte{}, name...), name...)}}); err != nil {
		return err
	}
	if n.Internal {
		if err := do(f.internal, []nft.SetElement{{Key: name}}); err != nil {
			return err
		}
	}
	for _, p := range n.Subnets {
		if p.Addr().Is6() != f.v6 {
			continue
		}
		if err := do(f.subnets, interval(p)); err != nil {
			return err
		}
		if !n.Masquerade || n.Internal {
			continue
		}
		if err := do(f.masq, interval(p)); err != nil {
			return err
		}
	}
	return nil
}

// chunk bounds the elements of one netlink attribute, whose length has 16 bits.
const chunk = 500

// publish adds or deletes ports' elements.
func (f family) publish(ports []Port, do edit) error {
	var all, addr []nft.SetElement
	for _, p := range ports {
		if p.Target.Addr().Is6() != f.v6 {
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
