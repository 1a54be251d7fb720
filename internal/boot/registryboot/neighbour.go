package registryboot

import (
	"net"
	"net/netip"

	"longshore/internal/core/handover"
)

// Neighbour is the registry as the engine of the same process knows it.
type Neighbour struct {
	*handover.Desk
	addr netip.AddrPort
	// indexed says that the registry serves the index API.
	indexed bool
}

// Neighbour gives the engine what it needs to exchange blobs as files.
func (r *Registry) Neighbour() *Neighbour {
	n := &Neighbour{Desk: &r.desk, indexed: r.old.hub != nil}
	if a, err := netip.ParseAddrPort(r.Addr().String()); err == nil {
		n.addr = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return n
}

// At tells whether a host with port is where the registry listens: its address, or the loopback when it listens there.
// Other names are not looked up; under them the bytes are sent.
func (n *Neighbour) At(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil || !n.addr.IsValid() || port != n.port() {
		return false
	}
	loopback := n.addr.Addr().IsUnspecified() || n.addr.Addr().IsLoopback()
	if name == "localhost" {
		return loopback
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	ip = ip.Unmap()
	return ip == n.addr.Addr() || n.addr.Addr().IsUnspecified() && ip.IsLoopback()
}

// Index is where the engine's searches go that name no host; empty when the index API is switched off.
func (n *Neighbour) Index() string {
	if !n.indexed || !n.addr.IsValid() {
		return ""
	}
	if n.addr.Addr().IsUnspecified() {
		return net.JoinHostPort("localhost", n.port())
	}
	return n.addr.String()
}

func (n *Neighbour) port() string {
	_, port, _ := net.SplitHostPort(n.addr.String()) //nolint:errcheck // an address that was written by its own type
	return port
}
