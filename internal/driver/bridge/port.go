package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Inside is a network namespace as this package needs it: satisfied by driver/netns.
type Inside struct {
	// FD is the namespace's descriptor; Link a netlink connection inside of it.
	FD   int
	Link *netlink.Handle
	// Do runs a function on a thread inside of it.
	Do func(func() error) error
}

// Plug says how a veth pair is made.
type Plug struct {
	// Host and Name are the names of the two ends, outside and inside.
	Host, Name string
	// Bridge is the index of the bridge to be a port of; 0 for none yet.
	Bridge int
	MTU    int
	// Isolated keeps the port from talking to the bridge's other isolated ports (icc=false), unless the firewall does.
	Isolated bool
}

// Prepare sets what interfaces made later in the namespace start with. It runs inside of the namespace, once.
func Prepare() error {
	// A namespace gets IPv6 per interface, where the network has it.
	if err := setSysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	// The kernel then tells neighbours and bridge about a new hardware address by itself (gratuitous ARP).
	return setSysctl("net/ipv4/conf/default/arp_notify", "1")
}

// Plug makes a veth pair with its peer inside of the namespace at once (moving it there would cost a kernel grace
// period) and brings both ends up.
func (d *Driver) Plug(in Inside, p Plug) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = p.Host, p.MTU, p.Bridge, net.FlagUp
	attrs.TxQLen, attrs.NumTxQueues, attrs.NumRxQueues = 0, 1, 1
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: p.Name, PeerNamespace: netlink.NsFd(in.FD)}
	if err := d.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth pair %s: %w", p.Host, err)
	}
	if p.Bridge != 0 {
		if err := d.settlePort(veth, p); err != nil {
			return err
		}
	}
	peer, err := in.Link.LinkByName(p.Name)
	if err == nil {
		err = in.Link.LinkSetUp(peer)
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", p.Name, err)
	}
	return nil
}

// Enslave makes a pair that Plug made without a bridge a port of one.
func (d *Driver) Enslave(in Inside, p Plug) error {
	veth, err := d.nl.LinkByName(p.Host)
	if err != nil {
		return fmt.Errorf("veth pair %s: %w", p.Host, err)
	}
	if p.MTU > 0 && p.MTU != veth.Attrs().MTU {
		peer, err := in.Link.LinkByName(p.Name)
		if err == nil {
			err = errors.Join(in.Link.LinkSetMTU(peer, p.MTU), d.nl.LinkSetMTU(veth, p.MTU))
		}
		if err != nil {
			return fmt.Errorf("mtu of %s: %w", p.Host, err)
		}
	}
	if err := d.nl.LinkSetMasterByIndex(veth, p.Bridge); err != nil {
		return fmt.Errorf("plug in %s: %w", p.Host, err)
	}
	return d.settlePort(veth, p)
}

// settlePort sets what a port of ours is like.
func (d *Driver) settlePort(veth netlink.Link, p Plug) error {
	// Where br_netfilter shows bridged packets to the firewall, a container that reaches itself through a published port
	// is answered by the port that it came from.
	if err := d.nl.LinkSetHairpin(veth, true); err != nil {
		return fmt.Errorf("hairpin mode of %s: %w", p.Host, err)
	}
	if !p.Isolated || filtered() {
		return nil
	}
	if err := d.nl.LinkSetIsolated(veth, true); err != nil {
		return fmt.Errorf("isolate %s: %w", p.Host, err)
	}
	return nil
}

// filtered says whether the kernel shows bridged packets to the firewall (br_netfilter). The firewall then keeps ports
// from each other, and must: a translated packet is bridged straight to its new destination, which isolation would forbid.
func filtered() bool {
	for _, family := range []string{"iptables", "ip6tables"} {
		b, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-" + family)
		if err != nil || strings.TrimSpace(string(b)) != "1" {
			return false
		}
	}
	return true
}

// Unplug removes a veth pair by its outer name while its namespace goes on; one that is gone is no error.
func (d *Driver) Unplug(host string) error { return d.Delete(host) }

// Address is what an interface inside of a namespace gets.
type Address struct {
	Name       string
	IPv4, IPv6 netip.Prefix
	MAC        net.HardwareAddr
}

