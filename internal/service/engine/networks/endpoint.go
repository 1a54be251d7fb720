package networks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
	"longshore/internal/core/network"
	"longshore/internal/driver/bridge"
	"longshore/internal/driver/netns"
)

// place is an endpoint to be made.
type place struct {
	net      *netw
	settings *mobynet.EndpointSettings
}

// places resolves what a request wants to be on: its mode's network first, the others by name.
func (s *Service) places(r network.Request) ([]place, error) {
	mode := r.Mode
	if mode == "" || mode == mobynet.NetworkDefault {
		mode = mobynet.NetworkBridge
	}
	primary, err := s.nets.find(mode, "")
	if err != nil {
		return nil, err
	}
	if primary.rec.ConfigOnly {
		return nil, fault.Forbidden("cannot create endpoint on configuration-only network")
	}
	out := []place{{net: primary}}
	for name, e := range r.Endpoints {
		if name == mobynet.NetworkDefault {
			name = mobynet.NetworkBridge
		}
		n, err := s.nets.find(name, "")
		if err != nil {
			return nil, err
		}
		if n == primary {
			out[0].settings = e
			continue
		}
		out = append(out, place{net: n, settings: e})
	}
	slices.SortFunc(out[1:], func(a, b place) int { return strings.Compare(a.net.rec.Name, b.net.rec.Name) })
	if len(out) > 1 && primary.rec.Driver != driverBridge {
		return nil, fault.Invalid("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	for _, p := range out {
		if err := checkEndpoint(p.net, p.settings); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// subnet is the pool of an address' family.
func (n *netw) subnet(a netip.Addr) *network.Subnet {
	if a.Is6() {
		return n.v6
	}
	return n.v4
}

// reserve takes addresses for a container on the network and registers its endpoint.
func (n *netw) reserve(containerID, name string, e *network.EndpointRecord) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.removed {
		return fault.NotFound("network %s not found", n.rec.Name)
	}
	if n.endpoints[containerID] != nil {
		return fault.Forbidden("endpoint with name %s already exists in network %s", name, n.rec.Name)
	}
	var want mobynet.EndpointIPAMConfig
	if e.Settings.IPAMConfig != nil {
		want = *e.Settings.IPAMConfig
	}
	var err error
	if e.IPv4, err = n.allocate(n.v4, want.IPv4Address); err != nil {
		return err
	}
	if e.IPv6, err = n.allocate(n.v6, want.IPv6Address); err != nil {
		n.free(e)
		return err
	}
	if e.MAC == nil {
		e.MAC = mobynet.HardwareAddr(bridge.MAC(cmp.Or(e.IPv4, e.IPv6).Addr()))
	}
	e.Gateway, e.Gateway6 = n.gateway(false), n.gateway(true)
	fill(n, e)
	n.endpoints[containerID] = &endpoint{EndpointRecord: *e, container: name}
	return nil
}

func (n *netw) allocate(sub *network.Subnet, want netip.Addr) (netip.Prefix, error) {
	if sub == nil {
		return netip.Prefix{}, nil
	}
	if want.IsValid() {
		return netip.PrefixFrom(want, sub.Prefix().Bits()), sub.Take(want)
	}
	a, err := sub.Next()
	if errors.Is(err, network.ErrNoAddress) {
		ver := 4
		if sub.Prefix().Addr().Is6() {
			ver = 6
		}
		return netip.Prefix{}, fault.Internal("no available IPv%d addresses on this network's address pools: %s (%s)", ver, n.rec.Name, n.rec.ID)
	}
	return netip.PrefixFrom(a, sub.Prefix().Bits()), err
}

// free gives an endpoint's addresses back. The caller holds n.mu.
func (n *netw) free(e *network.EndpointRecord) {
	if n.v4 != nil && e.IPv4.IsValid() {
		n.v4.Release(e.IPv4.Addr())
	}
	if n.v6 != nil && e.IPv6.IsValid() {
		n.v6.Release(e.IPv6.Addr())
	}
}

// fill writes what inspect shows of an endpoint into its settings.
func fill(n *netw, e *network.EndpointRecord) {
	es := e.Settings
	es.NetworkID, es.EndpointID, es.MacAddress = n.rec.ID, e.ID, e.MAC
	es.Gateway, es.IPv6Gateway = e.Gateway, e.Gateway6
	if e.IPv4.IsValid() {
		es.IPAddress, es.IPPrefixLen = e.IPv4.Addr(), e.IPv4.Bits()
	}
	if e.IPv6.IsValid() {
		es.GlobalIPv6Address, es.GlobalIPv6PrefixLen = e.IPv6.Addr(), e.IPv6.Bits()
	}
}

// settingsOf is a copy of what was asked, never nil.
func settingsOf(e *mobynet.EndpointSettings) *mobynet.EndpointSettings {
	if e == nil {
		return &mobynet.EndpointSettings{}
	}
	return e.Copy()
}

// attach makes an endpoint on a bridge network, with the interface that the namespace was prepared with, if any. On
// error nothing of it stays, except that interface, which the namespace takes along.
func (s *Service) attach(ctx context.Context, box *sandbox, space *netns.Space, p place, ready slot) error {
	r := box.rec.Request
	if p.net.rec.Driver != driverBridge || p.net.rec.ConfigOnly {
		return fault.Forbidden("cannot create endpoint on configuration-only network")
	}
	e := network.EndpointRecord{
		ID: randomID(), NetworkID: p.net.rec.ID, Interface: box.nextInterface(), HostInterface: ready.host, Settings: settingsOf(p.settings),
	}
	if p.net.userDefined() {
		e.Settings.DNSNames = dnsNames(r, e.Settings.Aliases)
	}
	var err error
	if e.MAC, err = macOf(r, e.Settings, len(box.rec.Endpoints) == 0); err != nil {
		return err
	}
	if err := p.net.reserve(r.ContainerID, r.Name, &e); err != nil {
		return err
	}
	if err := s.plug(space, p.net, &e, ready.kind); err != nil {
		p.net.release(r.ContainerID, &e)
		if ready.host == "" && e.HostInterface != "" {
			err = errors.Join(err, s.links.Unplug(e.HostInterface))
		}
		return err
	}
	s.join(ctx, box, p.net, e)
	return nil
}

// plug makes the endpoint's interface a port of the network's bridge and gives it its addresses.
func (s *Service) plug(space *netns.Space, n *netw, e *network.EndpointRecord, ready kind) error {
	in := inside(space)
	plug := bridge.Plug{
		Host: e.HostInterface, Name: e.Interface, Bridge: n.index, MTU: mtu(n.rec), Isolated: !option(n.rec, optICC, true),
	}
	var err error
	switch ready {
	case bare:
		e.HostInterface = vethName()
		plug.Host = e.HostInterface
		err = s.links.Plug(in, plug)
	case wired:
		err = s.links.Enslave(in, plug)
	}
	if err != nil {
		return fmt.Errorf("network %s: %w", n.rec.Name, err)
	}
	return s.links.Configure(in, bridge.Address{Name: e.Interface, IPv4: e.IPv4, IPv6: e.IPv6, MAC: net.HardwareAddr(e.MAC)})
}

func macOf(r network.Request, e *mobynet.EndpointSettings, first bool) (mobynet.HardwareAddr, error) {
	if len(e.MacAddress) > 0 {
		return e.MacAddress, nil
	}
	if !first || r.MacAddress == "" {
		return nil, nil
	}
	m, err := net.ParseMAC(r.MacAddress)
	if err != nil {
		return nil, fault.Invalid("invalid MAC address %s", r.MacAddress)
	}
	return mobynet.HardwareAddr(m), nil
}

// nextInterface is the lowest ethN that is free.
func (b *sandbox) nextInterface() string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		if !slices.ContainsFunc(b.rec.Endpoints, func(e network.EndpointRecord) bool { return e.Interface == name }) {
			return name
		}
	}
}

