package networks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
	"longshore/internal/core/network"
	"longshore/internal/driver/bridge"
	"longshore/internal/driver/netns"
	"longshore/internal/service/engine/networks/spaces"
)

// place is an endpoint to be made.
type place struct {
	net      *netw
	settings *mobynet.EndpointSettings
}

// places resolves what a request wants to be on: its mode's network first, the others by name. The default network
// counts for nothing where there is none; a container without any place has loopback only.
func (s *Service) places(r network.Request) ([]place, error) {
	mode := r.Mode
	if mode == "" || mode == mobynet.NetworkDefault {
		mode = mobynet.NetworkBridge
	}
	asked := r.Endpoints
	if asked == nil {
		asked = map[string]*mobynet.EndpointSettings{mode: nil}
	}
	var out []place
	for name, e := range asked {
		if name == mobynet.NetworkDefault {
			name = mobynet.NetworkBridge
		}
		if name == mobynet.NetworkBridge && s.cfg.Bridge == noBridge {
			continue
		}
		n, err := s.nets.find(name, "")
		if err != nil {
			return nil, err
		}
		if n.rec.ConfigOnly {
			return nil, fault.Forbidden("cannot create endpoint on configuration-only network")
		}
		if err := checkEndpoint(n, e); err != nil {
			return nil, err
		}
		out = append(out, place{net: n, settings: e})
	}
	slices.SortFunc(out, func(a, b place) int {
		if first := func(p place) bool { return p.net.rec.Name == mode || p.net.rec.ID == mode }; first(a) != first(b) {
			return map[bool]int{true: -1, false: 1}[first(a)]
		}
		return strings.Compare(a.net.rec.Name, b.net.rec.Name)
	})
	if len(out) > 1 && slices.ContainsFunc(out, func(p place) bool { return !p.net.private() }) {
		return nil, fault.Invalid("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	return out, nil
}

// reserve takes addresses for a container on the network and registers its endpoint. Without ipv6 it has none of IPv6 where
// it has one of IPv4.
func (n *netw) reserve(r *network.Request, e *network.EndpointRecord, ipv6 bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.removed {
		return fault.NotFound("network %s not found", n.rec.Name)
	}
	if n.endpoints[r.ContainerID] != nil {
		return fault.Forbidden("endpoint with name %s already exists in network %s", r.Name, n.rec.Name)
	}
	var want mobynet.EndpointIPAMConfig
	if e.Settings.IPAMConfig != nil {
		want = *e.Settings.IPAMConfig
	}
	var err error
	if e.IPv4, err = n.allocate(false, want.IPv4Address); err != nil {
		return err
	}
	if ipv6 || !e.IPv4.IsValid() {
		if e.IPv6, err = n.allocate(true, want.IPv6Address); err != nil {
			n.free(e)
			return err
		}
	}
	switch {
	case n.rec.Driver == network.DriverIPvlan:
		e.MAC = nil // it has its parent's
	case e.MAC == nil:
		e.MAC = mobynet.HardwareAddr(bridge.MAC(cmp.Or(e.IPv4, e.IPv6).Addr()))
	}
	e.Gateway, e.Gateway6 = n.gateway(e.IPv4.Addr()), n.gateway(e.IPv6.Addr())
	fill(n, e)
	n.endpoints[r.ContainerID] = &endpoint{EndpointRecord: *e, container: r.Name, request: r}
	return nil
}

// allocate takes an address of a family: the one that is wanted, or one of the first subnet that has any left. A network
// without the family has none to give.
func (n *netw) allocate(ipv6 bool, want netip.Addr) (netip.Prefix, error) {
	if want.IsValid() && n.subnet(want) != nil {
		sub := n.subnet(want)
		return netip.PrefixFrom(want, sub.Prefix().Bits()), sub.Take(want)
	}
	full := false
	for _, sub := range n.subnets {
		if sub.Prefix().Addr().Is6() != ipv6 {
			continue
		}
		a, err := sub.Next()
		if err == nil {
			return netip.PrefixFrom(a, sub.Prefix().Bits()), nil
		}
		if !errors.Is(err, network.ErrNoAddress) {
			return netip.Prefix{}, err
		}
		full = true
	}
	if !full {
		return netip.Prefix{}, nil
	}
	ver := 4
	if ipv6 {
		ver = 6
	}
	return netip.Prefix{}, fault.Internal("no available IPv%d addresses on this network's address pools: %s (%s)", ver, n.rec.Name, n.rec.ID)
}

// free gives an endpoint's addresses back. The caller holds n.mu.
func (n *netw) free(e *network.EndpointRecord) {
	for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
		if sub := n.subnet(p.Addr()); p.IsValid() && sub != nil {
			sub.Release(p.Addr())
		}
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

// attach makes an endpoint on a network, with the interface that the namespace was prepared with, if any. On error
// nothing of it stays, except that interface, which the namespace takes along.
func (s *Service) attach(ctx context.Context, box *sandbox, space *netns.Space, p place, ready spaces.Slot) error {
	r := &box.rec.Request
	if !p.net.private() || p.net.rec.ConfigOnly {
		return fault.Forbidden("cannot create endpoint on configuration-only network")
	}
	e := network.EndpointRecord{ID: spaces.RandomID(), NetworkID: p.net.rec.ID, HostInterface: ready.Host, Settings: settingsOf(p.settings)}
	opts, err := network.ParseEndpointOptions(e.Settings.DriverOpts)
	if err != nil {
		return err
	}
	if e.Interface, err = box.interfaceFor(p.net, opts); err != nil {
		return err
	}
	if p.net.userDefined() {
		e.Settings.DNSNames = dnsNames(*r, e.Settings.Aliases)
	}
	if e.MAC, err = macOf(*r, e.Settings, len(box.rec.Endpoints) == 0); err != nil {
		return err
	}
	if err := p.net.reserve(r, &e, !r.NoIPv6 && !opts.NoIPv6()); err != nil {
		return err
	}
	err = s.plug(space, p.net, &e, ready.Kind)
	if err == nil {
		err = tune(space, e.Interface, opts.Sysctls)
	}
	if err != nil {
		p.net.release(r.ContainerID, &e)
		if ready.Host == "" {
			err = errors.Join(err, s.unplug(space, &e))
		}
		return err
	}
	s.join(ctx, box, p.net, e)
	return nil
}

// interfaceFor is what an endpoint's interface is called: as asked for, or the network's prefix and the lowest number
// that is free.
func (b *sandbox) interfaceFor(n *netw, opts network.EndpointOptions) (string, error) {
	taken := func(name string) bool {
		return slices.ContainsFunc(b.rec.Endpoints, func(e network.EndpointRecord) bool { return e.Interface == name })
	}
	if name := opts.Interface; name != "" {
		if taken(name) {
			return "", fault.Internal("error renaming interface to %q: file exists", name)
		}
		return name, nil
	}
	for i := 0; ; i++ {
		if name := cmp.Or(n.opts.Prefix, "eth") + strconv.Itoa(i); !taken(name) {
			return name, nil
		}
	}
}

// tune applies the settings that an endpoint asks for.
func tune(space *netns.Space, name string, sysctls []network.Sysctl) error {
	if len(sysctls) == 0 {
		return nil
	}
	return space.Do(func() error {
		for _, s := range sysctls {
			if err := bridge.SetSysctl(s.For(name), s.Value); err != nil {
				return fault.Invalid("failed to set sysctl %s: %w", strings.ReplaceAll(s.For(name), "/", "."), err)
			}
		}
		return nil
	})
}

// plug makes the endpoint's interface a port of the network's bridge, or a share of its parent, and gives it its addresses.
func (s *Service) plug(space *netns.Space, n *netw, e *network.EndpointRecord, ready spaces.Kind) error {
	in := spaces.Inside(space)
	if err := s.wire(in, n, e, ready); err != nil {
		return fmt.Errorf("network %s: %w", n.rec.Name, err)
	}
	return s.links.Configure(in, bridge.Address{Name: e.Interface, IPv4: e.IPv4, IPv6: e.IPv6, MAC: net.HardwareAddr(e.MAC)})
}

func (s *Service) wire(in bridge.Inside, n *netw, e *network.EndpointRecord, ready spaces.Kind) error {
	if n.onParent() {
		return s.links.Share(in, bridge.Share{
			Name: e.Interface, Driver: n.rec.Driver, Mode: n.parent.Mode, Flag: n.parent.Flag, Parent: n.rec.Parent,
		})
	}
	plug := bridge.Plug{Host: e.HostInterface, Name: e.Interface, Bridge: n.index, MTU: n.opts.MTU, Isolated: !n.opts.ICC}
	switch ready {
	case spaces.Bare:
		e.HostInterface = spaces.VethName()
		plug.Host = e.HostInterface
		return s.links.Plug(in, plug)
	case spaces.Wired:
		return s.links.Enslave(in, plug)
	}
	return nil
}

// unplug removes an endpoint's interface from a namespace that goes on.
func (s *Service) unplug(space *netns.Space, e *network.EndpointRecord) error {
	if e.HostInterface != "" {
		return s.links.Unplug(e.HostInterface)
	}
	return s.links.Drop(spaces.Inside(space), e.Interface)
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

// join enters an endpoint that is real now into the sandbox and tells of it.
func (s *Service) join(ctx context.Context, box *sandbox, n *netw, e network.EndpointRecord) {
	id := box.rec.Request.ContainerID
	e.NetworkID, e.Settings = n.rec.ID, settingsOf(e.Settings)
	fill(n, &e)
	box.rec.Endpoints = append(box.rec.Endpoints, e)
	n.register(&box.rec.Request, e)
	s.relink(n)
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
	s.relink(n)
	s.publish(ctx, events.ActionDisconnect, n, map[string]string{"container": id})
}

func (n *netw) release(containerID string, e *network.EndpointRecord) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.free(e)
	delete(n.endpoints, containerID)
}

// register makes an endpoint known, or its change.
func (n *netw) register(r *network.Request, e network.EndpointRecord) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.endpoints[r.ContainerID] = &endpoint{EndpointRecord: e, container: r.Name, request: r}
}

// detach is leave for a sandbox that goes on: the interface is removed first.
func (s *Service) detach(ctx context.Context, box *sandbox, space *netns.Space, i int) {
	if e := &box.rec.Endpoints[i]; space != nil {
		if err := s.unplug(space, e); err != nil {
			s.deps.Log.Warn("an interface stays until its container ends", "interface", e.Interface, "error", err)
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
		n := s.nets.get(e.NetworkID)
		if n == nil || !n.isExit(e, ipv6) {
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

// isExit says whether an endpoint can lead out for a family.
func (n *netw) isExit(e *network.EndpointRecord, ipv6 bool) bool {
	gw, own := e.Gateway, e.IPv4
	if ipv6 {
		gw, own = e.Gateway6, e.IPv6
	}
	return gw.IsValid() || own.IsValid() && n.leadsOut() && n.parent.Layer3()
}

// route makes the default routes lead through the right endpoints.
func (s *Service) route(box *sandbox, space *netns.Space) error {
	for _, ipv6 := range []bool{false, true} {
		r := bridge.Route{IPv6: ipv6}
		if e := s.exit(box, ipv6); e != nil {
			own := e.IPv4
			r.Interface, r.Gateway = e.Interface, e.Gateway
			if ipv6 {
				r.Gateway, own = e.Gateway6, e.IPv6
			}
			r.OnLink = r.Gateway.IsValid() && !own.Contains(r.Gateway)
		}
		if ipv6 && r.Interface == "" && !slices.ContainsFunc(box.rec.Endpoints, func(e network.EndpointRecord) bool { return e.IPv6.IsValid() }) {
			continue // IPv6 never was
		}
		if err := s.links.DefaultRoute(spaces.Inside(space), r); err != nil {
			return err
		}
	}
	return nil
}
