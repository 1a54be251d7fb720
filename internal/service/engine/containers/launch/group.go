package launch

import (
	"path/filepath"
	"strings"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
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
	if l.cfg.SystemdCgroup {
		return filepath.Join(slicePath(l.cgroupParent(rec)), scopePrefix+"-"+rec.ID+".scope")
	}
	return filepath.Join("/", l.cgroupParent(rec), rec.ID)
}

// cgroupsPath is what the runtime is told: the path, or for systemd "slice:prefix:name".
func (l *Launcher) cgroupsPath(rec *core.Record) string {
	if l.cfg.SystemdCgroup {
		return l.cgroupParent(rec) + ":" + scopePrefix + ":" + rec.ID
	}
	return l.cgroupPath(rec)
}

// slicePath is the group of a slice: "a-b.slice" lies in "a.slice"; "-.slice" is the root.
func slicePath(slice string) string {
	name := strings.TrimSuffix(filepath.Base(slice), ".slice")
	path := "/"
	if name == "-" {
		return path
	}
	for i, c := range name {
		if c == '-' {
			path = filepath.Join(path, name[:i]+".slice")
		}
	}
	return filepath.Join(path, name+".slice")
}
