package network

import (
	"net/netip"

	"github.com/moby/moby/api/types/network"
)

// Record is a network as it is kept on disk. It is immutable once made; a change makes a new one.
type Record struct {
	network.Network
	// Bridge is the kernel's name of the bridge interface; empty for other drivers.
	Bridge string `json:"Bridge,omitempty"`
	// Parent is the host's interface that a macvlan or ipvlan network's containers share; OwnParent says that the engine
	// made it.
	Parent    string `json:"Parent,omitempty"`
	OwnParent bool   `json:"OwnParent,omitempty"`
}

// EndpointRecord is one live endpoint as it is kept on disk while its container runs.
type EndpointRecord struct {
	ID        string
	NetworkID string
	// Interface is the name inside of the namespace (eth0), HostInterface the other end's.
	Interface, HostInterface string
	IPv4, IPv6               netip.Prefix
	Gateway, Gateway6        netip.Addr
	MAC                      network.HardwareAddr
	// Settings are the endpoint as asked for and as inspect shows it.
	Settings *network.EndpointSettings
}

// SandboxRecord is a live sandbox as it is kept on disk: what a new daemon needs to adopt it.
type SandboxRecord struct {
	Request Request
	// ID is the sandbox' own ID, NetNS the path of its namespace, Mode the resolved mode: "host", "none" or "bridge".
	ID, NetNS, Mode string
	Endpoints       []EndpointRecord
	Published       []Published
	// DNSUDP and DNSTCP are the ports of the embedded DNS server inside; 0 without.
	DNSUDP, DNSTCP uint16
}

// Published is one published port as it is.
type Published struct {
	Port network.Port
	// HostIP is the address asked for, unspecified (0.0.0.0 or ::) for all.
	HostIP   netip.Addr
	HostPort uint16
	// Target is the container's address.
	Target netip.Addr
}

// Proxied is a port that the port proxy, not the kernel, carries: from an address of the host to a container's.
type Proxied struct {
	// Proto is the protocol's number: 6, 17 or 132.
	Proto        uint8
	Host, Target netip.AddrPort
}
