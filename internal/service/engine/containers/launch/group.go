package launch

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/container"

	"longshore/internal/core/cgroup"
	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/driver/ocispec"
)

// scopePrefix begins the names of the scopes that systemd makes for containers; monitors know dockerd's.
const scopePrefix = "docker"

// CheckCgroupParent refuses a parent that systemd would not take.
func (l *Launcher) CheckCgroupParent(parent string) error {
	if l.cfg.SystemdCgroup && parent != "" && (len(parent) <= len(".slice") || !strings.HasSuffix(parent, ".slice")) {
		return fault.Invalid("cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"")
	}
	return nil
}

// cgroupParent is where a container's group is made: a path, or the name of a slice.
func (l *Launcher) cgroupParent(rec *core.Record) string {
	if parent := rec.HostConfig.CgroupParent; parent != "" {
		return parent
	}
	return l.cfg.CgroupParent
}

// cgroupPath is where a container's group is, below each hierarchy.
func (l *Launcher) cgroupPath(rec *core.Record) string {
	return cgroup.RuntimePath(l.cgroupsPath(rec))
}

// cgroupsPath is what the runtime is told: the path, or for systemd "slice:prefix:name".
func (l *Launcher) cgroupsPath(rec *core.Record) string {
	if l.cfg.SystemdCgroup {
		return l.cgroupParent(rec) + ":" + scopePrefix + ":" + rec.ID
	}
	return filepath.Join("/", l.cgroupParent(rec), rec.ID)
}

// Group opens the control group of a running container.
func (l *Launcher) Group(ctx context.Context, rec *core.Record) (cgroup.Group, error) {
	if rec.Run == nil {
		return nil, fault.Conflict("container %s is not running", rec.ID)
	}
	if rt, ok := l.runtimes.Load().All[rec.Run.Runtime]; ok && rt.Subgroup != "" && isScope(rec.Run.Cgroup) {
		if g, err := l.Cgroups.Open(ctx, filepath.Join(rec.Run.Cgroup, rt.Subgroup)); err == nil {
			return g, nil // control groups v1 have none
		}
	}
	return l.Cgroups.Open(ctx, rec.Run.Cgroup)
}

// isScope tells a group that systemd made from one that the engine made.
func isScope(path string) bool { return strings.HasSuffix(path, ".scope") }

// Update applies changed limits to a running container.
func (l *Launcher) Update(ctx context.Context, rec *core.Record, r *container.Resources) error {
	res, err := ocispec.Resources(r)
	if err != nil {
		return err
	}
	res.Devices = nil
	g, err := l.Group(ctx, rec)
	if err != nil {
		return err
	}
	if err := g.Update(ctx, res); err != nil || !l.cfg.SystemdCgroup || !isScope(rec.Run.Cgroup) {
		return err
	}
	// systemd writes its own idea of the limits at each daemon-reload; the runtime tells it.
	launch, err := l.launch(rec, rec.Run)
	if err != nil {
		return err
	}
	return l.Runtime.Update(ctx, launch, res)
}
