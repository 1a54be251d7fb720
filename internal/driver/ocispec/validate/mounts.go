package validate

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"longshore/internal/core/fault"
)

// checkMounts checks HostConfig.Mounts and the places of HostConfig.Tmpfs.
func checkMounts(hc *container.HostConfig) (warnings []string, err error) {
	for i := range hc.Mounts {
		m := &hc.Mounts[i]
		if m.Type == mount.TypeImage {
			warnings = append(warnings, "Image mount is an experimental feature")
		}
		if err := CheckMount(m); err != nil {
			return warnings, err
		}
	}
	for _, target := range sortedKeys(hc.Tmpfs) {
		if problem := checkTarget(target); problem != "" {
			return warnings, fault.Invalid("%s", problem)
		}
	}
	return warnings, nil
}

// CheckMount checks one mount of the "Mounts" list; the source of a bind must exist, unless it may be created.
func CheckMount(m *mount.Mount) error {
	problem := "field Target must not be empty"
	if m.Target != "" {
		problem = checkTarget(m.Target)
	}
	if problem == "" {
		switch m.Type {
		case mount.TypeBind:
			problem = checkBind(m)
		case mount.TypeVolume:
			problem = checkVolume(m)
		case mount.TypeTmpfs:
			problem = checkTmpfs(m)
		case mount.TypeImage:
			problem = checkImage(m)
		default:
			problem = "mount type unknown"
		}
	}
	if problem != "" {
		return fault.Invalid("invalid mount config for type %q: %s", m.Type, problem)
	}
	return nil
}

func checkTarget(target string) string {
	if path.Clean(target) == "/" {
		return "invalid specification: destination can't be '/'"
	}
	return checkAbsolute(target)
}

func checkAbsolute(p string) string {
	if !path.IsAbs(p) {
		return fmt.Sprintf("invalid mount path: '%s' mount path must be absolute", p)
	}
	return ""
}

func extra(field string, there bool) string {
	if there {
		return "field " + field + " must not be specified"
	}
	return ""
}

// first is the first problem, if there is any.
func first(problems ...string) string {
	for _, p := range problems {
		if p != "" {
			return p
		}
	}
	return ""
}

func checkBind(m *mount.Mount) string {
	if m.Source == "" {
		return "field Source must not be empty"
	}
	o := m.BindOptions
	if o != nil && o.Propagation != "" && !slices.Contains(mount.Propagations, o.Propagation) {
		return fmt.Sprintf("invalid propagation mode: %s", o.Propagation)
	}
	problem := first(extra("VolumeOptions", m.VolumeOptions != nil), extra("ImageOptions", m.ImageOptions != nil), checkAbsolute(m.Source))
	if problem != "" {
		return problem
	}
	switch _, err := os.Stat(m.Source); {
	case err == nil || os.IsNotExist(err) && o != nil && o.CreateMountpoint:
		return ""
	case os.IsNotExist(err):
		return "bind source path does not exist: " + m.Source
	default:
		return err.Error()
	}
}

func checkVolume(m *mount.Mount) string {
	if problem := first(extra("BindOptions", m.BindOptions != nil), extra("ImageOptions", m.ImageOptions != nil)); problem != "" {
		return problem
	}
	if o := m.VolumeOptions; o != nil && o.Subpath != "" {
		if m.Source == "" {
			return "must not set Subpath when using anonymous volumes"
		}
		if !filepath.IsLocal(o.Subpath) {
			return "subpath must be a relative path within the volume"
		}
	}
	if m.ReadOnly && m.Source == "" {
		return "must not set ReadOnly mode when using anonymous volumes"
	}
	return ""
}

func checkTmpfs(m *mount.Mount) string {
	problem := first(extra("BindOptions", m.BindOptions != nil), extra("ImageOptions", m.ImageOptions != nil), extra("Source", m.Source != ""))
	if problem != "" || m.TmpfsOptions == nil {
		return problem
	}
	for _, opt := range m.TmpfsOptions.Options {
		if len(opt) < 1 || len(opt) > 2 {
			return "invalid option array length"
		}
		if opt[0] != "exec" && opt[0] != "noexec" {
			return "invalid option: " + opt[0]
		}
	}
	return ""
}

func checkImage(m *mount.Mount) string {
	problem := first(extra("BindOptions", m.BindOptions != nil), extra("VolumeOptions", m.VolumeOptions != nil))
	switch {
	case problem != "":
		return problem
	case m.Source == "":
		return "field Source must not be empty"
	case m.ImageOptions != nil && m.ImageOptions.Subpath != "" && !filepath.IsLocal(m.ImageOptions.Subpath):
		return "subpath must be a relative path within the volume"
	}
	return ""
}
