package nftables

import (
	"encoding/binary"
	"fmt"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// multiportInfo is struct xt_multiport_v1 of linux/netfilter/xt_multiport.h: flags (1: destination ports), count, 15 ports,
// 15 marks of ports that begin a range, inversion.
const (
	multiportLen         = 48
	multiportDestination = 1
	multiportMax         = 15
)

// setName is a new name for a copied set.
func (cp *copier) setName() string {
	cp.sets++
	return fmt.Sprintf("host_set_%d", cp.sets-1)
}

// multiports puts a look into a set in the place of iptables' multiport, which cannot be copied without the rest of its
// rule; false for one that it does not understand.
func (cp *copier) multiports(s *step) bool {
	for i := 0; i < len(s.exprs); i++ {
		m, ok := s.exprs[i].(*expr.Match)
		if !ok || m.Name != "multiport" {
			continue
		}
		elements, invert, ok := multiport(m)
		if !ok {
			return false
		}
		set := &nft.Set{Name: cp.setName(), KeyType: nft.TypeInetService, Interval: true}
		s.sets = append(s.sets, copiedSet{set, elements})
		look := []expr.Any{
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Lookup{SourceRegister: reg, SetName: set.Name, Invert: invert},
		}
		s.exprs = append(s.exprs[:i:i], append(look, s.exprs[i+1:]...)...)
		i++
	}
	return true
}

// multiport reads the ports of a match as the elements of an interval set.
func multiport(m *expr.Match) (elements []nft.SetElement, invert, ok bool) {
	raw, isRaw := m.Info.(*xt.Unknown)
	if !isRaw || m.Rev != 1 || len(*raw) < multiportLen {
		return nil, false, false
	}
	b := []byte(*raw)
	count := int(b[1])
	if b[0] != multiportDestination || count > multiportMax {
		return nil, false, false
	}
	at := func(i int) uint16 { return binary.NativeEndian.Uint16(b[2+2*i:]) }
	ranges := b[2+2*multiportMax:]
	for i := 0; i < count; i++ {
		lo := at(i)
		hi := lo
		if ranges[i] != 0 && i+1 < count {
			i++
			hi = at(i)
		}
		elements = append(elements, nft.SetElement{Key: binary.BigEndian.AppendUint16(nil, lo)})
		if hi < 0xffff {
			elements = append(elements, nft.SetElement{Key: binary.BigEndian.AppendUint16(nil, hi+1), IntervalEnd: true})
		}
	}
	return elements, ranges[multiportMax] != 0, true
}
