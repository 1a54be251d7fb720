package networks

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	mobynet "github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
	"longshore/internal/core/network"
	"longshore/internal/driver/bridge"
	"longshore/internal/driver/hostport"
	"longshore/internal/driver/nftables"
)

func protoNumber(p mobynet.IPProtocol) uint8 {
	switch p {
	case mobynet.UDP:
		return unix.IPPROTO_UDP
	case mobynet.SCTP:
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}

// publishPorts reserves host ports for what a request publishes and puts them in force towards an endpoint. On error
// nothing is held.
func (s *Service) publishPorts(box *sandbox, via *endpoint) error {
	wishes, err := network.Publications(box.rec.Request)
	if err != nil || via == nil || len(wishes) == 0 {
		return err
	}
	n := s.nets.get(via.NetworkID)
	for _, w := range wishes {
		addrs := s.bindAddrs(n, w.HostIP, via)
		if len(addrs) == 0 {
			continue // an address of a family that the container does not have
		}
		lease, err := s.ports.Reserve(hostport.Want{Proto: protoNumber(w.Port.Proto()), Addrs: addrs, First: w.First, Last: w.Last})
		if err != nil {
			s.releasePorts(box)
			return publishError(err, box, via, w, addrs)
		}
		box.leases = append(box.leases, lease)
		for _, a := range addrs {
			target := via.IPv4.Addr()
			if a.Is6() {
				target = via.IPv6.Addr()
			}
			box.rec.Published = append(box.rec.Published, network.Published{Port: w.Port, HostIP: a, HostPort: lease.Port, Target: target})
		}
	}
	if err := s.firewall.Publish(firewallPorts(box.rec.Published)); err != nil {
		s.releasePorts(box)
		return err
	}
	forgetFlows(box.rec.Published)
	return nil
}

// publishError says what failed in docker's words.
func publishError(err error, box *sandbox, via *endpoint, w network.Publication, addrs []netip.Addr) error {
	var text string
	if errno := unix.Errno(0); errors.As(err, &errno) {
		port := strconv.Itoa(int(w.First))
		if w.Last != w.First {
			port += "-" + strconv.Itoa(int(w.Last))
		}
		text = fmt.Sprintf("failed to bind host port for %s:%s:%s:%s: %s", addrs[0], port, via.IPv4.Addr(), w.Port, errno)
	} else {
		text = err.Error()
	}
	return fault.Internal("driver failed programming external connectivity on endpoint %s (%s): %s", box.rec.Request.Name, via.ID, text)
}

// bindAddrs are the host addresses to publish on.
func (s *Service) bindAddrs(n *netw, asked netip.Addr, via *endpoint) []netip.Addr {
	have := func(a netip.Addr) bool { return (a.Is4() && via.IPv4.IsValid()) || (a.Is6() && via.IPv6.IsValid()) }
	if asked.IsValid() {
		if have(asked) {
			return []netip.Addr{asked}
		}
		return nil
	}
	def := s.cfg.BindIP
	if a, err := netip.ParseAddr(n.rec.Options[optBindIP]); err == nil {
		def = a
	}
	candidates := []netip.Addr{def}
	if def.IsUnspecified() {
		candidates = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	var out []netip.Addr
	for _, a := range candidates {
		if have(a) {
			out = append(out, a)
		}
	}
	return out
}

// releasePorts gives back what a sandbox holds of the host.
func (s *Service) releasePorts(box *sandbox) {
	if len(box.rec.Published) > 0 {
		if err := s.firewall.Unpublish(firewallPorts(box.rec.Published)); err != nil {
			s.deps.Log.Error("published ports stay in the firewall until the next start", "container", box.rec.Request.ContainerID, "error", err)
		}
		forgetFlows(box.rec.Published)
	}
	for _, l := range box.leases {
		l.Release()
	}
	box.leases, box.rec.Published = nil, nil
}

// forgetFlows keeps long-lived UDP flows from sticking to a container that is gone, or to the host.
func forgetFlows(published []network.Published) {
	for _, p := range published {
		if p.Port.Proto() == mobynet.UDP {
			bridge.ForgetFlows(p.HostPort, p.Target)
		}
	}
}

func firewallPorts(published []network.Published) []nftables.Port {
	out := make([]nftables.Port, 0, len(published))
	for _, p := range published {
		out = append(out, nftables.Port{
			Proto: protoNumber(p.Port.Proto()), HostIP: p.HostIP, HostPort: p.HostPort,
			Target: netip.AddrPortFrom(p.Target, p.Port.Num()),
		})
	}
	return out
}

// groupPublished puts together what one lease holds: the same port of several addresses.
func groupPublished(published []network.Published) [][]network.Published {
	var out [][]network.Published
	for _, p := range published {
		last := len(out) - 1
		if last >= 0 && out[last][0].HostPort == p.HostPort && out[last][0].Port == p.Port && out[last][0].HostIP.Is4() != p.HostIP.Is4() && len(out[last]) == 1 {
			out[last] = append(out[last], p)
			continue
		}
		out = append(out, []network.Published{p})
	}
	return out
}

func hostAddrs(published []network.Published) []netip.Addr {
	out := make([]netip.Addr, 0, len(published))
	for _, p := range published {
		out = append(out, p.HostIP)
	}
	return out
}

// portMap is the published ports as inspect shows them, with exposed ones that are not published.
func portMap(r network.Request, published []network.Published) mobynet.PortMap {
	out := mobynet.PortMap{}
	for p := range r.Exposed {
		out[p] = nil
	}
	for _, p := range published {
		out[p.Port] = append(out[p.Port], mobynet.PortBinding{HostIP: p.HostIP, HostPort: strconv.Itoa(int(p.HostPort))})
	}
	return out
}
