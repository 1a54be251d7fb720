package iptables

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// lookEvery is how often Run looks for changes. Looking is a system call per table; reading the rules follows only when
// something changed.
const lookEvery = 300 * time.Millisecond

// Run implements firewall.Firewall. iptables on nf_tables tells of changes; what the old one has is counted.
func (f *Firewall) Run(ctx context.Context) error {
	w := newWatch()
	defer w.close()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !w.changed() {
			continue
		}
		if err := f.Repair(); err != nil {
			f.log.Error("the firewall's chains are out of order", "error", err)
		}
	}
}

// Repair installs everything anew in a family where our chains were changed, or where the host's own rules say something
// else than before.
func (f *Firewall) Repair() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ipv6 := range f.families() {
		was, ok := f.seen[ipv6]
		if !ok {
			continue
		}
		saved, err := f.tool.save(ipv6)
		if err != nil {
			return err
		}
		if now := parse(saved); now.intact(was, ipv6) && now.host() == was.host {
			continue
		}
		if err := f.installFamily(ipv6); err != nil {
			return err
		}
	}
	return nil
}

// watch notices changes of tables, of both kinds of iptables.
type watch struct {
	nft    *netlink.Conn // nil where the kernel has no nf_tables
	v4, v6 int           // sockets to ask for the old tables; -1 without
	last   [8]info
}

func newWatch() *watch {
	w := &watch{v4: -1, v6: -1}
	if c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil); err == nil {
		if c.JoinGroup(unix.NFNLGRP_NFTABLES) == nil {
			w.nft = c
		} else {
			_ = c.Close()
		}
	}
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err == nil {
		w.v4 = fd
	}
	if fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err == nil {
		w.v6 = fd
	}
	w.counts()
	return w
}

func (w *watch) close() {
	if w.nft != nil {
		_ = w.nft.Close()
	}
	for _, fd := range []int{w.v4, w.v6} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// changed says whether anything changed since it was asked last.
func (w *watch) changed() bool {
	told := false
	if w.nft != nil {
		_ = w.nft.SetReadDeadline(time.Now().Add(time.Millisecond))
		for {
			if _, err := w.nft.Receive(); err != nil {
				told = told || err == unix.ENOBUFS
				break
			}
			told = true
		}
	}
	return w.counts() || told
}

// info is struct ipt_getinfo of linux/netfilter_ipv4/ip_tables.h, which ip6t_getinfo equals.
type info struct {
	name              [32]byte
	validHooks        uint32
	entry, underflow  [5]uint32
	numEntries, bytes uint32
}

// soGetInfo is IPT_SO_GET_INFO and IP6T_SO_GET_INFO.
const soGetInfo = 64

// counts asks for the lengths of the old tables and says whether one is another than before.
func (w *watch) counts() bool {
	changed := false
	for i, table := range []string{"nat", "filter", "mangle", "raw"} {
		for j, fd := range []int{w.v4, w.v6} {
			if fd < 0 {
				continue
			}
			var got info
			copy(got.name[:], table)
			if tableInfo(fd, j == 1, &got) != nil {
				got = info{} // the table is not in use
			}
			if at := &w.last[i*2+j]; *at != got {
				*at, changed = got, true
			}
		}
	}
	return changed
}

func tableInfo(fd int, ipv6 bool, to *info) error {
	level := unix.SOL_IP
	if ipv6 {
		level = unix.SOL_IPV6
	}
	size := uint32(binary.Size(*to))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), soGetInfo, uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// RedirectDNS makes port 53 of the embedded DNS address lead to the ports where the resolver really listens, in the
// network namespace of the calling thread. Rules of an earlier call are replaced.
func RedirectDNS(addr netip.Addr, udp, tcp uint16) error {
	const name = Prefix + "-DNS"
	t := tool{}
	saved, err := t.save(false)
	if err != nil {
		return fmt.Errorf("redirect DNS: %w", err)
	}
	text := "*nat\n:" + name + " - [0:0]\n"
	for _, r := range []struct {
		proto string
		port  uint16
	}{{"udp", udp}, {"tcp", tcp}} {
		text += fmt.Sprintf("-A %s -d %s -p %s -m %s --dport 53 -j DNAT --to-destination %s\n", name, addr, r.proto, r.proto, netip.AddrPortFrom(addr, r.port))
	}
	if !parse(saved).jumps(jump{table: "nat", from: "OUTPUT", to: name}) {
		text += "-A OUTPUT -d " + addr.String() + " -j " + name + "\n"
	}
	if err := t.restore(false, text+"COMMIT\n"); err != nil {
		return fmt.Errorf("redirect DNS: %w", err)
	}
	return nil
}
