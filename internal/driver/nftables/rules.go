package nftables

import (
	"encoding/binary"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers: 1 is 16 bytes wide; from 8 on they are the same storage in pieces of 4 bytes.
const reg, reg32 = 1, 8

// rules collects rules of one table.
type rules struct {
	c     *nft.Conn
	table *nft.Table
}

func (r rules) add(chain *nft.Chain, exprs ...[]expr.Any) {
	var all []expr.Any
	for _, e := range exprs {
		all = append(all, e...)
	}
	r.c.AddRule(&nft.Rule{Table: r.table, Chain: chain, Exprs: all})
}

// base is a chain that the kernel calls.
func (r rules) base(name string, t nft.ChainType, hook *nft.ChainHook, prio int32) *nft.Chain {
	accept := nft.ChainPolicyAccept
	return r.c.AddChain(&nft.Chain{
		Name: name, Table: r.table, Type: t, Hooknum: hook, Priority: nft.ChainPriorityRef(nft.ChainPriority(prio)), Policy: &accept,
	})
}

// chains adds our chains and their rules to the transaction.
func (f family) chains(c *nft.Conn) {
	r := rules{c, f.table}
	f.translation(r)
	f.filter(r)
	if !f.v6 {
		r.add(r.base("raw", nft.ChainTypeFilter, nft.ChainHookPrerouting, -300), in(f.bridges), loopback(16), verdict(expr.VerdictDrop))
	}
}

// translation is what gives packets other addresses.
func (f family) translation(r rules) {
	publish := r.c.AddChain(&nft.Chain{Name: "publish", Table: f.table})
	r.add(publish, f.found(f.publishedAddr, true), f.dnat())
	r.add(publish, f.found(f.published, false), f.dnat())
	jump := []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: publish.Name}}
	pre := r.base("prerouting", nft.ChainTypeNAT, nft.ChainHookPrerouting, -100)
	output := r.base("output", nft.ChainTypeNAT, nft.ChainHookOutput, -100)
	if f.v6 {
		// The kernel has no route_localnet here; what is published at ::1 is the port proxy's.
		r.add(output, loopback6(), verdict(expr.VerdictReturn))
	} else {
		// What is published at 127.0.0.0/8 is for the host only, whatever packets come from elsewhere say.
		r.add(pre, loopback(16), verdict(expr.VerdictReturn))
	}
	r.add(pre, toHost(), jump)
	r.add(output, toHost(), jump)

	masquerade := []expr.Any{&expr.Masq{}}
	post := r.base("postrouting", nft.ChainTypeNAT, nft.ChainHookPostrouting, 100)
	// A container that reaches another (or itself) through a published port would get the answer from a stranger.
	r.add(post, out(f.bridges), natted(), f.from(f.subnets), masquerade)
	if !f.v6 {
		r.add(post, out(f.bridges), loopback(12), masquerade)
	}
	r.add(post, out(f.bridges), verdict(expr.VerdictReturn))
	r.add(post, f.from(f.masq), masquerade)
	r.add(post, f.snat())
}

// filter is what lets packets into bridges and out of them.
func (f family) filter(r rules) {
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	forward := r.base("forward", nft.ChainTypeFilter, nft.ChainHookForward, 0)
	if f.cfg.Mask != 0 {
		r.add(forward, out(f.bridges), marked(f.cfg.Mark, f.cfg.Mask), accept)
	}
	r.add(forward, pairIn(f.same), accept)
	r.add(forward, in(f.internal), drop)
	r.add(forward, out(f.internal), drop)
	r.add(forward, out(f.bridges), established(), accept)
	r.add(forward, out(f.bridges), natted(), accept)
	r.add(forward, out(f.bridges), f.linked(), accept)
	r.add(forward, out(f.open), accept)
	r.add(forward, out(f.routed), f.ping(), accept)
	r.add(forward, out(f.routed), f.aimed(), accept)
	r.add(forward, pairIn(f.trusted), f.aimed(), accept)
	if f.cfg.AllowDirect {
		r.add(forward, out(f.bridges), f.aimed(), accept)
	}
	r.add(forward, out(f.bridges), drop)
	r.add(forward, in(f.bridges), accept)
	if f.guarded {
		r.add(forward, drop)
	}
}

