// Package mounts turns what a client asked of a container's file systems (binds, mounts, tmpfs, volumes-from, the
// image's volumes) into one list of resolved mounts, and holds the volumes that they name.
//
// Parse is pure. Resolver then makes or finds the volumes, checks bind sources and fills empty volumes from the image.
package mounts

import (
	"path"
	"sort"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// Lookup finds the mounts of another container, for volumes-from.
type Lookup func(ref string) ([]core.Mount, error)

// Parse lists the mounts in docker's order of precedence: volumes-from, then binds, mounts and tmpfs (which may not
// collide with each other), then the volumes of the configuration where nothing else stands.
func Parse(cfg *container.Config, hc *container.HostConfig, from Lookup, rules Rules) ([]core.Mount, error) {
	set := collection{at: map[string]int{}}
	for _, spec := range hc.VolumesFrom {
		if err := inherit(&set, spec, from); err != nil {
			return nil, err
		}
	}
	if err := explicit(&set, hc, rules); err != nil {
		return nil, err
	}
	for _, dst := range sortedKeys(cfg.Volumes) {
		clean := path.Clean(dst)
		if _, taken := set.at[clean]; taken {
			continue
		}
		if err := checkTarget("volume", dst); err != nil {
			return nil, fault.Invalid("invalid volume specification: '%s': %v", dst, err)
		}
		set.put(core.Mount{
			MountPoint: container.MountPoint{Type: mount.TypeVolume, Destination: clean, Driver: driver(hc), RW: true},
			FromImage:  true, Anonymous: true,
		})
	}
	return set.list, nil
}

func explicit(set *collection, hc *container.HostConfig, rules Rules) error {
	seen := map[string]bool{}
	add := func(m core.Mount) error {
		if err := rules.settle(&m); err != nil {
			return err
		}
		if seen[m.Destination] {
			return fault.Invalid("Duplicate mount point: %s", m.Destination)
		}
		seen[m.Destination] = true
		set.put(m)
		return nil
	}
	for _, raw := range hc.Binds {
		m, err := ParseBind(raw, hc.VolumeDriver)
		if err != nil {
			return err
		}
		if err := add(m); err != nil {
			return err
		}
	}
	for i := range hc.Mounts {
		m, err := ParseMount(&hc.Mounts[i])
		if err != nil {
			return err
		}
		if err := add(m); err != nil {
			return err
		}
	}
	for _, dst := range sortedKeys(hc.Tmpfs) {
		if err := checkTarget("tmpfs", dst); err != nil {
			return err
		}
		err := add(core.Mount{
			MountPoint:   container.MountPoint{Type: mount.TypeTmpfs, Destination: path.Clean(dst), RW: true},
			TmpfsOptions: hc.Tmpfs[dst], Hidden: true,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func driver(hc *container.HostConfig) string {
	if hc.VolumeDriver != "" {
		return hc.VolumeDriver
	}
	return "local"
}

// collection keeps mounts in order; a later one replaces an earlier one at the same place.
type collection struct {
	list []core.Mount
	at   map[string]int
}

func (c *collection) put(m core.Mount) {
	if i, ok := c.at[m.Destination]; ok {
		c.list[i] = m
		return
	}
	c.at[m.Destination] = len(c.list)
	c.list = append(c.list, m)
}

// inherit copies the mounts of another container: "name[:mode]".
func inherit(set *collection, spec string, from Lookup) error {
	ref, mode, hasMode := strings.Cut(spec, ":")
	if ref == "" {
		return fault.Invalid("malformed volumes-from specification: %q", spec)
	}
	rw := true
	if hasMode {
		o, err := parseMode(mode, false)
		if err != nil || o.noCopy { // what is inherited is there already
			return fault.Invalid("invalid mode: %s", mode)
		}
		rw = o.rw
	}
	list, err := from(ref)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.Hidden || m.Type == mount.TypeTmpfs {
			continue
		}
		m.Inherited, m.FromImage, m.NoCopy = true, false, true
		m.RW = m.RW && rw
		set.put(m)
	}
	return nil
}

// modeOptions are the words after the second colon of a bind.
type modeOptions struct {
	rw, noCopy  bool
	propagation mount.Propagation
}

// parseMode reads "ro,z,rshared"; each kind of word may occur once.
func parseMode(mode string, bind bool) (modeOptions, error) {
	o := modeOptions{rw: true}
	if mode == "" {
		return o, nil
	}
	count := map[string]int{}
	for _, w := range strings.Split(mode, ",") {
		kind := ""
		switch w {
		case "rw", "ro":
			kind, o.rw = "access", w == "rw"
		case "z", "Z":
			kind = "label"
		case "nocopy":
			kind, o.noCopy = "copy", true
		case "consistent", "cached", "delegated", "default":
			kind = "consistency"
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			kind, o.propagation = "propagation", mount.Propagation(w)
		}
		count[kind]++
		if kind == "" || count[kind] > 1 || (bind && kind == "copy") || (!bind && kind == "propagation") {
			return o, fault.Invalid("invalid mode: %s", mode)
		}
	}
	return o, nil
}

// ParseBind reads an element of HostConfig.Binds: "[source:]target[:mode]". Without a word for it the propagation is empty.
func ParseBind(raw, volumeDriver string) (core.Mount, error) {
	bad := fault.Invalid("invalid volume specification: '%s'", raw)
	parts := strings.Split(raw, ":")
	var source, target, mode string
	switch {
	case parts[0] == "" || len(parts) > 3:
		return core.Mount{}, bad
	case len(parts) == 1:
		target = parts[0]
	case len(parts) == 2:
		if _, err := parseMode(parts[1], true); err == nil {
			return core.Mount{}, bad
		}
		source, target = parts[0], parts[1]
	default:
		source, target, mode = parts[0], parts[1], parts[2]
	}
	isBind := strings.HasPrefix(source, "/")
	o, err := parseMode(mode, isBind)
	if err != nil {
		return core.Mount{}, err
	}
	kind := mount.TypeVolume
	if isBind {
		kind = mount.TypeBind
	}
	if err := checkTarget(string(kind), target); err != nil {
		return core.Mount{}, fault.Invalid("invalid volume specification: '%s': %v", raw, err)
	}
	m := core.Mount{MountPoint: container.MountPoint{Type: kind, Destination: path.Clean(target), Mode: mode, RW: o.rw}}
	if isBind {
		m.Source, m.CreateSource = path.Clean(source), true
		m.Propagation = o.propagation
		return m, nil
	}
	m.Name, m.NoCopy, m.Anonymous = source, o.noCopy, source == ""
	m.Driver = volumeDriver
	if m.Driver == "" {
		m.Driver = "local"
	}
	if m.Mode == "" && m.Driver == "local" && source != "" {
		m.Mode = "z"
	}
	return m, nil
}

// checkTarget refuses what cannot be a mount's place inside a container.
func checkTarget(kind, target string) error {
	wrap := func(format string, a ...any) error {
		inner := fault.Invalid(format, a...)
		return fault.Invalid("invalid mount config for type %q: %v", kind, inner)
	}
	switch {
	case target == "":
		return wrap("field Target must not be empty")
	case !strings.HasPrefix(target, "/"):
		return wrap("invalid mount path: '%s' mount path must be absolute", target)
	case path.Clean(target) == "/":
		return wrap("invalid specification: destination can't be '/'")
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
