package ocispec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/fault"
	"longshore/internal/core/idmap"
)

// setNamespaces chooses a new namespace, an existing one or the host's, for each type.
func setNamespaces(s *specs.Spec, in *Input) error {
	hc := in.HostConfig
	switch {
	case !hc.IpcMode.Valid():
		return fault.Invalid("invalid IPC mode: %v", hc.IpcMode)
	case !hc.PidMode.Valid():
		return fault.Invalid("invalid PID mode: %v", hc.PidMode)
	case !hc.UTSMode.Valid():
		return fault.Invalid("invalid UTS mode: %v", hc.UTSMode)
	case !hc.CgroupnsMode.Valid():
		return fault.Invalid("invalid cgroup namespace mode: %v", hc.CgroupnsMode)
	case !hc.UsernsMode.Valid():
		return fault.Invalid("invalid USER mode: %v", hc.UsernsMode)
	}
	add := func(t specs.LinuxNamespaceType, path string) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
	}
	join := func(t specs.LinuxNamespaceType, shared bool, path string) error {
		if shared && path == "" {
			return fault.Internal("container %s: the path of the %s namespace to join is missing", in.ID, t)
		}
		add(t, path)
		return nil
	}
	if in.IDs != nil {
		if err := join(specs.UserNamespace, true, in.Namespaces.User); err != nil {
			return err
		}
		s.Linux.UIDMappings, s.Linux.GIDMappings = mappings(in.IDs.UIDs), mappings(in.IDs.GIDs)
	}
	add(specs.MountNamespace, "")
	if !hc.NetworkMode.IsHost() {
		if err := join(specs.NetworkNamespace, hc.NetworkMode.IsContainer(), in.Namespaces.Net); err != nil {
			return err
		}
	}
	if !hc.IpcMode.IsHost() {
		if err := join(specs.IPCNamespace, hc.IpcMode.IsContainer(), in.Namespaces.IPC); err != nil {
			return err
		}
	}
	if !hc.PidMode.IsHost() {
		if err := join(specs.PIDNamespace, hc.PidMode.IsContainer(), in.Namespaces.PID); err != nil {
			return err
		}
	}
	if hc.UTSMode.IsHost() {
		s.Hostname = ""
	} else {
		add(specs.UTSNamespace, "")
	}
	if hc.CgroupnsMode.IsPrivate() && in.Host.Cgroup.Namespaces {
		add(specs.CgroupNamespace, "")
	}
	return nil
}

func mappings(list []idmap.Range) []specs.LinuxIDMapping {
	out := make([]specs.LinuxIDMapping, len(list))
	for i, r := range list {
		out[i] = specs.LinuxIDMapping{ContainerID: uint32(r.Inside), HostID: uint32(r.Outside), Size: uint32(r.Size)}
	}
	return out
}

// ownNamespace tells whether the container gets a new namespace of that type, neither the host's nor another's.
func ownNamespace(s *specs.Spec, t specs.LinuxNamespaceType) bool {
	ns := namespaceOf(s, t)
	return ns != nil && ns.Path == ""
}

func namespaceOf(s *specs.Spec, t specs.LinuxNamespaceType) *specs.LinuxNamespace {
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == t {
			return &s.Linux.Namespaces[i]
		}
	}
	return nil
}
