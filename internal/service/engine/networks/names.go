package networks

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/network"
	"longshore/internal/driver/netns"
	"longshore/internal/driver/resolver"
	"longshore/internal/service/engine/networks/hostfiles"
)

// dnsNames are the names of a container on a user-defined network; the first is its name in PTR answers.
func dnsNames(r network.Request, aliases []string) []string {
	all := append([]string{r.Name}, aliases...)
	all = append(all, r.ContainerID[:min(12, len(r.ContainerID))], r.Hostname)
	var out []string
	for _, n := range all {
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// embedded says whether a sandbox has embedded DNS: when any of its networks is user-defined.
func (s *Service) embedded(box *sandbox) bool {
	return slices.ContainsFunc(box.rec.Endpoints, func(e network.EndpointRecord) bool {
		n := s.nets.get(e.NetworkID)
		return n != nil && n.userDefined()
	})
}

// resolverSandbox is what the resolver must know of a sandbox; false when it has no embedded DNS.
func (s *Service) resolverSandbox(box *sandbox) (resolver.Sandbox, bool) {
	if !s.embedded(box) {
		return resolver.Sandbox{}, false
	}
	out := resolver.Sandbox{
		ID: box.rec.Request.ContainerID, NetNS: box.rec.NetNS, UDP: box.rec.DNSUDP, TCP: box.rec.DNSTCP, Links: map[string]string{},
	}
	base, own := s.host().ResolvFor(box.rec.Request)
	for _, a := range base.Nameservers {
		if !own || a != network.InternalResolver() { // which would be asking itself
			out.Servers = append(out.Servers, resolver.Server{Addr: a, Inside: own})
		}
	}
	out.Isolated = s.exit(box, false) == nil && s.exit(box, true) == nil
	for _, e := range box.rec.Endpoints {
		n := s.nets.get(e.NetworkID)
		if n == nil || !n.userDefined() {
			continue
		}
		out.Endpoints = append(out.Endpoints, resolver.Endpoint{
			Network: e.NetworkID, NetworkName: n.rec.Name, Names: e.Settings.DNSNames, IPv4: e.IPv4.Addr(), IPv6: e.IPv6.Addr(),
		})
		for _, l := range e.Settings.Links {
			target, alias, ok := strings.Cut(l, ":")
			if !ok {
				alias = target
			}
			out.Links[strings.TrimPrefix(alias, "/")] = strings.TrimPrefix(target, "/")
		}
	}
	return out, true
}

// tellNames makes the sandbox' names known and its DNS server reachable, or ends both when it has no embedded DNS.
func (s *Service) tellNames(ctx context.Context, box *sandbox, space *netns.Space) error {
	known, ok := s.resolverSandbox(box)
	if !ok {
		return s.forgetNames(ctx, box)
	}
	ports, err := s.names.Put(ctx, known)
	if err != nil {
		return fmt.Errorf("DNS for container %s: %w", box.rec.Request.Name, err)
	}
	box.named = true
	if ports.UDP == box.rec.DNSUDP && ports.TCP == box.rec.DNSTCP {
		return nil
	}
	err = space.Do(func() error { return s.deps.RedirectDNS(network.InternalResolver(), ports.UDP, ports.TCP) })
	if err == nil {
		box.rec.DNSUDP, box.rec.DNSTCP = ports.UDP, ports.TCP
	}
	return err
}

// forgetNames ends a sandbox' embedded DNS, also that which only its namespace was prepared with.
func (s *Service) forgetNames(ctx context.Context, box *sandbox) error {
	switch {
	case box.named:
		box.named = false
		return s.names.Delete(ctx, box.rec.Request.ContainerID)
	case box.rec.DNSUDP != 0:
		return s.names.Forget(ctx, box.rec.NetNS)
	}
	return nil
}

// resolv is a sandbox' resolv.conf.
func (s *Service) resolv(box *sandbox) network.Resolv {
	conf, own := s.host().ResolvFor(box.rec.Request)
	if s.embedded(box) {
		return conf.Embedded()
	}
	ipv6 := slices.ContainsFunc(box.rec.Endpoints, func(e network.EndpointRecord) bool { return e.IPv6.IsValid() })
	return conf.Direct(ipv6, own)
}

// hostsFile is a sandbox' /etc/hosts.
func (s *Service) hostsFile(box *sandbox) ([]byte, error) {
	r := box.rec.Request
	lines, err := s.host().Extra(r.ExtraHosts, s.hostGateways)
	if err != nil {
		return nil, err
	}
	lines = append(lines, s.linkHosts(r)...)
	names := r.Hostname
	if r.Domainname != "" {
		names = r.Hostname + "." + r.Domainname + " " + r.Hostname
	}
	for _, e := range box.rec.Endpoints {
		for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
			if p.IsValid() && names != "" {
				lines = append(lines, network.Host{Addr: p.Addr(), Names: names})
			}
		}
	}
	return network.HostsFile(lines, !r.NoIPv6), nil
}

// host is what the host says for containers' files.
func (s *Service) host() hostfiles.Host {
	return hostfiles.Host{ResolvConf: s.cfg.ResolvConf, DNS: s.cfg.DNS, DNSSearch: s.cfg.DNSSearch, DNSOptions: s.cfg.DNSOptions}
}

// HostGateways are the addresses by which containers reach the host: what "host-gateway" stands for.
func (s *Service) HostGateways() []netip.Addr { return s.hostGateways() }

func (s *Service) hostGateways() []netip.Addr {
	if len(s.cfg.HostGateways) > 0 {
		return s.cfg.HostGateways
	}
	var out []netip.Addr
	if n := s.nets.byName(mobynet.NetworkBridge); n != nil {
		for _, c := range n.rec.IPAM.Config {
			if c.Gateway.IsValid() {
				out = append(out, c.Gateway)
			}
		}
	}
	return out
}

// linkHosts are the lines for links between containers of the default network: alias, host name and name.
func (s *Service) linkHosts(r network.Request) []network.Host {
	n := s.nets.byName(mobynet.NetworkBridge)
	if n == nil || len(r.Links) == 0 {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []network.Host
	for _, l := range r.Links {
		target, alias, ok := strings.Cut(l, ":")
		target = strings.TrimPrefix(target, "/")
		if !ok {
			alias = target
		}
		if i := strings.LastIndexByte(alias, '/'); i >= 0 {
			alias = alias[i+1:]
		}
		for id, e := range n.endpoints {
			if (e.container == target || strings.HasPrefix(id, target)) && e.IPv4.IsValid() {
				out = append(out, network.Host{Addr: e.IPv4.Addr(), Names: hostfiles.Names(alias, id[:min(12, len(id))], e.container)})
			}
		}
	}
	return out
}
