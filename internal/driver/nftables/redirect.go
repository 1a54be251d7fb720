package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// RedirectDNS makes port 53 of the embedded DNS address lead to the ports where the resolver really listens, in the
// network namespace of the calling thread: a container must stay free to run a DNS server of its own on port 53.
// Rules of an earlier call are replaced. (Deleting the table first would be simpler, but costs a kernel grace period.)
func RedirectDNS(addr netip.Addr, udp, tcp uint16) error {
	c, err := nft.New()
	if err != nil {
		return fmt.Errorf("nftables: redirect DNS: %w", err)
	}
	t := c.AddTable(&nft.Table{Name: Table, Family: nft.TableFamilyIPv4})
	out := c.AddChain(&nft.Chain{Name: "dns", Table: t, Type: nft.ChainTypeNAT, Hooknum: nft.ChainHookOutput, Priority: nft.ChainPriorityNATDest})
	c.FlushChain(out)
	for _, r := range []struct {
		proto byte
		port  uint16
	}{{unix.IPPROTO_UDP, udp}, {unix.IPPROTO_TCP, tcp}} {
		c.AddRule(&nft.Rule{Table: t, Chain: out, Exprs: []expr.Any{
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Register: reg, Op: expr.CmpOpEq, Data: addr.AsSlice()},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
			&expr.Cmp{Register: reg, Op: expr.CmpOpEq, Data: []byte{r.proto}},
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Register: reg, Op: expr.CmpOpEq, Data: []byte{0, 53}},
			&expr.Immediate{Register: reg, Data: addr.AsSlice()},
			&expr.Immediate{Register: reg + 1, Data: binary.BigEndian.AppendUint16(nil, r.port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg, RegProtoMin: reg + 1, Specified: true},
		}})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: redirect DNS: %w", err)
	}
	return nil
}
