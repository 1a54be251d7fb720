package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
)

// CheckIPAM checks what a client asks for when it creates a network: every subnet canonical, ranges, gateways and
// auxiliary addresses inside of it. All that is wrong is told at once, one line each, in docker's words.
func CheckIPAM(ipam *network.IPAM, ipv6 bool) error {
	if ipam == nil {
		return nil
	}
	if ipam.Driver != "" && ipam.Driver != "default" && ipam.Driver != "null" {
		return fault.Invalid("invalid ipam driver: %q", ipam.Driver)
	}
	var errs []error
	for _, c := range ipam.Config {
		if !c.Subnet.IsValid() {
			errs = append(errs, errors.New("invalid subnet : invalid CIDR block notation"))
			continue
		}
		if c.Subnet.Addr().Is6() && !ipv6 {
			continue
		}
		errs = append(errs, checkConfig(c)...)
	}
	if len(errs) == 0 {
		return nil
	}
	lines := make([]string, 0, len(errs))
	for _, e := range errs {
		lines = append(lines, e.Error())
	}
	return fault.Invalid("invalid network config:\n%s", strings.Join(lines, "\n"))
}

func checkConfig(c network.IPAMConfig) []error {
	var errs []error
	if c.Subnet != c.Subnet.Masked() {
		errs = append(errs, fmt.Errorf("invalid subnet %s: it should be %s", c.Subnet, c.Subnet.Masked()))
	}
	if c.IPRange.IsValid() {
		errs = append(errs, checkRange(c.IPRange, c.Subnet)...)
	}
	if err := checkAddress(c.Gateway, c.Subnet); err != nil {
		errs = append(errs, fmt.Errorf("invalid gateway %s: %w", c.Gateway, err))
	}
	names := make([]string, 0, len(c.AuxAddress))
	for name := range c.AuxAddress {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := checkAddress(c.AuxAddress[name], c.Subnet); err != nil {
			errs = append(errs, fmt.Errorf("invalid auxiliary address %s: %w", name, err))
		}
	}
	return errs
}

func checkRange(r, subnet netip.Prefix) []error {
	if r.Addr().Is6() != subnet.Addr().Is6() {
		return []error{fmt.Errorf("invalid ip-range %s: parent subnet is an %s block", r, family(subnet.Addr()))}
	}
	var errs []error
	if r.Bits() < subnet.Bits() {
		errs = append(errs, fmt.Errorf("invalid ip-range %s: CIDR block is bigger than its parent subnet %s", r, subnet))
	}
	if r != r.Masked() {
		errs = append(errs, fmt.Errorf("invalid ip-range %s: it should be %s", r, r.Masked()))
	}
	if !subnet.Overlaps(r) {
		errs = append(errs, fmt.Errorf("invalid ip-range %s: parent subnet %s doesn't contain ip-range", r, subnet))
	}
	return errs
}

func checkAddress(a netip.Addr, subnet netip.Prefix) error {
	switch {
	case !a.IsValid():
		return nil
	case a.Is6() != subnet.Addr().Is6():
		return fmt.Errorf("parent subnet is an %s block", family(subnet.Addr()))
	case !subnet.Contains(a):
		return fmt.Errorf("parent subnet %s doesn't contain this address", subnet)
	}
	return nil
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// CheckEndpoint checks the addresses that an endpoint asks for against its network's configuration.
func CheckEndpoint(e *network.EndpointSettings, ipam network.IPAM) error {
	if e == nil || e.IPAMConfig == nil {
		return nil
	}
	var errs []string
	add := func(format string, a ...any) { errs = append(errs, fmt.Sprintf(format, a...)) }
	if a := e.IPAMConfig.IPv4Address; a.IsValid() && (!a.Is4() || a.IsUnspecified()) {
		add("invalid IPv4 address: %s", a)
	}
	if a := e.IPAMConfig.IPv6Address; a.IsValid() && (!a.Is6() || a.IsUnspecified()) {
		add("invalid IPv6 address: %s", a)
	}
	for _, a := range e.IPAMConfig.LinkLocalIPs {
		if !a.IsValid() || a.IsUnspecified() {
			add("invalid link-local IP address: %s", a)
		}
	}
	for _, a := range []netip.Addr{e.IPAMConfig.IPv4Address, e.IPAMConfig.IPv6Address} {
		if !a.IsValid() || len(errs) > 0 {
			continue
		}
		switch {
		case !slices.ContainsFunc(ipam.Config, func(c network.IPAMConfig) bool { return c.Subnet.Contains(a) }):
			add("no configured subnet or ip-range contain the IP address %s", a)
		}
	}
	if len(errs) > 0 {
		return fault.Invalid("invalid endpoint settings:\n%s", strings.Join(errs, "\n"))
	}
	return nil
}
