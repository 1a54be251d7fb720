package grant

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// References are what a container that is asked for would use of others; each must be in the caller's namespace.
type References struct {
	Containers, Networks, Volumes []string
}

// Resolver gives the path that a bind source really is, links followed.
type Resolver func(path string) (string, error)

// Create checks what a container is asked to be, puts the namespace's labels and resolved bind sources into it, and tells
// which objects of others it refers to.
func (g *Grant) Create(cfg *container.Config, hc *container.HostConfig, resolve Resolver) (refs References, err error) {
	if cfg.Labels, err = g.Label(cfg.Labels); err != nil {
		return refs, err
	}
	if err := g.reach(hc); err != nil {
		return refs, err
	}
	for i, b := range hc.Binds {
		if hc.Binds[i], err = g.bind(b, &refs, resolve); err != nil {
			return refs, err
		}
	}
	for i := range hc.Mounts {
		if err := g.mount(&hc.Mounts[i], &refs, resolve); err != nil {
			return refs, err
		}
	}
	for _, v := range hc.VolumesFrom {
		name, _, _ := strings.Cut(v, ":")
		refs.Containers = append(refs.Containers, name)
	}
	for _, l := range hc.Links {
		name, _, _ := strings.Cut(l, ":")
		refs.Containers = append(refs.Containers, name)
	}
	for _, mode := range []string{string(hc.NetworkMode), string(hc.IpcMode), string(hc.PidMode), string(hc.UTSMode)} {
		if name, ok := strings.CutPrefix(mode, "container:"); ok {
			refs.Containers = append(refs.Containers, name)
		}
	}
	if m := hc.NetworkMode; m.IsUserDefined() {
		refs.Networks = append(refs.Networks, m.NetworkName())
	}
	return refs, nil
}

// reach refuses what reaches out of a container.
func (g *Grant) reach(hc *container.HostConfig) error {
	if g.Privileged {
		return nil
	}
	for what, asked := range map[string]bool{
		"privileged mode": hc.Privileged, "devices": len(hc.Devices)+len(hc.DeviceRequests)+len(hc.DeviceCgroupRules) > 0,
		"added capabilities": len(hc.CapAdd) > 0, "security options": len(hc.SecurityOpt) > 0, "a cgroup parent": hc.CgroupParent != "",
		"the host's PID namespace": hc.PidMode.IsHost(), "the host's IPC namespace": hc.IpcMode.IsHost(), "the host's network": hc.NetworkMode.IsHost(),
		"the host's UTS namespace": hc.UTSMode.IsHost(), "the host's user namespace": hc.UsernsMode.IsHost(), "a runtime": hc.Runtime != "",
		"unmasked paths":       hc.MaskedPaths != nil && len(hc.MaskedPaths) == 0 || hc.ReadonlyPaths != nil && len(hc.ReadonlyPaths) == 0,
		"a negative OOM score": hc.OomScoreAdj < 0, "sysctls": len(hc.Sysctls) > 0, "the host's cgroup namespace": hc.CgroupnsMode.IsHost(),
	} {
		if asked {
			return denied("%s may not be asked for", what)
		}
	}
	return nil
}

// bind checks one of the short form, "source:target[:options]".
func (g *Grant) bind(text string, refs *References, resolve Resolver) (string, error) {
	source, rest, ok := strings.Cut(text, ":")
	if !ok {
		return text, nil // a path in the container: an anonymous volume
	}
	if !path.IsAbs(source) {
		if strings.ContainsAny(source, "/~.") && !path.IsAbs(source) && strings.HasPrefix(source, ".") {
			return "", denied("bind source %q must be an absolute path", source)
		}
		refs.Volumes = append(refs.Volumes, source)
		return text, nil
	}
	source, err := g.Source(source, resolve)
	return source + ":" + rest, err
}

func (g *Grant) mount(m *mount.Mount, refs *References, resolve Resolver) (err error) {
	switch m.Type {
	case mount.TypeBind:
		m.Source, err = g.Source(m.Source, resolve)
		return err
	case mount.TypeVolume:
		if o := m.VolumeOptions; o != nil {
			if o.Labels, err = g.Label(o.Labels); err != nil {
				return err
			}
			if o.DriverConfig != nil {
				if err := g.VolumeOptions(o.DriverConfig.Options); err != nil {
					return err
				}
			}
		}
		if m.Source != "" {
			refs.Volumes = append(refs.Volumes, m.Source)
		}
	case mount.TypeTmpfs, mount.TypeImage:
	default:
		return denied("mounts of type %q may not be asked for", m.Type)
	}
	return nil
}

// Source checks a path of the host and gives the one that it really is.
func (g *Grant) Source(source string, resolve Resolver) (string, error) {
	real, err := resolve(source)
	if err != nil {
		return "", denied("bind source %q cannot be looked at: %v", source, err)
	}
	below := func(p string) bool {
		return slices.ContainsFunc(g.Binds, func(dir string) bool { return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") })
	}
	if !below(path.Clean(source)) || !below(real) {
		return "", denied("bind source %q is not below one of %q", source, g.Binds)
	}
	return real, nil
}

// VolumeOptions refuses a volume that mounts something of the host's, or the network's.
func (g *Grant) VolumeOptions(options map[string]string) error {
	if g.Privileged || len(options) == 0 {
		return nil
	}
	if options["type"] == "tmpfs" {
		return nil
	}
	return denied("driver options of volumes may not be asked for")
}
