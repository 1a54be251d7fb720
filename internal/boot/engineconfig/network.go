package engineconfig

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"longshore/internal/core/fault"
	"longshore/internal/core/network"
)

func (c *Config) networkFlags(f *pflag.FlagSet) {
	f.StringVarP(&c.Bridge, "bridge", "b", "", "Attach containers to a network bridge")
	f.StringVar(&c.BIP, "bip", "", "Address and prefix of the default bridge")
	f.StringVar(&c.FixedCIDR, "fixed-cidr", "", "IPv4 subnet for fixed IPs")
	f.Var((*poolsValue)(&c.AddressPools), "default-address-pool", "Default address pools for node specific local networks (base=CIDR,size=N)")
	f.IntVar(&c.MTU, "mtu", c.MTU, "Set the MTU of the default bridge network")
	f.BoolVar(&c.ICC, "icc", c.ICC, "Enable inter-container communication for the default bridge network")
	f.StringVar(&c.IP, "ip", c.IP, "Host IP for port publishing from the default bridge network")
	f.BoolVar(&c.IPForward, "ip-forward", c.IPForward, "Enable IP forwarding in system configuration")
	f.BoolVar(&c.IPMasq, "ip-masq", c.IPMasq, "Enable IP masquerading for the default bridge network")
	f.BoolVar(&c.IPForwardNoDrop, "ip-forward-no-drop", false, "Do not keep the host from forwarding for others when enabling IP forwarding")
	f.BoolVar(&c.IPTables, "iptables", c.IPTables, "Enable addition of firewall rules for IPv4")
	f.BoolVar(&c.IP6Tables, "ip6tables", c.IP6Tables, "Enable addition of firewall rules for IPv6")
	f.StringVar(&c.FirewallBackend, "firewall-backend", "", "Firewall backend to use, iptables or nftables (empty: nftables where the kernel has it)")
	f.BoolVar(&c.AllowDirectRouting, "allow-direct-routing", false, "Allow remote access to published ports on container IP addresses")
	f.StringVar(&c.BridgeAcceptFwMark, "bridge-accept-fwmark", "", "In bridge networks, accept packets with this firewall mark/mask")
	f.BoolVar(&c.UserlandProxy, "userland-proxy", c.UserlandProxy, "Use a proxy for published ports where the kernel cannot forward")
	f.BoolVar(&c.IPv6, "ipv6", false, "Enable IPv6 networking for the default bridge network")
	f.StringVar(&c.BIP6, "bip6", "", "IPv6 CIDR for the default bridge network")
	f.StringVar(&c.FixedCIDR6, "fixed-cidr-v6", "", "IPv6 subnet for the default bridge network")
	f.StringVar(&c.DefaultGateway, "default-gateway", "", "Default gateway IPv4 address for the default bridge network")
	f.StringVar(&c.DefaultGateway6, "default-gateway-v6", "", "Default gateway IPv6 address for the default bridge network")
	f.Var((*networkOptsValue)(&c.NetworkOpts), "default-network-opt", "Default network options (driver=option=value)")
	f.StringArrayVar(&c.HostGateway, "host-gateway-ip", nil, "IP address that 'host-gateway' in --add-host resolves to")
	f.StringArrayVar(&c.DNS, "dns", nil, "DNS server to use")
	f.StringArrayVar(&c.DNSOptions, "dns-opt", nil, "DNS options to use")
	f.StringArrayVar(&c.DNSSearch, "dns-search", nil, "DNS search domains to use")
}

func (c *Config) validateNetwork() error {
	if err := c.validateSubnets(); err != nil {
		return err
	}
	if net.ParseIP(c.IP) == nil {
		return fault.Invalid("ip: %q is not an IP address", c.IP)
	}
	for _, s := range c.DNS {
		if net.ParseIP(s) == nil {
			return fault.Invalid("dns: %s is not an ip address", s)
		}
	}
	for _, s := range c.HostGateway {
		if net.ParseIP(s) == nil {
			return fault.Invalid("host-gateway-ips: %s is not an ip address", s)
		}
	}
	for _, p := range c.AddressPools {
		if !p.Base.IsValid() || p.Size < p.Base.Bits() || p.Size > p.Base.Addr().BitLen() {
			return fault.Invalid("default-address-pools: invalid pool base=%s, size=%d", p.Base, p.Size)
		}
	}
	if c.MTU < 68 || c.MTU > 65535 {
		return fault.Invalid("mtu: %d is out of range (68-65535)", c.MTU)
	}
	return c.validateBridge()
}