// toHost matches packets for one of the host's own addresses.
func toHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}
}

// key fills the registers from reg32 on with the protocol, the addresses at the given offsets of the IP header, and the
// destination port.
func (f family) key(addresses ...uint32) []expr.Any {
	next := uint32(reg32)
	exprs := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next}}
	next++
	for _, at := range addresses {
		exprs = append(exprs, &expr.Payload{DestRegister: next, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: f.length()})
		next += f.length() / 4
	}
	return append(exprs, &expr.Payload{DestRegister: next, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
}

// length of an address; saddr and daddr are where they are in the IP header.
func (f family) length() uint32 {
	if f.v6 {
		return 16
	}
	return 4
}

func (f family) saddr() uint32 {
	if f.v6 {
		return 8
	}
	return 12
}

func (f family) daddr() uint32 { return f.saddr() + f.length() }

// found looks a published port up by protocol, address where the map has it, and port; without an element the rule does
// not match. Address and port of the target are in reg32 and after it.
func (f family) found(m *nft.Set, byAddress bool) []expr.Any {
	var addresses []uint32
	if byAddress {
		addresses = append(addresses, f.daddr())
	}
	return append(f.key(addresses...), &expr.Lookup{SourceRegister: reg32, DestRegister: reg32, IsDestRegSet: true, SetName: m.Name, SetID: m.ID})
}

// dnat translates to what found has found.
func (f family) dnat() []expr.Any {
	return []expr.Any{&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: uint32(f.table.Family), RegAddrMin: reg32, RegProtoMin: reg32 + f.length()/4, Specified: true,
	}}
}

// snat gives packets the address that their subnet has in the map.
func (f family) snat() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr(), Len: f.length()},
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: f.source.Name, SetID: f.source.ID},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(f.table.Family), RegAddrMin: reg},
	}
}

// aimed matches packets for the own address of a published port; linked those between linked containers.
func (f family) aimed() []expr.Any { return append(f.key(f.daddr()), member(f.targets)) }

func (f family) linked() []expr.Any { return append(f.key(f.saddr(), f.daddr()), member(f.links)) }

func member(s *nft.Set) expr.Any {
	return &expr.Lookup{SourceRegister: reg32, SetName: s.Name, SetID: s.ID}
}

// ping matches all of ICMP.
func (f family) ping() []expr.Any {
	proto := byte(unix.IPPROTO_ICMP)
	if f.v6 {
		proto = unix.IPPROTO_ICMPV6
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{proto}},
	}
}

// from matches packets from one of a set's subnets.
func (f family) from(s *nft.Set) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr(), Len: f.length()},
		&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID},
	}
}

// loopback matches 127.0.0.0/8 at an offset of the IPv4 header: 12 is the source, 16 the destination.
func loopback(offset uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{127}},
	}
}

// loopback6 matches the destination ::1.
func loopback6() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: append(make([]byte, 15), 1)},
	}
}

func in(s *nft.Set) []expr.Any  { return byInterface(expr.MetaKeyIIFNAME, s) }
func out(s *nft.Set) []expr.Any { return byInterface(expr.MetaKeyOIFNAME, s) }

func byInterface(k expr.MetaKey, s *nft.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: k, Register: reg},
		&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID},
	}
}

// pairIn matches packets whose incoming and outgoing interface are a pair of the set.
func pairIn(s *nft.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg + 1},
		&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID},
	}
}

// marked matches packets by mark and mask.
func marked(mark, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binary.NativeEndian.AppendUint32(nil, mark)},
	}
}

// ipsDstNAT is IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h: the destination was translated.
const ipsDstNAT = 1 << 5

func natted() []expr.Any { return ctBits(expr.CtKeySTATUS, ipsDstNAT) }
func established() []expr.Any {
	return ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

func ctBits(k expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: k, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)},
	}
}

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
