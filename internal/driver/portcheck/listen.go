package portcheck

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Listener is a socket that waits for connections or datagrams.
type Listener struct {
	Addr netip.Addr
	// Process is the name and number of who has it; "a process" when that cannot be seen.
	Process string
}

// listeners reads the kernel's tables of sockets of this network namespace.
func listeners(p Port) ([]Listener, error) {
	if p.Proto == "sctp" {
		return nil, nil // the kernel has no table of that form
	}
	byInode := map[string]netip.Addr{}
	var order []string
	for _, table := range []string{p.Proto, p.Proto + "6"} {
		f, err := os.Open("/proc/net/" + table)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("sockets: %w", err)
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			if addr, inode, ok := socket(sc.Text(), p); ok {
				byInode[inode] = addr
				order = append(order, inode)
			}
		}
		_ = f.Close()
	}
	owners := owners(byInode)
	var out []Listener
	for _, inode := range order {
		l := Listener{Addr: byInode[inode], Process: "a process"}
		if who := owners[inode]; who != "" {
			l.Process = who
		}
		out = append(out, l)
	}
	return out, nil
}

// socket reads a line of /proc/net/tcp and its kin.
func socket(line string, p Port) (addr netip.Addr, inode string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return addr, "", false
	}
	host, port, _ := strings.Cut(f[1], ":")
	n, err := strconv.ParseUint(port, 16, 16)
	const listening, unconnected = "0A", "07"
	if err != nil || uint16(n) != p.Number || (f[3] != listening && f[3] != unconnected) {
		return addr, "", false
	}
	b, err := hex.DecodeString(host)
	if err != nil || len(b)%4 != 0 {
		return addr, "", false
	}
	for i := 0; i < len(b); i += 4 { // words in the host's order, which is little-endian wherever this runs
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	addr, ok = netip.AddrFromSlice(b)
	return addr, f[9], ok
}

// owners finds the processes that have sockets.
func owners(inodes map[string]netip.Addr) map[string]string {
	out := map[string]string{}
	if len(inodes) == 0 {
		return out
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, l := range links {
		to, err := os.Readlink(l)
		if err != nil || !strings.HasPrefix(to, "socket:[") {
			continue
		}
		inode := strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")
		if _, ok := inodes[inode]; !ok || out[inode] != "" {
			continue
		}
		pid := strings.Split(l, "/")[2]
		comm, _ := os.ReadFile("/proc/" + pid + "/comm")
		out[inode] = strings.TrimSpace(string(comm)) + " (pid " + pid + ")"
	}
	return out
}
