package hostport

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	all  = []netip.Addr{netip.IPv4Unspecified()}
	loop = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
)

// free is a TCP port that nobody has.
func free(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestConflicts(t *testing.T) {
	p, port := New(), free(t)
	tcp := func(addrs []netip.Addr) Want {
		return Want{Proto: unix.IPPROTO_TCP, Addrs: addrs, First: port, Last: port}
	}
	l, err := p.Reserve(tcp(all))
	if err != nil || l.Port != port {
		t.Fatal(l, err)
	}
	for _, addrs := range [][]netip.Addr{all, loop} {
		if _, err := p.Reserve(tcp(addrs)); err == nil || !strings.HasSuffix(err.Error(), "failed: port is already allocated") {
			t.Error(err)
		}
	}
	udp, err := p.Reserve(Want{Proto: unix.IPPROTO_UDP, Addrs: all, First: port, Last: port})
	if err != nil {
		t.Error(err)
	} else {
		udp.Release()
	}
	if other, err := net.Listen("tcp4", netip.AddrPortFrom(loop[0], port).String()); err == nil {
		other.Close()
		t.Error("a process of the host got a reserved port")
	}
	l.Release()
	host, err := net.Listen("tcp4", netip.AddrPortFrom(loop[0], port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if _, err := p.Reserve(tcp(all)); !errors.Is(err, unix.EADDRINUSE) {
		t.Error(err)
	}
	adopted := p.Adopt(Want{Proto: unix.IPPROTO_TCP, Addrs: all}, port) // in force already, socket or not
	if _, err := p.Reserve(tcp(loop)); err == nil || !strings.Contains(err.Error(), "already allocated") {
		t.Error(err)
	}
	adopted.Release()
	if len(p.held) != 0 {
		t.Error(p.held)
	}
	if _, err := p.Reserve(Want{Proto: unix.IPPROTO_TCP, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.77")}, First: port, Last: port}); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Error(err)
	}
}

func TestRangeAndAny(t *testing.T) {
	p := New()
	p.lo, p.hi, p.next = 41000, 41003, 41000
	w := Want{Proto: unix.IPPROTO_UDP, Addrs: loop}
	var leases []*Lease
	for i := range 4 {
		l, err := p.Reserve(w)
		if err != nil || l.Port != 41000+uint16(i) {
			t.Fatal(l, err)
		}
		leases = append(leases, l)
	}
	if _, err := p.Reserve(w); err == nil || !strings.Contains(err.Error(), "all ports are allocated") {
		t.Error(err)
	}
	leases[1].Release()
	if l, err := p.Reserve(w); err != nil || l.Port != 41001 {
		t.Error(l, err)
	} else {
		l.Release()
	}
	w.First, w.Last = 41002, 41005
	l, err := p.Reserve(w)
	if err != nil || l.Port != 41004 {
		t.Fatal(l, err)
	}
	l.Release()
	for _, i := range []int{0, 2, 3} {
		leases[i].Release()
	}
	if len(p.held) != 0 {
		t.Error(p.held)
	}
}
