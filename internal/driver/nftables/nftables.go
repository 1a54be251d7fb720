// Package nftables is the engine's firewall: one table "longshore" per address family, and nothing outside of it is
// ever read or changed. The rules are fixed; what changes are the elements of sets and maps, so that a network or a
// published port is one small transaction and the path of a packet does not grow with their number.
//
//	chain prerouting, output  destination is one of the host's own addresses → publish
//	chain publish             dnat to map published_addr (proto . address . port), else map published (proto . port)
//	chain postrouting         masquerade for hairpins and loopback sources, and for subnets that leave their bridge
//	chain forward             replies and published ports in; out of any bridge; nothing else; internal cut off
//	chain raw                 nobody reaches the host's 127.0.0.0/8 through a bridge
//	chains host-*             what the host's own input rules drop, applied to published ports (mirror.go)
//
// Limits. An accept here does not overrule another table's drop: where another engine's iptables rules set the policy
// of FORWARD to DROP, its administrator must allow the bridges there (DOCKER-USER). The kernel has no route_localnet
// for IPv6, so ports published at ::1 are a proxy's. The tables stay when the daemon ends, as containers go on.
package nftables

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"longshore/internal/core/firewall"
)

// Table is the name of the engine's tables; AdminTable that of the administrator's hooks (see admin.go).
const (
	Table      = "longshore"
	AdminTable = "longshore-user"
)

// Firewall owns the tables of the network namespace it is used in. Safe for concurrent use.
type Firewall struct {
	mu     sync.Mutex // guards all below and orders transactions
	conn   *nft.Conn  // see connection
	sender uint32     // conn's netlink port: our own changes are known by it
	cfg    firewall.Config
	book   firewall.Book
	mirror mirror
	log    *slog.Logger
}

var _ firewall.Firewall = (*Firewall)(nil)

// New makes a firewall that has changed nothing yet; Reset installs it.
func New(cfg firewall.Config, log *slog.Logger) *Firewall {
	return &Firewall{cfg: cfg, log: log, book: firewall.NewBook()}
}

// Reset puts exactly these networks and ports in force, whatever a dead daemon left. The change is atomic: running
// containers never lose their ports.
func (f *Firewall) Reset(networks []firewall.Network, ports []firewall.Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.book.Reset(networks, ports)
	return f.install()
}

// install reads the host's rules and writes both tables anew. The caller holds mu.
func (f *Firewall) install() error {
	m, err := f.reflect()
	if err != nil {
		return err
	}
	for _, note := range m.notes {
		f.log.Warn("a rule of the host's firewall is not understood: what follows it does not hold for published ports", "rule", note)
	}
	if err = f.write(m); err != nil && len(m.chains) > 0 {
		f.log.Warn("the kernel refuses copies of the host's rules: they do not hold for published ports", "error", err)
		err = f.write(mirror{})
	}
	if err != nil {
		return fmt.Errorf("nftables: install table %s: %w", Table, err)
	}
	f.mirror = m
	return nil
}

// write writes both tables in one transaction. The caller holds mu.
func (f *Firewall) write(m mirror) error {
	c, err := f.connection()
	if err != nil {
		return err
	}
	networks := f.book.Sorted()
	ports := slices.Collect(maps.Values(f.book.Ports))
	for _, t := range families(f.cfg) {
		c.AddTable(t.table)
		c.DelTable(t.table)
		c.AddTable(t.table)
		err := t.create(c, networks, ports)
		if err == nil {
			err = m.install(t, rules{c, t.table})
		}
		if err != nil {
			f.drop()
			return err
		}
	}
	f.admin(c)
	return f.flush()
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
	c, err := nft.New(nft.AsLasting(), nft.WithSockOptions(f.introduce))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	f.conn = c
	return c, nil
}

// introduce learns the netlink port of a connection.
func (f *Firewall) introduce(c *netlink.Conn) error {
	if err := c.SetReadBuffer(acknowledgements); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) {
		if sa, err := unix.Getsockname(int(fd)); err == nil {
			if nl, ok := sa.(*unix.SockaddrNetlink); ok {
				f.sender = nl.Pid
			}
		}
	})
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
func (f *Firewall) AddNetwork(n firewall.Network) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, had := f.book.Networks[n.Bridge]
	if had && reflect.DeepEqual(old, n) {
		return nil
	}
	if f.guards(n) {
		f.book.Networks[n.Bridge] = n
		return f.install()
	}
	f.book.Networks[n.Bridge] = n
	return f.change(func(c *nft.Conn, t family) error {
		if had {
			if err := t.network(old, c.SetDeleteElements); err != nil {
				return err
			}
		}
		return t.network(n, c.SetAddElements)
	})
}

// guards says whether a network makes the tables guard the host, which they do not yet. The caller holds mu.
func (f *Firewall) guards(n firewall.Network) bool {
	all := slices.Collect(maps.Values(f.book.Networks))
	return n.Guard4 && !guarded(all, false) || n.Guard6 && !guarded(all, true)
}

// RemoveNetwork takes a bridge's rules back; one that is not known is no error.
func (f *Firewall) RemoveNetwork(bridge string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.book.Networks[bridge]
	if !ok {
		return nil
	}
	delete(f.book.Networks, bridge)
	return f.change(func(c *nft.Conn, t family) error { return t.network(n, c.SetDeleteElements) })
}

// Publish puts ports in force: all of them or none.
func (f *Firewall) Publish(ports []firewall.Port) error {
	if len(ports) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.book.Add(ports)
	err := f.change(func(c *nft.Conn, t family) error {
		if err := t.publish(ports, c.SetAddElements); err != nil {
			return err
		}
		return t.aim(ports, c.SetAddElements)
	})
	if err != nil {
		f.book.Remove(ports)
	}
	return err
}

// Unpublish takes ports back; those that are not in force are no error.
func (f *Firewall) Unpublish(ports []firewall.Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	ports = slices.DeleteFunc(slices.Clone(ports), func(p firewall.Port) bool { return !f.book.Has(p) })
	if len(ports) == 0 {
		return nil
	}
	last := f.book.Remove(ports)
	return f.change(func(c *nft.Conn, t family) error {
		if err := t.publish(ports, c.SetDeleteElements); err != nil {
			return err
		}
		return t.aim(last, c.SetDeleteElements)
	})
}

// change runs one transaction over both tables. When the kernel refuses because somebody removed our tables or their
// elements (nft flush ruleset), everything is installed anew instead. The caller holds mu and has updated the book.
func (f *Firewall) change(edit func(*nft.Conn, family) error) error {
	c, err := f.connection()
	if err != nil {
		return err
	}
	for _, t := range families(f.cfg) {
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
	f.book.Reset(nil, nil)
	c, err := f.connection()
	if err != nil {
		return err
	}
	for _, t := range families(f.cfg) {
		c.AddTable(t.table) // so that deleting cannot fail for want of one
		c.DelTable(t.table)
	}
	return f.flush()
}
