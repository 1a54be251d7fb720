package networks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	mobynet "github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
	"longshore/internal/core/firewall"
	"longshore/internal/core/network"
	"longshore/internal/driver/bridge"
	"longshore/internal/driver/hostport"
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

// targets are where published ports of each family lead: the endpoints that also are the way out, when they are on
// bridges. Either may be nil.
type targets struct {
	v4, v6 *endpoint
	mode   [2]network.Mode // of the endpoints' networks
	// proxied says that addresses of IPv6 may lead to a container without it.
	proxied bool
}

func (s *Service) targets(box *sandbox) targets {
	t := targets{proxied: s.cfg.UserlandProxy}
	for i, to := range []**endpoint{&t.v4, &t.v6} {
		e := s.exit(box, i == 1)
		if e == nil {
			continue
		}
		if n := s.nets.get(e.NetworkID); n != nil && n.rec.Driver == driverBridge {
			*to, t.mode[i] = e, n.opts.Mode(i == 1)
		}
	}
	return t
}

// addr is the container's address that a host address leads to; not valid without any.
func (t targets) addr(host netip.Addr) netip.Addr {
	switch {
	case host.Is4() && t.v4 != nil:
		return t.v4.IPv4.Addr()
	case host.Is6() && t.v6 != nil:
		return t.v6.IPv6.Addr()
	case host.Is6() && t.v4 != nil && t.proxied && !t.routed(netip.IPv4Unspecified()):
		return t.v4.IPv4.Addr()
	}
	return netip.Addr{}
}

// routed says whether ports at a host address are not translated but open at the container's own address.
func (t targets) routed(host netip.Addr) bool {
	i := 0
	if host.Is6() {
		i = 1
	}
	return t.mode[i] == network.ModeRouted
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
func (s *Service) publishPorts(ctx context.Context, box *sandbox, to targets) error {
	wishes, err := network.Publications(box.rec.Request)
	if err != nil || to.main() == nil || len(wishes) == 0 {
		return err
	}
	n := s.nets.get(to.main().NetworkID)
	for _, w := range wishes {
		if err := s.reservePort(box, n, to, w); err != nil {
			s.releasePorts(ctx, box)
			return err
		}
	}
	if err := s.firewall.Publish(s.firewallPorts(box.rec.Published)); err != nil {
		s.releasePorts(ctx, box)
		return err
	}
	if proxied := s.proxyPorts(box.rec.Published); len(proxied) > 0 {
		if err := s.names.Proxy(ctx, proxied); err != nil {
			s.releasePorts(ctx, box)
			return fault.Internal("driver failed programming external connectivity on endpoint %s (%s): %w", box.rec.Request.Name, to.main().ID, err)
		}
	}
	forgetFlows(box.rec.Published)
	return nil
}

// reservePort holds the host's side of one wish and enters it into the record.
func (s *Service) reservePort(box *sandbox, n *netw, to targets, w network.Publication) error {
	var group []network.Published
	for _, a := range s.bindAddrs(n, w.HostIP) {
		p := network.Published{Port: w.Port, HostIP: a, Target: to.addr(a)}
		switch {
		case !p.Target.IsValid(): // an address of a family that the container does not have
		case to.routed(a) && a.Is6() == p.Target.Is6():
			p.HostIP = netip.IPv4Unspecified()
			if a.Is6() {
				p.HostIP = netip.IPv6Unspecified()
			}
			box.rec.Published = append(box.rec.Published, p)
		default:
			group = append(group, p)
		}
	}
	if len(group) == 0 {
		return nil
	}
	want := s.want(group)
	want.First, want.Last = w.First, w.Last
	lease, err := s.ports.Reserve(want)
	if err != nil {
		return publishError(err, box, to, w, group[0].HostIP)
	}
	box.leases = append(box.leases, lease)
	for _, p := range group {
		p.HostPort = lease.Port
		box.rec.Published = append(box.rec.Published, p)
	}
	return nil
}

// want is what the host must hold for ports that are published together. A proxied port's socket is the proxy's.
func (s *Service) want(group []network.Published) hostport.Want {
	w := hostport.Want{Proto: protoNumber(group[0].Port.Proto())}
	for _, p := range group {
		w.Addrs = append(w.Addrs, p.HostIP)
		if s.proxied(p) {
			w.Elsewhere = append(w.Elsewhere, p.HostIP)
		}
	}
	return w
}

// proxied says whether the port proxy carries a published port: where the kernel cannot, because the families differ or
// the address is the host's ::1, and where the firewall is not ours to use.
func (s *Service) proxied(p network.Published) bool {
	if !s.cfg.UserlandProxy || p.Port.Proto() == mobynet.SCTP {
		return false
	}
	switch {
	case p.HostIP.Is6() != p.Target.Is6(), s.cfg.Firewall.Skips(p.HostIP.Is6()):
		return true
	}
	return p.HostIP.Is6() && (p.HostIP.IsUnspecified() || p.HostIP.IsLoopback())
}

func (s *Service) proxyPorts(published []network.Published) []network.Proxied {
	var out []network.Proxied
	for _, p := range published {
		if p.HostPort != 0 && s.proxied(p) {
			out = append(out, network.Proxied{
				Proto: protoNumber(p.Port.Proto()), Host: netip.AddrPortFrom(p.HostIP, p.HostPort), Target: netip.AddrPortFrom(p.Target, p.Port.Num()),
			})
		}
	}
	return out
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
	if n.opts.BindIP.IsValid() {
		def = n.opts.BindIP
	}
	if def.IsUnspecified() {
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	return []netip.Addr{def}
}

// releasePorts gives back what a sandbox holds of the host.
func (s *Service) releasePorts(ctx context.Context, box *sandbox) {
	if len(box.rec.Published) > 0 {
		err := s.firewall.Unpublish(s.firewallPorts(box.rec.Published))
		if proxied := s.proxyPorts(box.rec.Published); len(proxied) > 0 {
			err = errors.Join(err, s.names.Unproxy(ctx, proxied))
		}
		if err != nil {
			s.deps.Log.Error("published ports stay in force until the next start", "container", box.rec.Request.ContainerID, "error", err)
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

// firewallPorts are the published ports that the kernel carries.
func (s *Service) firewallPorts(published []network.Published) []firewall.Port {
	out := make([]firewall.Port, 0, len(published))
	for _, p := range published {
		if p.HostIP.Is6() != p.Target.Is6() {
			continue // the proxy's alone
		}
		out = append(out, firewall.Port{
			Proto: protoNumber(p.Port.Proto()), HostIP: p.HostIP, HostPort: p.HostPort, Target: netip.AddrPortFrom(p.Target, p.Port.Num()),
		})
	}
	return out
}

// groupPublished puts together what one lease holds: the same port of several addresses.
func groupPublished(published []network.Published) [][]network.Published {
	var out [][]network.Published
	for _, p := range published {
		if p.HostPort == 0 {
			continue // nothing of the host's
		}
		last := len(out) - 1
		if last >= 0 && out[last][0].HostPort == p.HostPort && out[last][0].Port == p.Port && out[last][0].HostIP.Is4() != p.HostIP.Is4() && len(out[last]) == 1 {
			out[last] = append(out[last], p)
			continue
		}
		out = append(out, []network.Published{p})
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
		b := mobynet.PortBinding{HostIP: p.HostIP}
		if p.HostPort != 0 {
			b.HostPort = strconv.Itoa(int(p.HostPort))
		}
		out[p.Port] = append(out[p.Port], b)
	}
	return out
}
