package network

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"longshore/internal/core/fault"
)

// Drivers of networks.
const (
	DriverBridge  = "bridge"
	DriverHost    = "host"
	DriverNull    = "null"
	DriverMacvlan = "macvlan"
	DriverIPvlan  = "ipvlan"
)

// Docker's labels of the bridge driver's options, of those that every driver knows, and of endpoints'.
const (
	OptName       = "com.docker.network.bridge.name"
	OptDefault    = "com.docker.network.bridge.default_bridge"
	OptICC        = "com.docker.network.bridge.enable_icc"
	OptMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	OptBindIP     = "com.docker.network.bridge.host_binding_ipv4"
	OptMode4      = "com.docker.network.bridge.gateway_mode_ipv4"
	OptMode6      = "com.docker.network.bridge.gateway_mode_ipv6"
	OptInhibit4   = "com.docker.network.bridge.inhibit_ipv4"
	OptTrusted    = "com.docker.network.bridge.trusted_host_interfaces"
	OptMTU        = "com.docker.network.driver.mtu"
	OptIPv4       = "com.docker.network.enable_ipv4"
	OptIPv6       = "com.docker.network.enable_ipv6"
	OptHostIPv4   = "com.docker.network.host_ipv4"
	OptHostIPv6   = "com.docker.network.host_ipv6"
	OptPrefix     = "com.docker.network.container_iface_prefix"

	OptEndpointSysctls = "com.docker.network.endpoint.sysctls"
	OptEndpointName    = "com.docker.network.endpoint.ifname"
)

// Names of auxiliary addresses that stand for the containers' gateway when it is not the bridge.
const (
	AuxGateway4 = "DefaultGatewayIPv4"
	AuxGateway6 = "DefaultGatewayIPv6"
)

// Mode is a bridge's gateway mode of one family.
type Mode string

// Docker's gateway modes; empty means nat.
const (
	ModeNAT         Mode = "nat"
	ModeUnprotected Mode = "nat-unprotected"
	ModeRouted      Mode = "routed"
	ModeIsolated    Mode = "isolated"
)

// BridgeOptions are the driver options of a bridge network.
type BridgeOptions struct {
	Name            string
	ICC, Masquerade bool
	// InhibitIPv4 keeps the bridge without its IPv4 address.
	InhibitIPv4  bool
	MTU          int // bytes; 0 for the kernel's default
	Mode4, Mode6 Mode
	Trusted      []string
	// BindIP is where ports are published that name no address; HostIPv4 and HostIPv6 are what leaving traffic takes for
	// its source. Each may be not valid.
	BindIP, HostIPv4, HostIPv6 netip.Addr
	// Prefix is what containers' interfaces are called, before a number.
	Prefix string
}

// Mode is the gateway mode of a family.
func (o BridgeOptions) Mode(ipv6 bool) Mode {
	if ipv6 {
		return o.Mode6
	}
	return o.Mode4
}

func parseError(label, value string, why any) error {
	return fault.Invalid("failed to parse %s value: %s (%v)", label, value, why)
}

// optionReader reads typed options and keeps the first error.
type optionReader struct {
	from map[string]string
	err  error
}

func (r *optionReader) flag(label string, def bool) bool {
	v, ok := r.from[label]
	if !ok {
		return def
	}
	on, err := strconv.ParseBool(v)
	if err != nil && r.err == nil {
		r.err = parseError(label, v, err)
	}
	return on
}

func (r *optionReader) addr(label string) netip.Addr {
	v, ok := r.from[label]
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(v)
	if err != nil && r.err == nil {
		r.err = parseError(label, v, "nil ip")
	}
	return a.Unmap()
}

func (r *optionReader) mode(label string) Mode {
	v, ok := r.from[label]
	if !ok {
		return ModeNAT
	}
	if !slices.Contains([]Mode{ModeNAT, ModeUnprotected, ModeRouted, ModeIsolated}, Mode(v)) && r.err == nil {
		r.err = parseError(label, v, "unknown gateway mode "+v)
	}
	return Mode(v)
}

func (r *optionReader) mtu() int {
	v, ok := r.from[OptMTU]
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(v)
	switch {
	case r.err != nil:
	case err != nil:
		r.err = parseError(OptMTU, v, err)
	case n < 0 || n > 65535:
		r.err = fault.Invalid("invalid MTU number: %d", n)
	}
	return n
}

// ParseBridgeOptions reads a bridge network's options; what is wrong is told in docker's words. Options that nobody
// knows are kept by docker and mean nothing.
func ParseBridgeOptions(options map[string]string) (BridgeOptions, error) {
	r := &optionReader{from: options}
	o := BridgeOptions{
		Name: options[OptName], ICC: r.flag(OptICC, true), Masquerade: r.flag(OptMasquerade, true), InhibitIPv4: r.flag(OptInhibit4, false),
		MTU: r.mtu(), Mode4: r.mode(OptMode4), Mode6: r.mode(OptMode6), BindIP: r.addr(OptBindIP),
		HostIPv4: r.addr(OptHostIPv4), HostIPv6: r.addr(OptHostIPv6), Prefix: options[OptPrefix],
		Trusted: strings.FieldsFunc(options[OptTrusted], func(c rune) bool { return c == ':' }),
	}
	if r.err == nil && o.Prefix != "" && !interfaceName(o.Prefix+"0") {
		r.err = parseError(OptPrefix, o.Prefix, "invalid interface name")
	}
	return o, r.err
}

