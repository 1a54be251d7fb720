package engineboot

import (
	"fmt"
	"net/netip"

	"longshore/internal/core/firewall"
	"longshore/internal/driver/iptables"
	"longshore/internal/driver/nftables"
)

// wall is the firewall that this host has.
type wall struct {
	firewall.Firewall
	redirectDNS func(addr netip.Addr, udp, tcp uint16) error
}

// firewall makes the backend that is asked for, else nftables where the kernel has it, else iptables. What the other one
// left on this host, when somebody changed the setting, is taken away.
func (e *engine) firewall(cfg firewall.Config) (wall, error) {
	nft := nftables.Usable()
	backend := firewallBackend(e.cfg.FirewallBackend, nft == nil)
	if backend == "iptables" {
		if !iptables.Usable() {
			return wall{}, fmt.Errorf("firewall-backend: the programs iptables-restore and iptables-save are missing (the kernel's nf_tables: %v)", nft)
		}
		if nft == nil {
			if err := nftables.New(cfg, e.log).Remove(); err != nil {
				e.log.Warn("tables of nftables stay", "error", err)
			}
		}
		return wall{iptables.New(cfg, "", e.log), iptables.RedirectDNS}, nil
	}
	if nft != nil {
		return wall{}, fmt.Errorf("firewall-backend: the kernel has no nf_tables: %w", nft)
	}
	if err := iptables.Retire(e.log); err != nil {
		e.log.Warn("chains of iptables stay", "error", err)
	}
	return wall{nftables.New(cfg, e.log), nftables.RedirectDNS}, nil
}

// firewallBackend is the one to use.
func firewallBackend(asked string, nft bool) string {
	switch {
	case asked != "":
		return asked
	case !nft && iptables.Usable():
		return "iptables"
	}
	return "nftables"
}
