package cgroupfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/cgroup"
	"longshore/internal/core/fault"
)

// V2 manages groups in the unified hierarchy.
type V2 struct {
	mount string
}

// NewV2 manages groups below a cgroup2 mount.
func NewV2(mount string) *V2 { return &V2{mount: mount} }

// Version is "2".
func (m *V2) Version() string { return "2" }

// Driver is "cgroupfs".
func (m *V2) Driver() string { return "cgroupfs" }

// Create makes the group, enables the controllers in its parents and sets its limits. An empty group left by an earlier
// run is made anew, so that no old device program stays attached.
func (m *V2) Create(ctx context.Context, path string, r *specs.LinuxResources) (cgroup.Group, error) {
	path, err := cleanPath(path)
	if err != nil {
		return nil, err
	}
	g := &groupV2{dir: m.mount + path}
	if err := m.makeDir(path); err != nil {
		return nil, fmt.Errorf("create cgroup %s: %w", path, err)
	}
	return begin(ctx, g.dir, g, r)
}

// Open finds an existing group.
func (m *V2) Open(_ context.Context, path string) (cgroup.Group, error) {
	path, err := cleanPath(path)
	if err != nil {
		return nil, err
	}
	if !exists(m.mount + path) {
		return nil, fault.New(errdefs.ErrNotFound, "cgroup %s does not exist", path)
	}
	return &groupV2{dir: m.mount + path}, nil
}

func (m *V2) makeDir(path string) error {
	dir := m.mount + path
	err := unix.Mkdir(dir, 0o755)
	if errors.Is(err, unix.EEXIST) && unix.Rmdir(dir) == nil {
		err = unix.Mkdir(dir, 0o755)
	}
	if errors.Is(err, unix.ENOENT) {
		if err := m.makeParents(filepath.Dir(path)); err != nil {
			return err
		}
		err = unix.Mkdir(dir, 0o755)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

// makeParents makes the groups above a container's and lets each hand its controllers down.
func (m *V2) makeParents(path string) error {
	dir := m.mount
	if err := delegate(dir); err != nil {
		return err
	}
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		if name == "" {
			continue
		}
		dir += "/" + name
		if err := unix.Mkdir(dir, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return &os.PathError{Op: "mkdir", Path: dir, Err: err}
		}
		if err := delegate(dir); err != nil {
			return err
		}
	}
	return nil
}

// delegate enables all controllers of a group for its children. One that cannot be enabled (threaded siblings, RT
// processes) must not keep the others away, so they are tried one by one after a failure; setting a limit of the
// missing one fails then with the kernel's reason.
func delegate(dir string) error {
	data, err := read(dir, "cgroup.controllers")
	if err != nil {
		return err
	}
	enabled, err := read(dir, "cgroup.subtree_control")
	if err != nil {
		return err
	}
	on := strings.Fields(string(enabled))
	var want []string
	for _, c := range strings.Fields(string(data)) {
		if !slices.Contains(on, c) {
			want = append(want, "+"+c)
		}
	}
	if len(want) == 0 || write(dir, "cgroup.subtree_control", strings.Join(want, " ")) == nil {
		return nil
	}
	for _, c := range want {
		_ = write(dir, "cgroup.subtree_control", c)
	}
	return nil
}

type groupV2 struct {
	dir string
}

func (g *groupV2) Dirs() []string { return []string{g.dir} }

func (g *groupV2) PIDs(context.Context) ([]int, error) { return pidsBelow(g.dir) }

// OOMKills counts the processes that the kernel killed in the group for want of memory.
func (g *groupV2) OOMKills() (uint64, error) {
	return countOOM(g.dir, "memory.events")
}

// Remove kills the whole tree at once (cgroup.kill, Linux 5.14) and removes it.
func (g *groupV2) Remove(ctx context.Context) error {
	return removeAll(ctx, g.Dirs(), func() { _ = write(g.dir, "cgroup.kill", "1") })
}

// Freeze stops every process of the group and waits until the kernel says so.
func (g *groupV2) Freeze(ctx context.Context) error {
	if err := write(g.dir, "cgroup.freeze", "1"); err != nil {
		return err
	}
	return awaitFrozen(ctx, g.dir, g, func() (bool, error) { return g.event("frozen") })
}

// Thaw lets a frozen group go on.
func (g *groupV2) Thaw(context.Context) error { return write(g.dir, "cgroup.freeze", "0") }

// event reads one flag of cgroup.events.
func (g *groupV2) event(name string) (set bool, err error) {
	data, err := read(g.dir, "cgroup.events")
	keyed(data, func(key string, v uint64) { set = set || key == name && v == 1 })
	return set, err
}