// ParentOptions are the driver options of macvlan and ipvlan networks.
type ParentOptions struct {
	// Parent is the host's interface; empty: one of the network's own that leads nowhere.
	Parent string
	// Mode is "bridge", "private", "vepa" or "passthru" (macvlan); "l2", "l3" or "l3s" (ipvlan).
	Mode string
	// Flag is "bridge", "private" or "vepa"; ipvlan only.
	Flag string
}

// ParseParentOptions reads the options of a macvlan or ipvlan network.
func ParseParentOptions(driver string, options map[string]string) (ParentOptions, error) {
	o := ParentOptions{Parent: options["parent"], Mode: options[driver+"_mode"]}
	modes, def := []string{"bridge", "private", "vepa", "passthru"}, "bridge"
	if driver == DriverIPvlan {
		modes, def, o.Flag = []string{"l2", "l3", "l3s"}, "l2", options["ipvlan_flag"]
	}
	if o.Mode == "" {
		o.Mode = def
	}
	if !slices.Contains(modes, o.Mode) {
		return o, fault.Invalid("requested %s mode '%s' is not valid, '%s' mode is the %s driver default", driver, o.Mode, def, driver)
	}
	if o.Flag == "" {
		o.Flag = "bridge"
	}
	if !slices.Contains([]string{"bridge", "private", "vepa"}, o.Flag) {
		return o, fault.Invalid("requested ipvlan flag '%s' is not valid, 'bridge' is the ipvlan driver default flag", o.Flag)
	}
	if o.Parent == "lo" {
		return o, fault.Invalid("loopback interface is not a valid %s parent link", driver)
	}
	return o, nil
}

// Layer3 says whether containers have no gateway but a route through their interface.
func (o ParentOptions) Layer3() bool { return strings.HasPrefix(o.Mode, "l3") }

// VLAN splits the name of a VLAN's interface, "eth0.10", into its parent's and the VLAN's number.
func VLAN(name string) (parent string, id int, err error) {
	if !strings.Contains(name, ".") {
		return "", 0, fault.Invalid("invalid subinterface vlan name %s, example formatting is eth0.10", name)
	}
	parts := strings.Split(name, ".")
	if len(parts) != 2 {
		return "", 0, fault.Invalid("required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received %s", name)
	}
	id, err = strconv.Atoi(parts[1])
	if err != nil {
		return "", 0, fault.Invalid("unable to parse a valid vlan id from: %s (ex. eth0.10 for vlan 10)", parts[1])
	}
	if id < 1 || id > 4094 {
		return "", 0, fault.Invalid("vlan id must be between 1-4094, received: %d", id)
	}
	return parts[0], id, nil
}

// EndpointOptions are the driver options of an endpoint.
type EndpointOptions struct {
	// Interface is what the interface is called inside of the container; empty for the next free name.
	Interface string
	// Sysctls are settings of the interface, as paths below /proc/sys with "IFNAME" where its name belongs.
	Sysctls []Sysctl
}

// NoIPv6 says whether they switch the interface's IPv6 off.
func (o EndpointOptions) NoIPv6() bool {
	return slices.Contains(o.Sysctls, Sysctl{Path: "net/ipv6/conf/IFNAME/disable_ipv6", Value: "1"})
}

// Sysctl is one kernel setting.
type Sysctl struct{ Path, Value string }

// For is the path for an interface.
func (s Sysctl) For(name string) string { return strings.ReplaceAll(s.Path, "IFNAME", name) }

var placeholder = regexp.MustCompile(`(?i)\.ifname\.`)

var sysctlForm = regexp.MustCompile(`^net\.[a-zA-Z0-9_]+\.[a-zA-Z0-9_]+\.IFNAME\.[a-zA-Z0-9_]+$`)

// ParseEndpointOptions reads an endpoint's options.
func ParseEndpointOptions(options map[string]string) (EndpointOptions, error) {
	o := EndpointOptions{Interface: options[OptEndpointName]}
	if o.Interface != "" && !interfaceName(o.Interface) {
		return o, fault.Invalid("invalid interface name %q", o.Interface)
	}
	for _, s := range strings.Split(options[OptEndpointSysctls], ",") {
		if strings.TrimSpace(s) == "" {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimSpace(s), "=")
		name = placeholder.ReplaceAllString(name, ".IFNAME.") // the docker CLI writes it in small letters
		if !ok || !sysctlForm.MatchString(name) {
			return o, fault.Invalid("unrecognised network interface sysctl '%s'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V'", s)
		}
		o.Sysctls = append(o.Sysctls, Sysctl{Path: strings.ReplaceAll(name, ".", "/"), Value: value})
	}
	return o, nil
}

// interfaceName says whether the kernel takes a name.
func interfaceName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) < 16 && !strings.ContainsAny(s, "/: \t\n\v\f\r%") && s != "lo"
}

// CheckIPv6Subnet refuses what cannot be a bridge's IPv6 subnet.
func CheckIPv6Subnet(p netip.Prefix) error {
	local := netip.MustParsePrefix("fe80::/64")
	switch {
	case !p.Addr().Is6() || p.Addr().Is4In6():
		return fmt.Errorf("'%s' is not a valid IPv6 subnet", p)
	case p.Addr().IsMulticast():
		return fmt.Errorf("multicast subnet '%s' is not allowed", p)
	case p.Masked() != local && local.Overlaps(p):
		return fmt.Errorf("'%s' clashes with the Link-Local prefix 'fe80::/64'", p)
	}
	return nil
}
