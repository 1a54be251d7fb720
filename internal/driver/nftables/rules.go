package nftables

import (
	"encoding/binary"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers: 1 is 16 bytes wide; from 8 on they are the same storage in pieces of 4 bytes.
const reg, reg32 = 1, 8

// chains adds our chains and their rules to the transaction.
func (f family) chains(c *nft.Conn) {
	publish := c.AddChain(&nft.Chain{Name: "publish", Table: f.table})
	add := func(chain *nft.Chain, exprs ...[]expr.Any) {
		var all []expr.Any
		for _, e := range exprs {
			all = append(all, e...)
		}
		c.AddRule(&nft.Rule{Table: f.table, Chain: chain, Exprs: all})
	}
	base := func(name string, t nft.ChainType, hook *nft.ChainHook, prio int32) *nft.Chain {
		accept := nft.ChainPolicyAccept
		return c.AddChain(&nft.Chain{Name: name, Table: f.table, Type: t, Hooknum: hook, Priority: nft.ChainPriorityRef(nft.ChainPriority(prio)), Policy: &accept})
	}
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	masquerade := []expr.Any{&expr.Masq{}}

	add(publish, f.dnat(f.publishedAddr, true))
	add(publish, f.dnat(f.published, false))
	jump := []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: publish.Name}}
	add(base("prerouting", nft.ChainTypeNAT, nft.ChainHookPrerouting, -100), toHost(), jump)
	add(base("output", nft.ChainTypeNAT, nft.ChainHookOutput, -100), toHost(), jump)

	post := base("postrouting", nft.ChainTypeNAT, nft.ChainHookPostrouting, 100)
	// A container that reaches another (or itself) through a published port would get the answer from a stranger.
	add(post, out(f.bridges), natted(), f.source(f.subnets), masquerade)
	if !f.v6 {
		add(post, out(f.bridges), loopback(12), masquerade)
	}
	add(post, out(f.bridges), verdict(expr.VerdictReturn))
	add(post, f.source(f.masq), masquerade)

	forward := base("forward", nft.ChainTypeFilter, nft.ChainHookForward, 0)
	add(forward, within(f.same), accept)
	add(forward, in(f.internal), drop)
	add(forward, out(f.internal), drop)
	add(forward, out(f.bridges), established(), accept)
	add(forward, out(f.bridges), natted(), accept)
	add(forward, out(f.bridges), drop)
	add(forward, in(f.bridges), accept)
	if !f.v6 {
		add(base("raw", nft.ChainTypeFilter, nft.ChainHookPrerouting, -300), in(f.bridges), loopback(16), drop)
	}
}

// toHost matches packets for one of the host's own addresses.
func toHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}
}

// dnat looks the target up by protocol, address where the map has it, and port; without an element the rule does not
// match.
func (f family) dnat(m *nft.Set, byAddress bool) []expr.Any {
	length, at := uint32(4), uint32(16) // of the destination address in the IP header
	if f.v6 {
		length, at = 16, 24
	}
	next := uint32(reg32)
	exprs := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next}}
	next++
	if byAddress {
		exprs = append(exprs, &expr.Payload{DestRegister: next, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: length})
		next += length / 4
	}
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.table.Family), RegAddrMin: reg32, RegProtoMin: reg32 + length/4, Specified: true}
	return append(exprs,
		&expr.Payload{DestRegister: next, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg32, DestRegister: reg32, IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
		nat)
}

// source matches packets from one of a set's subnets.
func (f family) source(s *nft.Set) []expr.Any {
	length, at := uint32(4), uint32(12)
	if f.v6 {
		length, at = 16, 8
	}
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: length},
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

func in(s *nft.Set) []expr.Any  { return byInterface(expr.MetaKeyIIFNAME, s) }
func out(s *nft.Set) []expr.Any { return byInterface(expr.MetaKeyOIFNAME, s) }

func byInterface(k expr.MetaKey, s *nft.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: k, Register: reg},
		&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID},
	}
}

// within matches packets that come in and go out by the same bridge.
func within(s *nft.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg + 1},
		&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID},
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
