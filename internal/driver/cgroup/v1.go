package cgroupfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/cgroup"
	"longshore/internal/core/fault"
)

// V1 manages groups in the v1 hierarchies.
type V1 struct {
	hierarchies []Hierarchy
	realtime    Realtime
}

// NewV1 manages groups in the given hierarchies; New finds those of the host.
func NewV1(h ...Hierarchy) *V1 { return &V1{hierarchies: h} }

// Version is "1".
func (m *V1) Version() string { return "1" }

// Driver is "cgroupfs".
func (m *V1) Driver() string { return "cgroupfs" }

// Create makes the group in every hierarchy and sets its limits. A group that cannot be made whole is removed again.
func (m *V1) Create(ctx context.Context, path string, r *specs.LinuxResources) (cgroup.Group, error) {
	path, err := cleanPath(path)
	if err != nil {
		return nil, err
	}
	g := &groupV1{path: path, hierarchies: m.hierarchies}
	if m.realtime != (Realtime{}) {
		if err := m.shareRealtime(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	for i := range m.hierarchies {
		if err := makeDir(&m.hierarchies[i], path); err != nil {
			return nil, errors.Join(fmt.Errorf("create cgroup %s: %w", path, err), g.Remove(context.WithoutCancel(ctx)))
		}
	}
	return begin(ctx, path, g, r)
}

// Open finds a group that exists in at least one hierarchy.
func (m *V1) Open(_ context.Context, path string) (cgroup.Group, error) {
	path, err := cleanPath(path)
	if err != nil {
		return nil, err
	}
	g := &groupV1{path: path}
	for _, h := range m.hierarchies {
		if exists(h.Mount + path) {
			g.hierarchies = append(g.hierarchies, h)
		}
	}
	if len(g.hierarchies) == 0 {
		return nil, fault.New(errdefs.ErrNotFound, "cgroup %s does not exist", path)
	}
	return g, nil
}

// setRealtime has the groups above containers get a share of real-time scheduling from now on.
func (m *V1) setRealtime(rt Realtime) error {
	if rt == (Realtime{}) {
		return nil
	}
	i := slices.IndexFunc(m.hierarchies, func(h Hierarchy) bool { return h.has("cpu") })
	if i < 0 || !exists(m.hierarchies[i].Mount+"/cpu.rt_runtime_us") {
		return fault.Invalid("cpu-rt-period and cpu-rt-runtime: kernel does not support CPU real-time scheduler (CONFIG_RT_GROUP_SCHED)")
	}
	m.realtime = rt
	return nil
}

// shareRealtime gives the share to a group and all above it, the topmost first: no group can have more than its parent.
func (m *V1) shareRealtime(path string) error {
	if path == "/" {
		return nil
	}
	if err := m.shareRealtime(filepath.Dir(path)); err != nil {
		return err
	}
	for i := range m.hierarchies {
		h := &m.hierarchies[i]
		if !h.has("cpu") {
			continue
		}
		if err := makeDir(h, path); err != nil {
			return err
		}
		for _, f := range []struct {
			name  string
			value int64
		}{{"cpu.rt_period_us", m.realtime.Period}, {"cpu.rt_runtime_us", m.realtime.Runtime}} {
			if f.value == 0 {
				continue
			}
			if err := write(h.Mount+path, f.name, itoa(f.value)); err != nil {
				return fmt.Errorf("real-time share of cgroup %s: %w", path, err)
			}
		}
	}
	return nil
}

// makeDir makes the group's directory and missing parents in one hierarchy. A cpuset is not usable before it has CPUs and
// memory nodes: parents that we make hand theirs down (clone_children), and what is empty still is copied.
func makeDir(h *Hierarchy, path string) error {
	dir := h.Mount + path
	err := unix.Mkdir(dir, 0o755)
	if errors.Is(err, unix.ENOENT) {
		parent := filepath.Dir(path)
		if parent == "/" {
			return &os.PathError{Op: "mkdir", Path: dir, Err: err}
		}
		if err := makeDir(h, parent); err != nil {
			return err
		}
		if h.has("cpuset") {
			_ = write(h.Mount+parent, "cgroup.clone_children", "1") // only saves copying below
		}
		err = unix.Mkdir(dir, 0o755)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	if h.has("cpuset") {
		return inheritCpuset(dir)
	}
	return nil
}

// inheritCpuset copies the parent's CPUs and nodes into a group that has none. A parent that another one is just making has
// none either, and gets them first.
func inheritCpuset(dir string) error {
	for _, file := range [...]string{"cpuset.cpus", "cpuset.mems"} {
		own, err := read(dir, file)
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(own)) > 0 {
			continue
		}
		from, err := read(filepath.Dir(dir), file)
		if err == nil && len(bytes.TrimSpace(from)) == 0 {
			if err = inheritCpuset(filepath.Dir(dir)); err == nil { // ends at the root, which has all
				from, err = read(filepath.Dir(dir), file)
			}
		}
		if err != nil {
			return err
		}
		if err := write(dir, file, string(from)); err != nil {
			return err
		}
	}
	return nil
}

// groupV1 is a group: the same path in each of its hierarchies.
type groupV1 struct {
	path        string
	hierarchies []Hierarchy
}

func (g *groupV1) Dirs() []string {
	dirs := make([]string, len(g.hierarchies))
	for i := range g.hierarchies {
		dirs[i] = g.hierarchies[i].Mount + g.path
	}
	return dirs
}

// dir is the group's directory in the hierarchy of a controller, "" when the host has none.
func (g *groupV1) dir(controller string) string {
	for i := range g.hierarchies {
		if g.hierarchies[i].has(controller) {
			return g.hierarchies[i].Mount + g.path
		}
	}
	return ""
}

// PIDs lists each process once, though it is in every hierarchy.
func (g *groupV1) PIDs(context.Context) ([]int, error) { return pidsBelow(g.Dirs()...) }

// OOMKills counts the processes that the kernel killed in the group for want of memory.
func (g *groupV1) OOMKills() (uint64, error) {
	return countOOM(g.dir("memory"), "memory.oom_control")
}

// Remove kills what is left in the group and removes its directories, nested ones first.
func (g *groupV1) Remove(ctx context.Context) error {
	thaw := func() {
		if dir := g.dir("freezer"); dir != "" {
			_ = write(dir, "freezer.state", "THAWED") // a frozen process does not die
		}
	}
	return removeAll(ctx, g.Dirs(), thaw)
}