// join enters an endpoint that is real now into the sandbox and tells of it.
func (s *Service) join(ctx context.Context, box *sandbox, n *netw, e network.EndpointRecord) {
	id := box.rec.Request.ContainerID
	e.NetworkID, e.Settings = n.rec.ID, settingsOf(e.Settings)
	fill(n, &e)
	box.rec.Endpoints = append(box.rec.Endpoints, e)
	n.mu.Lock()
	n.endpoints[id] = &endpoint{EndpointRecord: e, container: box.rec.Request.Name}
	n.mu.Unlock()
	s.publish(ctx, events.ActionConnect, n, map[string]string{"container": id})
}

// leave takes an endpoint out of the sandbox and gives its addresses back.
func (s *Service) leave(ctx context.Context, box *sandbox, i int) {
	id, e := box.rec.Request.ContainerID, box.rec.Endpoints[i]
	box.rec.Endpoints = slices.Delete(box.rec.Endpoints, i, i+1)
	n := s.nets.get(e.NetworkID)
	if n == nil {
		return
	}
	n.release(id, &e)
	s.publish(ctx, events.ActionDisconnect, n, map[string]string{"container": id})
}

func (n *netw) release(containerID string, e *network.EndpointRecord) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.free(e)
	delete(n.endpoints, containerID)
}

// detach is leave for a sandbox that goes on: the interface is removed first.
func (s *Service) detach(ctx context.Context, box *sandbox, i int) {
	if host := box.rec.Endpoints[i].HostInterface; host != "" {
		if err := s.links.Unplug(host); err != nil {
			s.deps.Log.Warn("an interface stays until its container ends", "interface", host, "error", err)
		}
	}
	s.leave(ctx, box, i)
}

// exit is the endpoint that leads out: the one with the highest gateway priority, the first by network name among
// equals; nil without any.
func (s *Service) exit(box *sandbox, ipv6 bool) *endpoint {
	var best *network.EndpointRecord
	var bestName string
	for i := range box.rec.Endpoints {
		e := &box.rec.Endpoints[i]
		gw := e.Gateway
		if ipv6 {
			gw = e.Gateway6
		}
		n := s.nets.get(e.NetworkID)
		if !gw.IsValid() || n == nil {
			continue
		}
		if best == nil || e.Settings.GwPriority > best.Settings.GwPriority ||
			(e.Settings.GwPriority == best.Settings.GwPriority && n.rec.Name < bestName) {
			best, bestName = e, n.rec.Name
		}
	}
	if best == nil {
		return nil
	}
	return &endpoint{EndpointRecord: *best, container: box.rec.Request.Name}
}

// route makes the default routes lead through the right endpoints.
func (s *Service) route(box *sandbox, space *netns.Space) error {
	for _, ipv6 := range []bool{false, true} {
		var name string
		var gw netip.Addr
		if e := s.exit(box, ipv6); e != nil {
			name, gw = e.Interface, e.Gateway
			if ipv6 {
				gw = e.Gateway6
			}
		}
		if ipv6 && name == "" && !slices.ContainsFunc(box.rec.Endpoints, func(e network.EndpointRecord) bool { return e.IPv6.IsValid() }) {
			continue // IPv6 never was
		}
		if err := s.links.DefaultRoute(inside(space), name, gw, ipv6); err != nil {
			return err
		}
	}
	return nil
}
