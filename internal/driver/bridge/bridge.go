// Package bridge drives the kernel's bridges and the veth pairs that plug containers into them, and the macvlan and ipvlan
// interfaces that are containers' shares of an interface of the host. It keeps no state:
// everything it needs is in the kernel or is handed in.
package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Driver changes the links of the namespace that it was made in. Safe for concurrent use.
type Driver struct {
	nl *netlink.Handle
}

// New connects to the kernel of the calling thread's network namespace.
func New() (*Driver, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &Driver{nl: h}, nil
}

// Close ends the connection.
func (d *Driver) Close() { d.nl.Close() }

// Config describes a bridge.
type Config struct {
	Name string
	// MTU in bytes; 0 leaves the kernel's default.
	MTU int
	// Alias marks a bridge that this call makes, so that Owner tells it from other people's.
	Alias string
	// IPv4 and IPv6 are the bridge's own addresses with the subnets' lengths; either may be missing.
	IPv4, IPv6 netip.Prefix
	// Separate makes the host answer for the containers among each other (proxy ARP), because the ports of such a bridge
	// do not talk to one another: what they may send goes through the host and its firewall.
	Separate bool
}

// Ensure makes the bridge, or brings an existing one (a restart) to the configuration. Addresses that it has
// besides are removed where the alias says that the bridge is ours, and left alone elsewhere. It answers the interface's index.
func (d *Driver) Ensure(c Config) (int, error) {
	link, err := d.nl.LinkByName(c.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		link, err = d.create(c)
	}
	if err != nil {
		return 0, fmt.Errorf("bridge %s: %w", c.Name, err)
	}
	if link.Type() != "bridge" {
		return 0, fmt.Errorf("existing interface %s is not a bridge", c.Name)
	}
	if c.MTU > 0 && link.Attrs().MTU != c.MTU {
		if err := d.nl.LinkSetMTU(link, c.MTU); err != nil {
			return 0, fmt.Errorf("bridge %s: mtu %d: %w", c.Name, c.MTU, err)
		}
	}
	if err := d.address(link, c); err != nil {
		return 0, fmt.Errorf("bridge %s: %w", c.Name, err)
	}
	if err := d.nl.LinkSetUp(link); err != nil {
		return 0, fmt.Errorf("bridge %s: up: %w", c.Name, err)
	}
	if err := d.separate(c); err != nil {
		return 0, fmt.Errorf("bridge %s: %w", c.Name, err)
	}
	return link.Attrs().Index, nil
}

// separate makes the host answer ARP for the containers of a bridge among each other, or no more.
func (d *Driver) separate(c Config) error {
	if c.Alias == "" || !c.IPv4.IsValid() {
		return nil
	}
	answer, redirect := "0", "1"
	if c.Separate {
		answer, redirect = "1", "0"
	}
	err := setSysctl("net/ipv4/conf/"+c.Name+"/proxy_arp_pvlan", answer)
	if err == nil && c.Separate {
		err = setSysctl("net/ipv4/conf/"+c.Name+"/send_redirects", redirect)
	}
	return err
}

func (d *Driver) create(c Config) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = c.Name, c.MTU
	if c.IPv4.IsValid() {
		// An own address keeps the bridge from taking over whichever is the lowest of its ports'.
		attrs.HardwareAddr = MAC(c.IPv4.Addr())
	}
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := d.nl.LinkAdd(br); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	link, err := d.nl.LinkByName(c.Name)
	if err == nil && c.Alias != "" {
		err = d.nl.LinkSetAlias(link, c.Alias)
	}
	return link, err
}

func (d *Driver) address(link netlink.Link, c Config) error {
	if c.Alias != "" && link.Attrs().Alias == c.Alias {
		if err := d.removeOthers(link, c); err != nil {
			return err
		}
	}
	if c.IPv4.IsValid() {
		if err := d.nl.AddrReplace(link, &netlink.Addr{IPNet: ipNet(c.IPv4)}); err != nil {
			return fmt.Errorf("address %s: %w", c.IPv4, err)
		}
		// Connections from the host's loopback to published ports are sent out here (see driver/nftables, which also
		// keeps what comes in for 127.0.0.0/8 out).
		if err := setSysctl("net/ipv4/conf/"+c.Name+"/route_localnet", "1"); err != nil {
			return err
		}
	}
	if !c.IPv6.IsValid() {
		return nil
	}
	if err := setSysctl("net/ipv6/conf/"+c.Name+"/disable_ipv6", "0"); err != nil {
		return err
	}
	// Duplicate address detection would keep the gateway away for a second.
	err := d.nl.AddrReplace(link, &netlink.Addr{IPNet: ipNet(c.IPv6), Flags: unix.IFA_F_NODAD})
	if err != nil {
		return fmt.Errorf("address %s: %w", c.IPv6, err)
	}
	return nil
}

