package networks

import (
	"fmt"
	"os"
	"path/filepath"

	"longshore/internal/core/fault"
	"longshore/internal/core/firewall"
	"longshore/internal/core/network"
	"longshore/internal/driver/bridge"
)

// parentFor settles the interface that a macvlan or ipvlan network shares; the caller holds changes.
func (s *Service) parentFor(rec network.Record) (network.Record, error) {
	if rec.ConfigOnly || rec.Driver == driverBridge {
		return rec, nil
	}
	if rec.Parent == "" {
		rec.Parent, rec.OwnParent = bridge.DummyName(rec.ID), true
		return rec, nil
	}
	o, _ := network.ParseParentOptions(rec.Driver, rec.Options) // checked before
	for _, n := range s.nets.all() {
		switch {
		case n.rec.Parent != rec.Parent:
			continue
		case rec.Driver == network.DriverIPvlan && n.rec.Driver == network.DriverIPvlan:
			return rec, fault.Internal("network %s is already using parent interface %s", n.rec.ID, rec.Parent)
		case o.Mode == "passthru":
			return rec, fault.Internal("cannot use mode passthru, macvlan network %s is already using parent interface %s", n.rec.ID, rec.Parent)
		case n.parent.Mode == "passthru":
			return rec, fault.Internal("macvlan network %s is already using parent interface %s in mode passthru", n.rec.ID, rec.Parent)
		}
		rec.OwnParent = rec.OwnParent || n.rec.OwnParent
	}
	rec.OwnParent = rec.OwnParent || !s.links.Exists(rec.Parent)
	return rec, nil
}

// raise makes a network real in the kernel; it may be there already.
func (s *Service) raise(n *netw) error {
	if n.rec.Parent != "" {
		_, err := s.links.EnsureParent(n.rec.Parent, n.parent.Parent == "")
		return err
	}
	if n.rec.Bridge == "" {
		return nil
	}
	cfg := bridge.Config{Name: n.rec.Bridge, MTU: n.opts.MTU, Alias: bridgeAlias, Separate: !n.opts.ICC}
	if n.rec.EnableIPv4 {
		cfg.IPv4 = n.bridgeAddress(false)
	}
	if n.rec.EnableIPv6 {
		cfg.IPv6 = n.bridgeAddress(true)
	}
	index, err := s.links.Ensure(cfg)
	if err != nil {
		return err
	}
	n.index = index
	if err := s.forward(n); err != nil {
		return err
	}
	return s.firewall.AddNetwork(n.firewall())
}

// forward makes the host forward packets of the network's families. A host that did not before is guarded from then on.
func (s *Service) forward(n *netw) error {
	if s.cfg.NoForward {
		return nil
	}
	for _, f := range []struct {
		ipv6, wanted bool
		guard        *bool
	}{{false, n.rec.EnableIPv4, &n.guard4}, {true, n.rec.EnableIPv6, &n.guard6}} {
		if !f.wanted {
			continue
		}
		mark := filepath.Join(s.cfg.ExecRoot, "forwards-"+map[bool]string{false: "ipv4", true: "ipv6"}[f.ipv6])
		if !bridge.Forwards(f.ipv6) {
			if err := os.WriteFile(mark, nil, 0o600); err != nil {
				return fmt.Errorf("networks: %w", err)
			}
			if err := bridge.Forward(f.ipv6); err != nil {
				return err
			}
		}
		_, err := os.Stat(mark)
		*f.guard = err == nil && !s.cfg.NoForwardDrop
	}
	return nil
}

// bridgeAlias marks the bridges that are ours.
const bridgeAlias = "longshore"

// firewall is the network as the firewall must know it.
func (n *netw) firewall() firewall.Network {
	out := firewall.Network{
		Bridge: n.rec.Bridge, Internal: n.rec.Internal, Masquerade: n.opts.Masquerade, Source4: n.opts.HostIPv4, Source6: n.opts.HostIPv6,
		Mode4: gatewayMode(n.opts.Mode4), Mode6: gatewayMode(n.opts.Mode6), Separate: !n.opts.ICC, Trusted: n.opts.Trusted,
		Guard4: n.guard4, Guard6: n.guard6,
	}
	for _, c := range n.rec.IPAM.Config {
		out.Subnets = append(out.Subnets, c.Subnet)
	}
	if !n.opts.ICC && !n.userDefined() {
		out.Links = n.links()
	}
	return out
}

func gatewayMode(m network.Mode) firewall.Gateway {
	switch m {
	case network.ModeRouted:
		return firewall.Routed
	case network.ModeUnprotected:
		return firewall.Unprotected
	}
	return firewall.NAT
}

// lower takes a network out of the kernel.
func (s *Service) lower(n *netw) error {
	if n.rec.Parent != "" {
		return s.lowerParent(n)
	}
	if n.rec.Bridge == "" {
		return nil
	}
	if err := s.firewall.RemoveNetwork(n.rec.Bridge); err != nil {
		return err
	}
	if alias, ok := s.links.Owner(n.rec.Bridge); ok && alias != bridgeAlias {
		return nil // the user's own interface
	}
	return s.links.Delete(n.rec.Bridge)
}

// lowerParent removes a parent that the engine made when no other network shares it.
func (s *Service) lowerParent(n *netw) error {
	if !n.rec.OwnParent {
		return nil
	}
	for _, other := range s.nets.all() {
		if other != n && other.rec.Parent == n.rec.Parent {
			return nil
		}
	}
	return s.links.RemoveParent(n.rec.Parent)
}
