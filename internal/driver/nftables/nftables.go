// Package nftables is the engine's firewall: one table "longshore" per address family, and nothing outside of it is
// ever read or changed. The rules are fixed; what changes are the elements of sets and maps, so that a network or a
// published port is one small transaction and the path of a packet does not grow with their number.
//
//	chain prerouting, output  destination is one of the host's own addresses → publish
//	chain publish             dnat to map published_addr (proto . address . port), else map published (proto . port)
//	chain postrouting         masquerade for hairpins and loopback sources, and for subnets that leave their bridge
//	chain forward             replies and published ports in; out of any bridge; nothing else; internal cut off
//	chain raw                 nobody reaches the host's 127.0.0.0/8 through a bridge
//
// Limits. An accept here does not overrule another table's drop: where another engine's iptables rules set the policy
// of FORWARD to DROP, its administrator must allow the bridges there (DOCKER-USER). The kernel has no route_localnet
// for IPv6, so a port published on ::1 is not reachable. The tables stay when the daemon ends, as containers go on.
package nftables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Table is the name of the engine's tables.
const Table = "longshore"

// Network is a bridge as the firewall sees it.
type Network struct {
	Bridge  string
	Subnets []netip.Prefix
	// Masquerade gives traffic that leaves the bridge the host's address.
	Masquerade bool
	// Internal cuts the bridge off from everything but itself and the host.
	Internal bool
}

// Port is a published port.
type Port struct {
	// Proto is the protocol's number: unix.IPPROTO_TCP, _UDP or _SCTP.
	Proto uint8
	// HostIP is one address of the host; unspecified means all of the target's family.
	HostIP   netip.Addr
	HostPort uint16
	Target   netip.AddrPort
}

// key is what a port is unique by.
type key struct {
	proto uint8
	ip    netip.Addr
	port  uint16
}

func (p Port) key() key { return key{p.Proto, p.HostIP, p.HostPort} }

// Firewall owns the tables of the network namespace it is used in. Safe for concurrent use.
type Firewall struct {
	mu       sync.Mutex // guards all below and orders transactions
	conn     *nft.Conn  // see connection
	networks map[string]Network
	ports    map[key]Port
}

// New makes a firewall that has changed nothing yet; Reset installs it.
func New() *Firewall {
	return &Firewall{networks: map[string]Network{}, ports: map[key]Port{}}
}

// Reset puts exactly these networks and ports in force, whatever a dead daemon left. The change is atomic: running
// containers never lose their ports.
func (f *Firewall) Reset(networks []Network, ports []Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.networks)
	clear(f.ports)
	for _, n := range networks {
		f.networks[n.Bridge] = n
	}
	for _, p := range ports {
		f.ports[p.key()] = p
	}
	return f.install()
}

// install writes both tables anew. The caller holds mu.
func (f *Firewall) install() error {
	c, err := f.connection()
	if err != nil {
		return err
	}
	networks := slices.SortedFunc(maps.Values(f.networks), func(a, b Network) int { return cmp.Compare(a.Bridge, b.Bridge) })
	ports := slices.Collect(maps.Values(f.ports))
	for _, t := range families() {
		c.AddTable(t.table)
		c.DelTable(t.table)
		c.AddTable(t.table)
		if err := t.create(c, networks, ports); err != nil {
			f.drop()
			return fmt.Errorf("nftables: %w", err)
		}
	}
	if err := f.flush(); err != nil {
		return fmt.Errorf("nftables: install table %s: %w", Table, err)
	}
	return nil
}

// acknowledgements is the size in bytes of the buffer that holds the kernel's answers to one large transaction.
const acknowledgements = 4 << 20

// connection is one netlink connection for all transactions: closing one after a deletion waits for a kernel grace
// period, 100 times as long as the deletion takes. After an error it is not used again, since unread answers may be
// left in it. The caller holds mu.
func (f *Firewall) connection() (*nft.Conn, error) {
	if f.conn != nil {
		return f.conn, nil
	}
	c, err := nft.New(nft.AsLasting(), nft.WithSockOptions(func(c *netlink.Conn) error { return c.SetReadBuffer(acknowledgements) }))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	f.conn = c
	return c, nil
}

func (f *Firewall) drop() {
	if f.conn != nil {
		_ = f.conn.CloseLasting()
		f.conn = nil
	}
}

