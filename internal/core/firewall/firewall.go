// Package firewall is the contract between the engine's networks and the part of the kernel that filters and translates
// packets. There is one implementation for nftables and one for hosts that have iptables only; firewalltest holds the
// suite that both pass.
//
// What every implementation does, per address family:
//
//	published ports   a connection to one of the host's own addresses is led to the container: from other hosts, from
//	                  the host itself (127.0.0.0/8 too) and from containers, the publishing one included
//	other ports       are closed to everybody outside of the bridge, unless the network's gateway mode opens them
//	bridges           are closed against each other, internal ones against everything but the host
//	leaving a bridge  masquerades, or takes the address that the network asks for
//	the host's rules  stay in force: what drops a port for the host drops it for containers
package firewall

import (
	"context"
	"net/netip"
)

// Gateway is how one address family of a network meets what lies outside of it.
type Gateway uint8

// Docker's gateway modes. "isolated" needs nothing of a firewall: such a bridge has no address.
const (
	NAT         Gateway = iota // published ports are translated, all others closed
	Unprotected                // as NAT, and every port is open to those who have a route to the container
	Routed                     // nothing is translated; published ports are open to those who have a route
)

// Network is a bridge as the firewall must know it.
type Network struct {
	Bridge  string
	Subnets []netip.Prefix
	// Masquerade gives what leaves the bridge the host's address; Source4 and Source6, where valid, are the addresses to
	// give instead of the one that the route says.
	Masquerade       bool
	Source4, Source6 netip.Addr
	// Internal cuts the bridge off from everything but itself and the host.
	Internal bool
	// Mode4 and Mode6 are the gateway modes of the families.
	Mode4, Mode6 Gateway
	// Separate closes the bridge's containers against each other, but for Links. Their packets do not cross the bridge;
	// whoever makes its ports sees to that.
	Separate bool
	Links    []Link
	// Guard4 and Guard6 say that the host forwards packets of a family only because the engine switched that on for this
	// network: the host then forwards nothing that is of no bridge of ours, so that it does not become everybody's router.
	Guard4, Guard6 bool
	// Trusted are interfaces of the host from where published ports are open at the container's own address, too.
	Trusted []string
}

// Mode is the gateway mode of a family.
func (n Network) Mode(ipv6 bool) Gateway {
	if ipv6 {
		return n.Mode6
	}
	return n.Mode4
}

// Guard is Guard4 or Guard6.
func (n Network) Guard(ipv6 bool) bool {
	if ipv6 {
		return n.Guard6
	}
	return n.Guard4
}

// Source is the address that leaving traffic of a family takes, if one is asked for.
func (n Network) Source(ipv6 bool) netip.Addr {
	if ipv6 {
		return n.Source6
	}
	return n.Source4
}

// Link lets one container of a separated bridge reach one port of another.
type Link struct {
	From  netip.Addr
	Proto uint8
	To    netip.AddrPort
}

// Port is a published port.
type Port struct {
	// Proto is the protocol's number: unix.IPPROTO_TCP, _UDP or _SCTP.
	Proto uint8
	// HostIP is one address of the host, of the target's family; unspecified means all of them.
	HostIP netip.Addr
	// HostPort is the port there; 0 translates nothing and only opens the target (gateway mode "routed").
	HostPort uint16
	Target   netip.AddrPort
}

// Config is what holds for the whole host.
type Config struct {
	// NoIPv4 and NoIPv6 leave a family alone altogether (--iptables=false, --ip6tables=false).
	NoIPv4, NoIPv6 bool
	// AllowDirect opens published ports at the containers' own addresses to everybody (--allow-direct-routing).
	AllowDirect bool
	// Mark and Mask let packets into every bridge whose mark, masked, is Mark (--bridge-accept-fwmark); Mask 0: none.
	Mark, Mask uint32
}

// Skips says whether the engine leaves a family alone.
func (c Config) Skips(ipv6 bool) bool {
	if ipv6 {
		return c.NoIPv6
	}
	return c.NoIPv4
}

// Firewall keeps the rules of one network namespace: the one that its methods are called in. Safe for concurrent use.
// The rules stay when the daemon ends, as containers go on.
type Firewall interface {
	// Reset puts exactly these networks and ports in force, whatever a dead daemon left. Ports that were in force and
	// stay so work throughout.
	Reset(networks []Network, ports []Port) error
	// AddNetwork puts a bridge's rules in force, in place of those it had.
	AddNetwork(n Network) error
	// RemoveNetwork takes a bridge's rules back; one that is not known is no error.
	RemoveNetwork(bridge string) error
	// Publish puts ports in force: all of them or none.
	Publish(ports []Port) error
	// Unpublish takes ports back; those that are not in force are no error.
	Unpublish(ports []Port) error
	// Run repairs within a second what others break, and follows the host's own rules, until ctx ends.
	Run(ctx context.Context) error
	// Close lets go of the kernel. The rules stay.
	Close()
}

// Key is what a published port is unique by.
type Key struct {
	Proto uint8
	IP    netip.Addr
	Port  uint16
	// Target distinguishes ports that are only opened.
	Target netip.AddrPort
}

// Key is the port's key.
func (p Port) Key() Key {
	k := Key{Proto: p.Proto, IP: p.HostIP, Port: p.HostPort}
	if p.HostPort == 0 {
		k.Target = p.Target
	}
	return k
}
