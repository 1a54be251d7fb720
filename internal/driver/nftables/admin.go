package nftables

import (
	nft "github.com/google/nftables"
)

// admin makes the administrator's table where it is missing: two empty chains that packets to containers pass before
// ours do anything with them. What is in them is the administrator's; the engine neither reads nor changes it.
//
//	chain prerouting  before translation: the host's addresses and ports, as in the host's own input chain
//	chain forward     after translation: containers' addresses and ports (the host's port is ct original proto-dst)
func (f *Firewall) admin(c *nft.Conn) {
	if f.cfg.NoIPv4 && f.cfg.NoIPv6 {
		return
	}
	r := rules{c, c.AddTable(&nft.Table{Name: AdminTable, Family: nft.TableFamilyINet})}
	r.base("prerouting", nft.ChainTypeFilter, nft.ChainHookPrerouting, -110)
	r.base("forward", nft.ChainTypeFilter, nft.ChainHookForward, -10)
}