func (f *Firewall) flush() error {
	err := f.conn.Flush()
	if err != nil {
		f.drop()
	}
	return err
}

// Close ends the connection to the kernel. The rules stay.
func (f *Firewall) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
}

// AddNetwork puts a bridge's rules in force, in place of those it had.
func (f *Firewall) AddNetwork(n Network) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, had := f.networks[n.Bridge]
	f.networks[n.Bridge] = n
	return f.change(func(c *nft.Conn, t family) error {
		if had {
			if err := t.network(old, c.SetDeleteElements); err != nil {
				return err
			}
		}
		return t.network(n, c.SetAddElements)
	})
}

// RemoveNetwork takes a bridge's rules back; one that is not known is no error.
func (f *Firewall) RemoveNetwork(bridge string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.networks[bridge]
	if !ok {
		return nil
	}
	delete(f.networks, bridge)
	return f.change(func(c *nft.Conn, t family) error { return t.network(n, c.SetDeleteElements) })
}

// Publish puts ports in force: all of them or none.
func (f *Firewall) Publish(ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range ports {
		f.ports[p.key()] = p
	}
	err := f.change(func(c *nft.Conn, t family) error { return t.publish(ports, c.SetAddElements) })
	if err != nil {
		for _, p := range ports {
			delete(f.ports, p.key())
		}
	}
	return err
}

// Unpublish takes ports back; those that are not in force are no error.
func (f *Firewall) Unpublish(ports []Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	ports = slices.DeleteFunc(slices.Clone(ports), func(p Port) bool { return f.ports[p.key()] != p })
	if len(ports) == 0 {
		return nil
	}
	for _, p := range ports {
		delete(f.ports, p.key())
	}
	return f.change(func(c *nft.Conn, t family) error { return t.publish(ports, c.SetDeleteElements) })
}

// change runs one transaction over both tables. When the kernel refuses because somebody removed our tables or their
// elements (nft flush ruleset), everything is installed anew instead. The caller holds mu and has updated the maps.
func (f *Firewall) change(edit func(*nft.Conn, family) error) error {
	c, err := f.connection()
	if err != nil {
		return err
	}
	for _, t := range families() {
		if err := edit(c, t); err != nil {
			f.drop()
			return fmt.Errorf("nftables: %w", err)
		}
	}
	err = f.flush()
	if errors.Is(err, unix.ENOENT) {
		return f.install()
	}
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// Remove deletes the tables.
func (f *Firewall) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.networks)
	clear(f.ports)
	c, err := f.connection()
	if err != nil {
		return err
	}
	for _, t := range families() {
		c.AddTable(t.table) // so that deleting cannot fail for want of one
		c.DelTable(t.table)
	}
	return f.flush()
}

// checkEvery is how often Run looks after the tables by itself, besides being told of their deletion.
const checkEvery = 30 * time.Second

// Run repairs: when somebody deletes our tables, they are installed anew. It ends with ctx.
func (f *Firewall) Run(ctx context.Context) error {
	w, err := watch()
	if err != nil {
		return err
	}
	return f.repairing(ctx, w)
}

// watch is told of all changes to tables of the network namespace.
func watch() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("nftables: watch: %w", err)
	}
	return c, nil
}

// repairing owns the connection. Messages that were lost for want of room, and silence, lead to a look of its own.
func (f *Firewall) repairing(ctx context.Context, w *netlink.Conn) error {
	defer w.Close()
	defer context.AfterFunc(ctx, func() { _ = w.Close() })()
	const deleted = netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE)
	for {
		_ = w.SetReadDeadline(time.Now().Add(checkEvery))
		messages, err := w.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("nftables: watch: %w", err)
		}
		if err == nil && !slices.ContainsFunc(messages, func(m netlink.Message) bool { return m.Header.Type == deleted }) {
			continue
		}
		if err := f.Repair(); err != nil {
			return err
		}
	}
}

// Repair installs the tables anew when one of them is missing.
func (f *Firewall) Repair() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.connection()
	if err != nil {
		return err
	}
	tables, err := c.ListTables()
	if err != nil {
		f.drop()
		return fmt.Errorf("nftables: list tables: %w", err)
	}
	found := 0
	for _, t := range tables {
		if t.Name == Table && (t.Family == nft.TableFamilyIPv4 || t.Family == nft.TableFamilyIPv6) {
			found++
		}
	}
	if found == len(families()) {
		return nil
	}
	return f.install()
}