// validateSubnets checks the default bridge's addresses.
func (c *Config) validateSubnets() error {
	if c.Bridge != "" && (c.BIP != "" || c.BIP6 != "") {
		return fault.Invalid("You specified -b & --bip, mutually exclusive options. Please specify only one")
	}
	for _, f := range []struct {
		key, value string
		ipv6       bool
	}{{"bip", c.BIP, false}, {"bip6", c.BIP6, true}, {"fixed-cidr", c.FixedCIDR, false}, {"fixed-cidr-v6", c.FixedCIDR6, true}} {
		if f.value == "" {
			continue
		}
		p, err := netip.ParsePrefix(f.value)
		if err != nil {
			return fault.Invalid("invalid %s: %v", f.key, err)
		}
		if p.Addr().Is6() != f.ipv6 {
			return fault.Invalid("invalid %s: %s is of the wrong address family", f.key, p)
		}
		if f.ipv6 {
			if err := network.CheckIPv6Subnet(p.Masked()); err != nil {
				return fault.Invalid("invalid %s: %v", f.key, err)
			}
		}
	}
	for _, f := range []struct {
		key, value string
		ipv6       bool
	}{{"default-gateway", c.DefaultGateway, false}, {"default-gateway-v6", c.DefaultGateway6, true}} {
		if f.value == "" {
			continue
		}
		if a, err := netip.ParseAddr(f.value); err != nil || a.Is6() != f.ipv6 {
			return fault.Invalid("%s: %q is not an address of the family", f.key, f.value)
		}
	}
	return nil
}

// validateBridge checks what concerns the firewall and new networks.
func (c *Config) validateBridge() error {
	if b := c.FirewallBackend; b != "" && b != "iptables" && b != "nftables" {
		return fault.Invalid("invalid firewall-backend %q", b)
	}
	if _, _, err := c.FwMark(); err != nil {
		return err
	}
	for driver, options := range c.NetworkOpts {
		var err error
		switch driver {
		case network.DriverBridge:
			_, err = network.ParseBridgeOptions(options)
		case network.DriverMacvlan, network.DriverIPvlan:
			_, err = network.ParseParentOptions(driver, options)
		}
		if err != nil {
			return fault.Invalid("default-network-opts: %s: %v", driver, err)
		}
	}
	return nil
}

// FwMark is bridge-accept-fwmark: the mark and the bits of it that count, 0 and 0 without.
func (c *Config) FwMark() (mark, mask uint32, err error) {
	if c.BridgeAcceptFwMark == "" {
		return 0, 0, nil
	}
	first, second, both := strings.Cut(c.BridgeAcceptFwMark, "/")
	a, err := strconv.ParseUint(first, 0, 32)
	b := uint64(0xffffffff)
	if err == nil && both {
		b, err = strconv.ParseUint(second, 0, 32)
	}
	if err != nil {
		return 0, 0, fault.Invalid("invalid bridge-accept-fwmark %q: %v", c.BridgeAcceptFwMark, err)
	}
	if b == 0 {
		return 0, 0, fault.Invalid("invalid bridge-accept-fwmark %q: a mask of 0 is every packet's", c.BridgeAcceptFwMark)
	}
	return uint32(a), uint32(b), nil
}

type poolsValue []AddressPool

func (p *poolsValue) String() string { return fmt.Sprint([]AddressPool(*p)) }
func (p *poolsValue) Type() string   { return "pool-options" }

// Set reads "base=10.10.0.0/16,size=24".
func (p *poolsValue) Set(s string) error {
	var pool AddressPool
	for _, field := range strings.Split(s, ",") {
		k, v, ok := strings.Cut(field, "=")
		var err error
		switch {
		case !ok:
			return fmt.Errorf("invalid field %q: must be key=value", field)
		case k == "base":
			pool.Base, err = netip.ParsePrefix(v)
		case k == "size":
			pool.Size, err = strconv.Atoi(v)
		default:
			return fmt.Errorf("unexpected key %q in %q", k, field)
		}
		if err != nil {
			return err
		}
	}
	*p = append(*p, pool)
	return nil
}

type networkOptsValue map[string]map[string]string

func (n *networkOptsValue) String() string { return fmt.Sprint(map[string]map[string]string(*n)) }
func (n *networkOptsValue) Type() string   { return "driver=opts" }

// Set reads "bridge=com.docker.network.driver.mtu=1234".
func (n *networkOptsValue) Set(s string) error {
	driver, rest, ok := strings.Cut(s, "=")
	key, value, ok2 := strings.Cut(rest, "=")
	if !ok || !ok2 || driver == "" || key == "" {
		return fmt.Errorf("invalid default network options: %q: must be driver=option=value", s)
	}
	if *n == nil {
		*n = networkOptsValue{}
	}
	if (*n)[driver] == nil {
		(*n)[driver] = map[string]string{}
	}
	(*n)[driver][key] = value
	return nil
}
