// Package hostport gives out ports of the host for publishing. A port is held twice: in a table, against other
// containers, and by a bound socket, against processes of the host. No traffic reaches the socket, since the firewall
// translates the destination before.
package hostport

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"longshore/internal/base/socket"
	"longshore/internal/core/fault"
)

// Ports is the table. Safe for concurrent use.
type Ports struct {
	mu     sync.Mutex // guards held and next
	held   map[slot][]netip.Addr
	lo, hi uint16
	next   uint16
}

type slot struct {
	proto uint8
	port  uint16
}

// New makes an empty table. Ports nobody asked for by number come from the kernel's range for local ports, as
// docker's do.
func New() *Ports {
	p := &Ports{held: map[slot][]netip.Addr{}, lo: 49153, hi: 65535}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var lo, hi uint16
		if _, err := fmt.Sscan(string(b), &lo, &hi); err == nil && lo > 0 && lo <= hi {
			p.lo, p.hi = lo, hi
		}
	}
	p.next = p.lo
	return p
}

// Want is what to hold: the same port on every address, out of [First, Last] or, when both are 0, any.
type Want struct {
	Proto       uint8 // unix.IPPROTO_TCP, _UDP or _SCTP
	Addrs       []netip.Addr
	First, Last uint16
	// Elsewhere are those of the addresses where another process of ours will have, or has, the socket: they are tried
	// only.
	Elsewhere []netip.Addr
}

// Lease is a held port.
type Lease struct {
	Port  uint16
	proto uint8
	addrs []netip.Addr
	owner *Ports
	fds   []int
}

// Reserve holds a port. A single port that another container holds is an error in docker's words; one that a process
// of the host holds is the kernel's error (address already in use), which errors.Is finds as unix.EADDRINUSE.
func (p *Ports) Reserve(w Want) (l *Lease, err error) {
	if w.First == 0 || w.First != w.Last {
		return p.reserve(w)
	}
	err = socket.RetryInUse(func() error { // no other port waits meanwhile
		l, err = p.reserve(w)
		return err
	})
	return l, err
}

// reserve tries each port of a range once.
func (p *Ports) reserve(w Want) (*Lease, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, last, start := w.First, w.Last, w.First
	if first == 0 {
		first, last, start = p.lo, p.hi, p.next
	}
	var failed error
	for n := int(last) - int(first) + 1; n > 0; n-- {
		l, err := p.hold(w, start)
		if err == nil {
			if w.First == 0 {
				p.next = after(start, first, last)
			}
			return l, nil
		}
		if failed == nil || errors.Is(err, unix.EADDRINUSE) {
			failed = err
		}
		if !errors.Is(err, unix.EADDRINUSE) && !taken(err) {
			return nil, err
		}
		start = after(start, first, last)
	}
	if w.First != w.Last || w.First == 0 {
		return nil, fault.Internal("Bind for %s failed: all ports are allocated", hostPorts(w.Addrs, w.First, w.Last))
	}
	return nil, failed
}

func hostPorts(addrs []netip.Addr, first, last uint16) string {
	host := make([]string, 0, len(addrs))
	for _, a := range addrs {
		host = append(host, a.String())
	}
	if first == 0 {
		return strings.Join(host, ",")
	}
	return fmt.Sprintf("%s:%d-%d", strings.Join(host, ","), first, last)
}

func after(port, first, last uint16) uint16 {
	if port >= last {
		return first
	}
	return port + 1
}

type takenError struct{ error }

func taken(err error) bool {
	var t takenError
	return errors.As(err, &t)
}

// hold takes one port on all addresses or none. The caller holds mu.
func (p *Ports) hold(w Want, port uint16) (*Lease, error) {
	proto, addrs := w.Proto, w.Addrs
	s := slot{proto, port}
	for _, a := range addrs {
		for _, other := range p.held[s] {
			if a == other || (a.Is4() == other.Is4() && (a.IsUnspecified() || other.IsUnspecified())) {
				return nil, takenError{fault.Internal("Bind for %s failed: port is already allocated", netip.AddrPortFrom(a, port))}
			}
		}
	}
	l := &Lease{Port: port, proto: proto, addrs: addrs, owner: p}
	for _, a := range addrs {
		fd, err := bind(proto, netip.AddrPortFrom(a, port))
		if err != nil {
			l.closeSockets()
			return nil, err
		}
		switch {
		case fd < 0:
		case slices.Contains(w.Elsewhere, a):
			_ = unix.Close(fd)
		default:
			l.fds = append(l.fds, fd)
		}
	}
	p.held[s] = append(p.held[s], addrs...)
	return l, nil
}

// Adopt holds a port that is in force already, after a restart: it enters the table whether a socket can be bound or
// not, since the port does work.
func (p *Ports) Adopt(w Want, port uint16) *Lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	proto, addrs := w.Proto, w.Addrs
	l := &Lease{Port: port, proto: proto, addrs: addrs, owner: p}
	for _, a := range addrs {
		if slices.Contains(w.Elsewhere, a) {
			continue
		}
		if fd, err := bind(proto, netip.AddrPortFrom(a, port)); err == nil && fd >= 0 {
			l.fds = append(l.fds, fd)
		}
	}
	s := slot{proto, port}
	p.held[s] = append(p.held[s], addrs...)
	return l
}

// Release gives a port back. Once only.
func (l *Lease) Release() {
	p := l.owner
	p.mu.Lock()
	defer p.mu.Unlock()
	l.closeSockets()
	s := slot{l.proto, l.Port}
	for _, a := range l.addrs {
		for i, other := range p.held[s] {
			if a == other {
				p.held[s] = append(p.held[s][:i], p.held[s][i+1:]...)
				break
			}
		}
	}
	if len(p.held[s]) == 0 {
		delete(p.held, s)
	}
}

func (l *Lease) closeSockets() {
	for _, fd := range l.fds {
		_ = unix.Close(fd)
	}
	l.fds = nil
}

// bind makes the socket that keeps others away; -1 when the kernel does not know the protocol.
func bind(proto uint8, ap netip.AddrPort) (int, error) {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(ap.Port()), Addr: four(ap.Addr())}
	if ap.Addr().Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
	}
	if proto == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, int(proto))
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if proto != unix.IPPROTO_UDP {
		// Connections of a server that has just gone must not count; a listening server still does.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	err = unix.Bind(fd, sa)
	if err == nil && proto != unix.IPPROTO_UDP {
		err = unix.Listen(fd, 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func four(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}
