package iptables

import (
	"context"
	"encoding/binary"
	"errors"
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

// lookAfter is how often Run reads the rules even though nothing seems to have changed.
const lookAfter = 30 * time.Second

// Run implements firewall.Firewall. iptables on nf_tables tells of changes; what the old one has is counted.
func (f *Firewall) Run(ctx context.Context) error {
	w := newWatch()
	defer w.close()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var looked time.Time // what changed before Run began counts, too
	for {
		if told := w.told(); told || f.recount() || time.Since(looked) > lookAfter {
			looked = time.Now()
			if err := f.Repair(); err != nil {
				f.log.Error("the firewall's chains are out of order", "error", err)
				looked = time.Time{} // somebody may have been at it meanwhile: again
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// recount says whether the old tables are longer or shorter than when they were last read and found good. After changes of
// our own they are read once more, since somebody else's may have come in between.
func (f *Firewall) recount() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed || f.last != tables()
}

// Repair installs everything anew in a family where our chains were changed, or where the host's own rules say something
// else than before.
func (f *Firewall) Repair() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed, f.last = false, tables()
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

// watch is told of changes of nf_tables.
type watch struct{ conn *netlink.Conn } // nil where the kernel has none

func newWatch() watch {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return watch{}
	}
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		_ = c.Close()
		return watch{}
	}
	return watch{c}
}

func (w watch) close() {
	if w.conn != nil {
		_ = w.conn.Close()
	}
}

// told says whether anything changed since it was asked last.
func (w watch) told() bool {
	if w.conn == nil {
		return false
	}
	told := false
	_ = w.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	for {
		if _, err := w.conn.Receive(); err != nil {
			return told || errors.Is(err, unix.ENOBUFS)
		}
		told = true
	}
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

// lengths are those of the old tables of both families.
type lengths [8]info

// tables asks for them. A table that is not in use is all zeros.
func tables() (out lengths) {
	for i, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			continue
		}
		for j, table := range []string{"nat", "filter", "mangle", "raw"} {
			var got info
			copy(got.name[:], table)
			if tableInfo(fd, i == 1, &got) == nil {
				out[i*4+j] = got
			}
		}
		_ = unix.Close(fd)
	}
	return out
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