// Configure gives an interface its addresses. The hardware address comes last: its change is what makes the kernel
// announce the interface.
func (d *Driver) Configure(in Inside, a Address) error {
	link, err := in.Link.LinkByName(a.Name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", a.Name, err)
	}
	if a.IPv4.IsValid() {
		broadcast := a.IPv4.Masked().Addr().AsSlice()
		for i := a.IPv4.Bits(); i < 32; i++ {
			broadcast[i/8] |= 1 << (7 - i%8)
		}
		addr := &netlink.Addr{IPNet: ipNet(a.IPv4), Broadcast: broadcast}
		if err := in.Link.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("interface %s: address %s: %w", a.Name, a.IPv4, err)
		}
	}
	if a.MAC != nil {
		if err := in.Link.LinkSetHardwareAddr(link, a.MAC); err != nil {
			return fmt.Errorf("interface %s: hardware address %s: %w", a.Name, a.MAC, err)
		}
	}
	if !a.IPv6.IsValid() {
		return nil
	}
	err = in.Do(func() error { return setSysctl("net/ipv6/conf/"+a.Name+"/disable_ipv6", "0") })
	if err == nil {
		err = in.Link.AddrAdd(link, &netlink.Addr{IPNet: ipNet(a.IPv6), Flags: unix.IFA_F_NODAD})
	}
	if err != nil {
		return fmt.Errorf("interface %s: address %s: %w", a.Name, a.IPv6, err)
	}
	return nil
}

// Rename gives an interface inside of a namespace another name.
func (d *Driver) Rename(in Inside, old, name string) error {
	link, err := in.Link.LinkByName(old)
	if err == nil {
		err = in.Link.LinkSetDown(link)
	}
	if err == nil {
		err = in.Link.LinkSetName(link, name)
	}
	if err == nil {
		err = in.Link.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("rename interface %s to %s: %w", old, name, err)
	}
	return nil
}

// Drop removes an interface that stands inside of a namespace only; one that is gone is no error.
func (d *Driver) Drop(in Inside, name string) error {
	link, err := in.Link.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = in.Link.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("delete interface %s: %w", name, err)
	}
	return nil
}

// Route is a namespace's default route of one family.
type Route struct {
	IPv6 bool
	// Interface is what it leads through; empty: there is no route.
	Interface string
	// Gateway is where to; not valid: everything is at the interface itself.
	Gateway netip.Addr
	// OnLink says that the gateway is at the interface although no subnet of its has it.
	OnLink bool
}

// DefaultRoute makes a route the namespace's default route of its family, in place of the one before.
func (d *Driver) DefaultRoute(in Inside, r Route) error {
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if r.IPv6 {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if r.Interface == "" {
		err := in.Link.RouteDel(&netlink.Route{Dst: ipNet(all)})
		if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) { // ENOENT: there is not even a table
			return fmt.Errorf("remove default route: %w", err)
		}
		return nil
	}
	link, err := in.Link.LinkByName(r.Interface)
	if err != nil {
		return fmt.Errorf("default route through %s: %w", r.Interface, err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(all)}
	switch {
	case r.Gateway.IsValid():
		route.Gw = r.Gateway.AsSlice()
	case !r.IPv6:
		route.Scope = netlink.SCOPE_LINK
	}
	if r.OnLink {
		route.SetFlag(netlink.FLAG_ONLINK)
	}
	if err := in.Link.RouteReplace(route); err != nil {
		return fmt.Errorf("default route through %s: %w", r.Interface, err)
	}
	return nil
}

// ForgetFlows removes the kernel's memory of UDP connections to an address or host port, so that a new target is used
// at once. Best effort: a kernel without connection tracking by netlink has nothing to forget.
func ForgetFlows(port uint16, target netip.Addr) {
	filter := &netlink.ConntrackFilter{}
	if filter.AddProtocol(unix.IPPROTO_UDP) != nil || filter.AddPort(netlink.ConntrackOrigDstPort, port) != nil {
		return
	}
	family := netlink.InetFamily(unix.AF_INET)
	if target.Is6() {
		family = unix.AF_INET6
	}
	_, _ = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
}
