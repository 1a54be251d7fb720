// Package ocispec turns what a client asked of a container (docker's Config and HostConfig) and what the engine has
// resolved for it (root filesystem, volumes, namespaces, files) into the specification that an OCI runtime executes, and
// an exec request into the process of such a container.
//
//	spec, err := ocispec.Generate(&ocispec.Input{ID: id, Config: cfg, HostConfig: hc, Rootfs: dir, Host: facts, …})
//
// Generate reads the container's passwd and group files and the host's device nodes, and changes nothing. What it
// refuses is refused in docker's words, with a class (core/fault).
package ocispec

import (
	"maps"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/host"
	"longshore/internal/core/idmap"
)

// Input is everything Generate needs to know. Config, HostConfig, Rootfs and Host are required.
type Input struct {
	ID         string
	Config     *container.Config
	HostConfig *container.HostConfig
	// Rootfs is the absolute path of the mounted root filesystem.
	Rootfs string
	// Mounts are the container's volumes, binds and tmpfs, resolved; their order does not matter.
	Mounts []Mount
	// LinkEnv are the variables that legacy links add ("DB_PORT=tcp://172.17.0.2:5432").
	LinkEnv    []string
	Namespaces Namespaces
	Files      Files
	// CgroupPath is the group's path below each hierarchy, "/longshore/<id>".
	CgroupPath string
	Defaults   Defaults
	Host       *host.Facts
	// Seccomp loads the profile; nil leaves the container unconfined.
	Seccomp SeccompLoader
	// BPF asks Seccomp for a compiled filter in an annotation (crun) instead of linux.seccomp (any other runtime).
	BPF bool
	// IDs is the mapping of the container's user namespace; nil leaves it in the host's.
	IDs *idmap.Map
	// AppArmor sees to it that the profile is loaded; nil: it is.
	AppArmor AppArmorLoader
	// CDI adds devices that vendors describe; nil: there are none.
	CDI DeviceInjector
}

// AppArmorLoader loads a profile that the engine itself brings. Implemented by driver/apparmor.
type AppArmorLoader interface {
	Ensure(name string) error
}

// DeviceInjector adds devices named "vendor.com/class=name" to a specification. Implemented by driver/cdi.
type DeviceInjector interface {
	Inject(s *specs.Spec, names []string) error
}

// Namespaces are paths of existing namespaces to join; empty makes a new one, unless HostConfig asks for the host's.
// "container:" modes need the path of the other container's namespace (/proc/<pid>/ns/<type>).
type Namespaces struct {
	Net, IPC, PID string
	// User is the user namespace to join; needed where the container has one (Input.IDs).
	User string
}

// Files are host paths that appear in every container; an empty one is left out, as is one that a mount covers.
type Files struct {
	Hosts, Hostname, Resolv string
	// Shm is a mounted tmpfs bound at /dev/shm (ipc modes shareable, container and host); empty makes a fresh tmpfs
	// of HostConfig.ShmSize inside the container.
	Shm string
}

// Defaults are the daemon's own settings that a container inherits.
type Defaults struct {
	// Init runs an init process in containers that say nothing about it; InitPath is the host's static init binary.
	Init     bool
	InitPath string
	Ulimits  map[string]*units.Ulimit
	// SeccompProfile is "" or "builtin" for docker's default, "unconfined", or a profile's JSON text.
	SeccompProfile  string
	NoNewPrivileges bool
	// NoRecursiveReadOnly: the runtime does not know the mount option "rro" (runc before 1.1, crun before 1.8.6).
	NoRecursiveReadOnly bool
}

// SeccompLoader puts a seccomp profile (its JSON text; "" is docker's default) for the spec's capabilities into the spec,
// as linux.seccomp or, with bpf, as an annotation. Implemented by driver/seccomp.
type SeccompLoader interface {
	Load(s *specs.Spec, profile string, bpf bool) error
}

// ociVersion is the oldest version that has all we write: crun refuses a bundle newer than the 1.0 it was made for.
const ociVersion = "1.0.2"

// Generate builds the runtime specification.
func Generate(in *Input) (*specs.Spec, error) {
	sec, err := ParseSecurityOpts(in.HostConfig.SecurityOpt, in.Defaults.NoNewPrivileges)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:     ociVersion,
		Root:        &specs.Root{Path: in.Rootfs, Readonly: in.HostConfig.ReadonlyRootfs},
		Hostname:    in.Config.Hostname,
		Annotations: maps.Clone(in.HostConfig.Annotations),
		Linux: &specs.Linux{
			CgroupsPath:   in.CgroupPath,
			MaskedPaths:   maskedPaths(in.HostConfig),
			ReadonlyPaths: readonlyPaths(in.HostConfig),
		},
	}
	if err := setNamespaces(s, in); err != nil {
		return nil, err
	}
	if err := setProcess(s, in, sec); err != nil {
		return nil, err
	}
	if err := setSysctls(s, in); err != nil {
		return nil, err
	}
	r, err := resources(in.HostConfig)
	if err != nil {
		return nil, err
	}
	s.Linux.Resources = r
	if err := setDevices(s, in.HostConfig); err != nil {
		return nil, err
	}
	if err := setMounts(s, in, sec); err != nil {
		return nil, err
	}
	if err := setDeviceRequests(s, in); err != nil {
		return nil, err
	}
	return s, setSeccomp(s, in, sec)
}

// setSeccomp chooses the profile: the container's own, then none for privileged ones, then the daemon's.
func setSeccomp(s *specs.Spec, in *Input, sec Security) error {
	profile := sec.Seccomp
	if profile == "" && !in.HostConfig.Privileged {
		profile = in.Defaults.SeccompProfile
		if profile == "" {
			profile = ProfileDefault
		}
	}
	if profile == "" || profile == ProfileUnconfined || in.Seccomp == nil {
		return nil
	}
	if !in.Host.Security.Seccomp {
		return noSeccomp(profile)
	}
	if profile == ProfileDefault {
		profile = ""
	}
	return in.Seccomp.Load(s, profile, in.BPF)
}
