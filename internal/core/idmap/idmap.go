// Package idmap is how the numbers of users and groups inside of a user namespace relate to those of the host.
package idmap

import (
	"fmt"
	"strconv"
	"strings"

	"longshore/internal/core/fault"
)

// Range maps Size numbers from Inside on to those from Outside on.
type Range struct{ Inside, Outside, Size int }

// Map is a pair of mappings. The root user and group are always mapped.
type Map struct{ UIDs, GIDs []Range }

// Root is the host's number of the namespace's root user and group.
func (m *Map) Root() (uid, gid int) {
	uid, _ = outside(m.UIDs, 0)
	gid, _ = outside(m.GIDs, 0)
	return uid, gid
}

// Outside gives the host's numbers; ok is false when one is not mapped.
func (m *Map) Outside(uid, gid int) (hostUID, hostGID int, ok bool) {
	u, ok1 := outside(m.UIDs, uid)
	g, ok2 := outside(m.GIDs, gid)
	return u, g, ok1 && ok2
}

// Inside gives the namespace's numbers; what is not mapped is "nobody", as the kernel shows it.
func (m *Map) Inside(uid, gid int) (int, int) {
	return inside(m.UIDs, uid), inside(m.GIDs, gid)
}

// overflow is the number that the kernel shows for what is not mapped.
const overflow = 65534

func outside(list []Range, n int) (int, bool) {
	for _, r := range list {
		if n >= r.Inside && n < r.Inside+r.Size {
			return r.Outside + n - r.Inside, true
		}
	}
	return 0, false
}

func inside(list []Range, n int) int {
	for _, r := range list {
		if n >= r.Outside && n < r.Outside+r.Size {
			return r.Inside + n - r.Outside
		}
	}
	return overflow
}

// Top is the highest number that is mapped inside.
func Top(list []Range) int {
	top := 0
	for _, r := range list {
		top = max(top, r.Inside+r.Size-1)
	}
	return top
}

// Subordinate reads /etc/subuid or /etc/subgid: the ranges of a user, by name or number, one after the other from 0 on.
func Subordinate(file, name string, id int) ([]Range, error) {
	var out []Range
	next := 0
	for line := range strings.Lines(file) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 || (fields[0] != name && fields[0] != strconv.Itoa(id)) {
			continue
		}
		start, err1 := strconv.ParseUint(fields[1], 10, 31)
		size, err2 := strconv.ParseUint(fields[2], 10, 31)
		if err1 != nil || err2 != nil {
			return nil, fault.Invalid("could not parse a range of subordinate IDs: %q", line)
		}
		if size == 0 {
			continue
		}
		out = append(out, Range{Inside: next, Outside: int(start), Size: int(size)})
		next += int(size)
	}
	return out, nil
}

// Free is the first number behind all ranges in a file of subordinate IDs.
func Free(file string) int {
	next := 100000
	for line := range strings.Lines(file) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 {
			continue
		}
		start, err1 := strconv.Atoi(fields[1])
		n, err2 := strconv.Atoi(fields[2])
		if err1 == nil && err2 == nil {
			next = max(next, start+n)
		}
	}
	return next
}

// String is the mapping as it is written to the log.
func (m *Map) String() string { return fmt.Sprintf("users %v, groups %v", m.UIDs, m.GIDs) }
