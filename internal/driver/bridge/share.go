package bridge

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"longshore/internal/core/fault"
	"longshore/internal/core/network"
)

// DummyName is what the parent of a network that names none is called.
func DummyName(networkID string) string { return "dm-" + networkID[:12] }

// EnsureParent makes sure that a parent is there and says whether it made it: an interface of its own that leads nowhere
// when dummy is set, else the interface of a VLAN ("eth0.10"). Any other parent must exist.
func (d *Driver) EnsureParent(name string, dummy bool) (made bool, err error) {
	if _, err := d.nl.LinkByName(name); err == nil {
		return false, nil
	}
	if dummy {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Flags = name, net.FlagUp
		if err := d.nl.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}); err != nil {
			return false, fmt.Errorf("failed to create the dummy parent link %s: %w", name, err)
		}
		return true, nil
	}
	parent, id, err := network.VLAN(name)
	if err != nil {
		return false, err
	}
	link, err := d.nl.LinkByName(parent)
	if err != nil {
		return false, fault.Invalid("-o parent interface was not found on the host: %s", parent)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = name, link.Attrs().Index
	vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: id}
	if err := d.nl.LinkAdd(vlan); err != nil {
		return false, fmt.Errorf("failed to create %s vlan link: %w", name, err)
	}
	if err := d.nl.LinkSetUp(vlan); err != nil {
		return true, fmt.Errorf("failed to enable %s the parent link: %w", name, err)
	}
	return true, nil
}

// RemoveParent removes a parent that EnsureParent made; one that is gone is no error.
func (d *Driver) RemoveParent(name string) error {
	link, err := d.nl.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = d.nl.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("failed to delete %s link: %w", name, err)
	}
	return nil
}

// Share says what share of a parent to make inside of a namespace.
type Share struct {
	Name string
	// Driver is macvlan or ipvlan; Mode and Flag are as core/network.ParentOptions has them.
	Driver, Mode, Flag string
	Parent             string
}

// Share makes a macvlan or ipvlan interface inside of a namespace, and brings it up.
func (d *Driver) Share(in Inside, l Share) error {
	parent, err := d.nl.LinkByName(l.Parent)
	if err != nil {
		return fault.Internal("the requested parent interface %s was not found on the Docker host", l.Parent)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.Namespace = l.Name, parent.Attrs().Index, netlink.NsFd(in.FD)
	if err := d.nl.LinkAdd(l.kernel(attrs)); err != nil {
		return fmt.Errorf("failed to create the %s port: %w", l.Driver, err)
	}
	link, err := in.Link.LinkByName(l.Name)
	if err == nil {
		err = in.Link.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", l.Name, err)
	}
	return nil
}

func (l Share) kernel(attrs netlink.LinkAttrs) netlink.Link {
	if l.Driver == network.DriverIPvlan {
		modes := map[string]netlink.IPVlanMode{"l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S}
		flags := map[string]netlink.IPVlanFlag{"bridge": netlink.IPVLAN_FLAG_BRIDGE, "private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA}
		return &netlink.IPVlan{LinkAttrs: attrs, Mode: modes[l.Mode], Flag: flags[l.Flag]}
	}
	modes := map[string]netlink.MacvlanMode{
		"bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE, "vepa": netlink.MACVLAN_MODE_VEPA,
		"passthru": netlink.MACVLAN_MODE_PASSTHRU,
	}
	return &netlink.Macvlan{LinkAttrs: attrs, Mode: modes[l.Mode]}
}
