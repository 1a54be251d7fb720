package engineboot

import (
	"net/netip"

	"longshore/internal/core/firewall"
	"longshore/internal/driver/nftables"
)

// wall is the firewall that this host has.
type wall struct {
	firewall.Firewall
	redirectDNS func(addr netip.Addr, udp, tcp uint16) error
}

// firewall chooses the backend.
func (e *engine) firewall(cfg firewall.Config) (wall, error) {
	return wall{nftables.New(cfg, e.log), nftables.RedirectDNS}, nil
}
