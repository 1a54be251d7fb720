package networks

import (
	"fmt"
	"net/netip"
	"strconv"

	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
	"longshore/internal/core/network"
)

// defaultBridge is the default network under today's configuration.
func (s *Service) defaultBridge(was network.Record, had bool, records []network.Record) (network.Record, error) {
	rec := s.builtin(mobynet.NetworkBridge, driverBridge)
	if had {
		rec.ID, rec.Created, rec.Bridge = was.ID, was.Created, was.Bridge
	}
	switch alias, there := s.links.Owner("docker0"); {
	case s.cfg.Bridge != "":
		rec.Bridge = s.cfg.Bridge
	case there && alias != bridgeAlias:
		rec.Bridge = "longshore0" // docker0 is somebody else's
	case rec.Bridge == "" || (rec.Bridge != "docker0" && rec.Bridge != "longshore0"):
		rec.Bridge = "docker0"
	}
	if s.cfg.Bridge != "" && s.cfg.Bridge != "docker0" && !s.links.Exists(s.cfg.Bridge) {
		return rec, fault.Forbidden("error creating default \"bridge\" network: bridge device with non default name %s must be created manually", s.cfg.Bridge)
	}
	rec.EnableIPv6 = s.cfg.IPv6
	for _, f := range s.defaultFamilies() {
		address, err := s.defaultAddress(f, was, rec.Bridge, records)
		if err != nil {
			return rec, err
		}
		c := mobynet.IPAMConfig{Subnet: address.Masked(), IPRange: f.fixed, Gateway: address.Addr()}
		if f.gateway.IsValid() {
			c.AuxAddress = map[string]netip.Addr{f.aux: f.gateway}
		}
		rec.IPAM.Config = append(rec.IPAM.Config, c)
	}
	rec.Options = map[string]string{
		network.OptDefault:    "true",
		network.OptICC:        strconv.FormatBool(!s.cfg.NoICC),
		network.OptMasquerade: strconv.FormatBool(!s.cfg.NoMasquerade),
		network.OptBindIP:     s.cfg.BindIP.String(),
		network.OptName:       rec.Bridge,
		network.OptMTU:        strconv.Itoa(s.cfg.MTU),
	}
	for k, v := range s.cfg.NetworkOptions[driverBridge] {
		if _, given := rec.Options[k]; !given {
			rec.Options[k] = v
		}
	}
	if _, err := network.ParseBridgeOptions(rec.Options); err != nil {
		return rec, fmt.Errorf("networks: default-network-opts: %w", err)
	}
	return rec, nil
}

// defaultFamily is the default bridge's configuration of one address family.
type defaultFamily struct {
	ipv6       bool
	bip, fixed netip.Prefix
	gateway    netip.Addr
	aux        string
}

func (s *Service) defaultFamilies() []defaultFamily {
	out := []defaultFamily{{bip: s.cfg.BIP, fixed: s.cfg.FixedCIDR, gateway: s.cfg.DefaultGateway, aux: network.AuxGateway4}}
	if s.cfg.IPv6 {
		out = append(out, defaultFamily{ipv6: true, bip: s.cfg.BIP6, fixed: s.cfg.FixedCIDR6, gateway: s.cfg.DefaultGateway6, aux: network.AuxGateway6})
	}
	return out
}

// defaultAddress is the default bridge's address of a family: as configured, as the interface has it, as it was, or a
// free one.
func (s *Service) defaultAddress(f defaultFamily, was network.Record, name string, records []network.Record) (netip.Prefix, error) {
	if f.bip.IsValid() {
		return f.bip, nil
	}
	first := netip.PrefixFrom(f.fixed.Masked().Addr().Next(), f.fixed.Bits())
	if s.links.Exists(name) && !(f.ipv6 && f.fixed.IsValid()) {
		p, err := s.links.Address(name, f.ipv6)
		if err != nil || p.IsValid() {
			return p, err
		}
		if s.cfg.Bridge != "" && !f.ipv6 && !f.fixed.IsValid() {
			return p, fmt.Errorf("networks: bridge %s has no IPv4 address", name)
		}
	}
	for _, c := range was.IPAM.Config {
		if was.Bridge == name && c.Subnet.Addr().Is6() == f.ipv6 && (!f.fixed.IsValid() || c.Subnet.Overlaps(f.fixed)) {
			return netip.PrefixFrom(c.Gateway, c.Subnet.Bits()), nil
		}
	}
	if f.fixed.IsValid() {
		return first, nil
	}
	var taken []netip.Prefix
	ours := map[string]bool{name: true}
	for _, rec := range records {
		ours[rec.Bridge] = true
		for _, c := range rec.IPAM.Config {
			taken = append(taken, c.Subnet)
		}
	}
	host, err := s.links.Subnets(ours)
	if err != nil {
		return netip.Prefix{}, err
	}
	p, err := network.Choose(s.pools(), append(taken, host...), f.ipv6)
	if err != nil {
		return p, err
	}
	return netip.PrefixFrom(p.Addr().Next(), p.Bits()), nil
}
