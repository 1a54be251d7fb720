package networks

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
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

// targets are where published ports of each family lead: the endpoints that also are the way out. Either may be nil.
type targets struct{ v4, v6 *endpoint }

func (s *Service) targets(box *sandbox) targets {
	return targets{v4: s.exit(box, false), v6: s.exit(box, true)}
}

// addr is the container's address that a host address leads to; not valid without one of its family.
func (t targets) addr(host netip.Addr) netip.Addr {
	switch {
	case host.Is4() && t.v4 != nil:
		return t.v4.IPv4.Addr()
	case host.Is6() && t.v6 != nil:
		return t.v6.IPv6.Addr()
	}
	return netip.Addr{}
}

// main is the endpoint whose network decides what is not asked for, nil without any.
func (t targets) main() *endpoint {
	if t.v4 != nil {
		return t.v4
	}
	return t.v6
}

// moved says whether published ports lead elsewhere than they should.
func (t targets) moved(published []network.Published) bool {
	return len(published) == 0 || slices.ContainsFunc(published, func(p network.Published) bool { return t.addr(p.HostIP) != p.Target })
}

// publishPorts reserves host ports for what a request publishes and puts them in force. On error nothing is held.
func (s *Service) publishPorts(box *sandbox, to targets) error {
	wishes, err := network.Publications(box.rec.Request)
	if err != nil || to.main() == nil || len(wishes) == 0 {
		return err
	}
	n := s.nets.get(to.main().NetworkID)
	for _, w := range wishes {
		addrs := slices.DeleteFunc(s.bindAddrs(n, w.HostIP), func(a netip.Addr) bool { return !to.addr(a).IsValid() })
		if len(addrs) == 0 {
			continue // an address of a family that the container does not have
		}
		lease, err := s.ports.Reserve(hostport.Want{Proto: protoNumber(w.Port.Proto()), Addrs: addrs, First: w.First, Last: w.Last})
		if err != nil {
			s.releasePorts(box)
			return publishError(err, box, to, w, addrs[0])
		}
		box.leases = append(box.leases, lease)
		for _, a := range addrs {
			p := network.Published{Port: w.Port, HostIP: a, HostPort: lease.Port, Target: to.addr(a)}
			box.rec.Published = append(box.rec.Published, p)
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
func publishError(err error, box *sandbox, to targets, w network.Publication, host netip.Addr) error {
	var text string
	if errno := unix.Errno(0); errors.As(err, &errno) {
		port := strconv.Itoa(int(w.First))
		if w.Last != w.First {
			port += "-" + strconv.Itoa(int(w.Last))
		}
		text = fmt.Sprintf("failed to bind host port for %s:%s:%s:%s: %s", host, port, to.addr(host), w.Port, errno)
	} else {
		text = err.Error()
	}
	return fault.Internal("driver failed programming external connectivity on endpoint %s (%s): %s", box.rec.Request.Name, to.main().ID, text)
}

// bindAddrs are the host addresses to publish on: the one asked for, else the network's or the daemon's default.
func (s *Service) bindAddrs(n *netw, asked netip.Addr) []netip.Addr {
	if asked.IsValid() {
		return []netip.Addr{asked}
	}
	def := s.cfg.BindIP
	if a, err := netip.ParseAddr(n.rec.Options[optBindIP]); err == nil {
		def = a
	}
	if def.IsUnspecified() {
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	return []netip.Addr{def}
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