// removeOthers removes the addresses that an earlier configuration left.
func (d *Driver) removeOthers(link netlink.Link, c Config) error {
	addrs, err := whole(func() ([]netlink.Addr, error) { return d.nl.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p := prefix(a.IPNet); p == c.IPv4 || p == c.IPv6 || p.Addr().IsLinkLocalUnicast() && p.Addr().Is6() {
			continue
		}
		if err := d.nl.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	return nil
}

// Address is the address of a family that an existing interface has, for a bridge that the user made; not valid without
// one. Link-local ones do not count.
func (d *Driver) Address(name string, ipv6 bool) (netip.Prefix, error) {
	family := netlink.FAMILY_V4
	if ipv6 {
		family = netlink.FAMILY_V6
	}
	link, err := d.nl.LinkByName(name)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("interface %s: %w", name, err)
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return d.nl.AddrList(link, family) })
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, a := range addrs {
		if p := prefix(a.IPNet); p.IsValid() && !p.Addr().IsLinkLocalUnicast() {
			return p, nil
		}
	}
	return netip.Prefix{}, nil
}

// Owner is the alias of an existing interface; there is false without the interface.
func (d *Driver) Owner(name string) (alias string, there bool) {
	link, err := d.nl.LinkByName(name)
	if err != nil {
		return "", false
	}
	return link.Attrs().Alias, true
}

// Exists says whether an interface of that name is there.
func (d *Driver) Exists(name string) bool {
	_, err := d.nl.LinkByName(name)
	return err == nil
}

// Delete removes a bridge; one that is not there is no error.
func (d *Driver) Delete(name string) error {
	link, err := d.nl.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = d.nl.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("delete bridge %s: %w", name, err)
	}
	return nil
}

// Subnets lists what the host already reaches: the destinations of its routes (default routes apart) and the subnets
// of its addresses, those of the named interfaces left out.
func (d *Driver) Subnets(except map[string]bool) ([]netip.Prefix, error) {
	skip := map[int]bool{}
	links, err := whole(d.nl.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if except[l.Attrs().Name] {
			skip[l.Attrs().Index] = true
		}
	}
	var out []netip.Prefix
	routes, err := whole(func() ([]netlink.Route, error) { return d.nl.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if p := prefix(r.Dst); p.IsValid() && p.Bits() > 0 && !skip[r.LinkIndex] {
			out = append(out, p.Masked())
		}
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return d.nl.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p := prefix(a.IPNet); p.IsValid() && !skip[a.LinkIndex] {
			out = append(out, p.Masked())
		}
	}
	return out, nil
}

// Forwards says whether the kernel forwards packets of a family; Forward makes it.
func Forwards(ipv6 bool) bool {
	b, err := os.ReadFile(filepath.Join("/proc/sys", forwarding(ipv6)))
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// Forward switches the kernel's forwarding on for a family.
func Forward(ipv6 bool) error { return setSysctl(forwarding(ipv6), "1") }

func forwarding(ipv6 bool) string {
	if ipv6 {
		return "net/ipv6/conf/all/forwarding"
	}
	return "net/ipv4/ip_forward"
}

// SetSysctl writes a setting below /proc/sys of the calling thread's network namespace.
func SetSysctl(path, value string) error { return setSysctl(path, value) }

// setSysctl writes a setting of the calling thread's network namespace unless it has the value already, so that a
// read-only /proc/sys with good values is no error.
func setSysctl(name, value string) error {
	path := filepath.Join("/proc/sys", name)
	if old, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(old)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s: %w", strings.ReplaceAll(name, "/", "."), err)
	}
	return nil
}

// MAC is docker's hardware address for an IPv4 address: 02:42 and the address. For IPv6 the last four bytes are taken.
func MAC(a netip.Addr) net.HardwareAddr {
	b := a.AsSlice()
	return append(net.HardwareAddr{0x02, 0x42}, b[len(b)-4:]...)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a.Unmap(), ones)
}

// dumps is how often a list is asked for anew that changed while the kernel told it.
const dumps = 20

// whole asks the kernel for a list until nothing changed meanwhile; on a host where that never happens, the last one has
// to do: it lacks at most what came or went within it.
func whole[T any](list func() ([]T, error)) (out []T, err error) {
	for range dumps {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, nil
}
