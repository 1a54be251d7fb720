package nftables

import (
	"fmt"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Usable says why the kernel's nf_tables cannot be used; nil when they can. Kernels may have them without IPv4 or without
// translation, so a chain that translates is made and taken away again, both in one transaction: nobody else sees it.
func Usable() error {
	c, err := nft.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := c.AddTable(&nft.Table{Family: nft.TableFamilyIPv4, Name: Table + "-probe"})
	chain := c.AddChain(&nft.Chain{Name: "nat", Table: table, Type: nft.ChainTypeNAT, Hooknum: nft.ChainHookPrerouting, Priority: nft.ChainPriorityNATDest})
	c.AddRule(&nft.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Immediate{Register: reg, Data: []byte{127, 0, 0, 1}},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg},
	}})
	c.DelTable(table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}
