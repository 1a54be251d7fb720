// Package cgroupfs makes control groups by writing to the cgroup file systems, for the v1 hierarchies (also hybrid: the
// controllers that are mounted as v1) and for the v2 tree.
//
//	m, err := cgroupfs.New(cgroupfs.Realtime{})
//	g, err := m.Create(ctx, "/longshore/<id>", spec.Linux.Resources)
//	// processes enter every directory of g.Dirs()
//	err = g.Remove(ctx)
//
// Create is on the path of every container start, so only controllers for which a value was given are written. A Manager
// and its Groups are safe for concurrent use; a Group holds no state but its path.
package cgroupfs

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"longshore/internal/core/cgroup"
	"longshore/internal/core/fault"
)

const mountRoot = "/sys/fs/cgroup"

// Realtime is the share of real-time scheduling that the groups above containers get, in microseconds of a period; zero
// leaves what the kernel gives, which is none below the root.
type Realtime struct{ Period, Runtime int64 }

// New finds the hierarchies of this host: the unified one when it is mounted at /sys/fs/cgroup, else all v1 mounts.
func New(rt Realtime) (cgroup.Manager, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(mountRoot, &st); err != nil {
		return nil, fmt.Errorf("cgroups: statfs %s: %w", mountRoot, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		if rt != (Realtime{}) {
			return nil, fault.Invalid("cpu-rt-period and cpu-rt-runtime: daemon-scoped cpu-rt-period and cpu-rt-runtime are not implemented for cgroup v2")
		}
		return NewV2(mountRoot), nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup"))
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	m := NewV1(hierarchies(mounts, systemdRuns())...)
	if len(m.hierarchies) == 0 {
		return nil, fmt.Errorf("cgroups: no hierarchy is mounted below %s", mountRoot)
	}
	if err := m.setRealtime(rt); err != nil {
		return nil, err
	}
	return m, nil
}

func systemdRuns() bool {
	var st unix.Stat_t
	return unix.Lstat("/run/systemd/system", &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// Hierarchy is one v1 mount with the controllers that it carries.
type Hierarchy struct {
	Mount       string
	Controllers []string
}

func (h *Hierarchy) has(controller string) bool {
	for _, c := range h.Controllers {
		if c == controller {
			return true
		}
	}
	return false
}

// hierarchies reads the v1 mounts. Named ones carry no controller; only systemd's is wanted, and only where systemd
// runs: it would otherwise take containers for parts of the daemon's unit.
func hierarchies(mounts []*mountinfo.Info, systemd bool) []Hierarchy {
	var out []Hierarchy
	seen := make(map[string]bool)
	for _, mi := range mounts {
		h := Hierarchy{Mount: mi.Mountpoint}
		for _, opt := range strings.Split(mi.VFSOptions, ",") {
			if opt == "name=systemd" && systemd || controllers[opt] {
				h.Controllers = append(h.Controllers, opt)
			}
		}
		if key := strings.Join(h.Controllers, ","); key != "" && !seen[key] {
			seen[key] = true
			out = append(out, h)
		}
	}
	return out
}

var controllers = map[string]bool{
	"cpu": true, "cpuacct": true, "cpuset": true, "memory": true, "devices": true, "freezer": true, "blkio": true,
	"pids": true, "hugetlb": true, "net_cls": true, "net_prio": true, "perf_event": true, "rdma": true, "misc": true,
}

// cleanPath refuses paths that would leave the hierarchy or name its root.
func cleanPath(path string) (string, error) {
	clean := filepath.Clean("/" + path)
	if clean == "/" {
		return "", fault.Invalid("invalid cgroup path %q", path)
	}
	return clean, nil
}
