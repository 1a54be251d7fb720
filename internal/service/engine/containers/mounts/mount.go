package mounts

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// ParseMount reads an element of HostConfig.Mounts. A propagation that it does not name is empty.
func ParseMount(m *mount.Mount) (core.Mount, error) {
	if err := checkMount(m); err != nil {
		return core.Mount{}, err
	}
	out := core.Mount{MountPoint: container.MountPoint{Type: m.Type, Destination: path.Clean(m.Target), RW: !m.ReadOnly}}
	switch m.Type {
	case mount.TypeBind:
		bindOptions(&out, m)
	case mount.TypeVolume:
		volumeOptions(&out, m)
	case mount.TypeTmpfs:
		out.TmpfsOptions = tmpfsOptions(m)
	case mount.TypeImage:
		out.Source, out.RW = m.Source, false // an image is never written to
		if m.ImageOptions != nil {
			out.Subpath = m.ImageOptions.Subpath
		}
	}
	return out, nil
}

func bindOptions(out *core.Mount, m *mount.Mount) {
	out.Source = path.Clean(m.Source)
	if o := m.BindOptions; o != nil {
		out.Propagation = o.Propagation
		out.CreateSource = o.CreateMountpoint
		out.Recursion = core.Recursion{NonRecursive: o.NonRecursive, ReadOnlyNonRecursive: o.ReadOnlyNonRecursive, ReadOnlyForceRecursive: o.ReadOnlyForceRecursive}
	}
}

func volumeOptions(out *core.Mount, m *mount.Mount) {
	out.Name, out.Anonymous, out.Driver = m.Source, m.Source == "", "local"
	if o := m.VolumeOptions; o != nil {
		out.NoCopy, out.Subpath, out.Labels = o.NoCopy, o.Subpath, o.Labels
		if o.DriverConfig != nil {
			if o.DriverConfig.Name != "" {
				out.Driver = o.DriverConfig.Name
			}
			out.DriverOptions = o.DriverConfig.Options
		}
	}
	if out.Driver == "local" {
		out.Mode = "z"
	}
}

// tmpfsOptions writes mount options in the notation of HostConfig.Tmpfs.
func tmpfsOptions(m *mount.Mount) string {
	var opts []string
	if m.ReadOnly {
		opts = append(opts, "ro")
	}
	o := m.TmpfsOptions
	if o == nil {
		return strings.Join(opts, ",")
	}
	if o.Mode != 0 {
		opts = append(opts, fmt.Sprintf("mode=%o", o.Mode))
	}
	if o.SizeBytes > 0 {
		opts = append(opts, fmt.Sprintf("size=%d", o.SizeBytes))
	}
	for _, kv := range o.Options {
		opts = append(opts, strings.Join(kv, "="))
	}
	return strings.Join(opts, ",")
}

// checkMount applies docker's rules for a mount of the new notation, in docker's words.
func checkMount(m *mount.Mount) error {
	wrap := func(format string, a ...any) error {
		inner := fault.Invalid(format, a...)
		return fault.Invalid("invalid mount config for type %q: %v", string(m.Type), inner)
	}
	switch m.Type {
	case mount.TypeBind, mount.TypeVolume, mount.TypeTmpfs, mount.TypeImage:
	case "":
		return wrap("mount type unknown")
	case mount.TypeNamedPipe, mount.TypeCluster:
		return wrap("mount type is not supported on this platform")
	default:
		return wrap("mount type unknown")
	}
	if err := checkTarget(string(m.Type), m.Target); err != nil {
		return err
	}
	if field := foreignOptions(m); field != "" {
		return wrap("field %s must not be specified", field)
	}
	switch m.Type {
	case mount.TypeBind:
		return checkBind(m, wrap)
	case mount.TypeVolume:
		if m.Source == "" && m.VolumeOptions != nil && m.VolumeOptions.Subpath != "" {
			return wrap("must not set Subpath when using anonymous volumes")
		}
		if o := m.VolumeOptions; o != nil && o.Subpath != "" && !filepath.IsLocal(o.Subpath) {
			return wrap("subpath must be a relative path within the volume")
		}
	case mount.TypeTmpfs:
		if m.Source != "" {
			return wrap("field Source must not be specified")
		}
	case mount.TypeImage:
		if m.Source == "" {
			return wrap("field Source must not be empty")
		}
		if o := m.ImageOptions; o != nil && o.Subpath != "" && !filepath.IsLocal(o.Subpath) {
			return wrap("subpath must be a relative path within the volume")
		}
	}
	return nil
}

func foreignOptions(m *mount.Mount) string {
	switch {
	case m.BindOptions != nil && m.Type != mount.TypeBind:
		return "BindOptions"
	case m.VolumeOptions != nil && m.Type != mount.TypeVolume:
		return "VolumeOptions"
	case m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs:
		return "TmpfsOptions"
	case m.ImageOptions != nil && m.Type != mount.TypeImage:
		return "ImageOptions"
	}
	return ""
}

func checkBind(m *mount.Mount, wrap func(string, ...any) error) error {
	if m.Source == "" {
		return wrap("field Source must not be empty")
	}
	if !path.IsAbs(m.Source) {
		return wrap("invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	o := m.BindOptions
	if o == nil {
		return nil
	}
	if o.Propagation != "" && !slices.Contains(mount.Propagations, o.Propagation) {
		return wrap("invalid propagation mode: %s", o.Propagation)
	}
	if o.ReadOnlyNonRecursive && !m.ReadOnly {
		return wrap("mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive")
	}
	if o.ReadOnlyForceRecursive && !m.ReadOnly {
		return wrap("mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive")
	}
	if o.ReadOnlyForceRecursive && o.ReadOnlyNonRecursive {
		return wrap("mount options conflict: BindOptions.ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")
	}
	return nil
}
