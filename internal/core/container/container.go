// Package container is the pure life cycle of a container: what was asked (Spec), what is (State), what is written down
// (Record) and the step function that turns an input into the next state and the effects to perform.
//
// Nothing here does I/O, reads a clock or owns a goroutine. The service that owns a container feeds inputs in order,
// stores the record and then performs the effects:
//
//	next, effects, err := container.Step(rec.Spec(), rec.State, container.StartAsked{})
package container

import (
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Record is everything that is kept about a container, as it stands on disk. Records are immutable: whoever changes
// one copies it first, so that readers may keep the old one for as long as they like.
type Record struct {
	ID      string // 64 hex digits
	Name    string // without the slash that docker shows
	Created time.Time
	Image   Image
	// Config and HostConfig are merged with the image's configuration and settled. Never changed in place.
	Config     *container.Config
	HostConfig *container.HostConfig
	Mounts     []Mount
	// Networks are the endpoints that were asked for, by network name.
	Networks map[string]*network.EndpointSettings
	// Run is the present or last run; nil before the first.
	Run   *Run
	State State
}

// Whole tells whether a record that was read from under an ID has what everything else relies on.
func (r *Record) Whole(id string) bool {
	return r.ID == id && r.Name != "" && r.Config != nil && r.HostConfig != nil
}

// Image is the image that a container was made from.
type Image struct {
	ID       digest.Digest
	Manifest *ocispec.Descriptor
	OS       string
}

// Mount is a resolved mount with what inspect does not show.
type Mount struct {
	container.MountPoint
	// FromImage marks a VOLUME of the image or of Config.Volumes; Inherited one that volumes-from brought.
	FromImage, Inherited bool
	// NoCopy forbids filling an empty volume from the image.
	NoCopy bool
	// Subpath below the volume's directory.
	Subpath string
	// Anonymous volumes go with their container when it is removed with its volumes.
	Anonymous bool
	// CreateSource makes a missing bind source at start (binds in the old notation).
	CreateSource bool
	// SoftPropagation: the daemon chose the propagation, not the client. Where the source's mount cannot spread, it is private.
	SoftPropagation bool
	// Recursion of a bind, as in docker's BindOptions.
	Recursion Recursion
	// TmpfsOptions are "size=64m,mode=1770"; Hidden keeps HostConfig.Tmpfs out of inspect's Mounts.
	TmpfsOptions string
	Hidden       bool
	// Labels and DriverOptions are for a volume that has to be created.
	Labels, DriverOptions map[string]string
}

// Recursion says how a bind treats mounts below its source.
type Recursion struct{ NonRecursive, ReadOnlyNonRecursive, ReadOnlyForceRecursive bool }

// Run is what one run of a container was given. It is needed again to adopt or to clean up.
type Run struct {
	// NetNS is the joined namespace path; empty for the host's.
	NetNS string
	// UserNS is the path of the joined user namespace; empty for the host's.
	UserNS    string
	SandboxID string
	// SandboxKey is the path that inspect shows.
	SandboxKey string
	// Endpoints are filled in with addresses.
	Endpoints map[string]*network.EndpointSettings
	// Ports are published as they really are.
	Ports network.PortMap
	// Runtime is the name of the OCI runtime.
	Runtime string
	// Cgroup is the group's path.
	Cgroup string
	// CgroupDirs are the absolute directories of an engine-made group.
	CgroupDirs []string
	// PortsFrom is the container whose namespace was joined.
	PortsFrom string
}

// Spec is what the step function needs of what was asked.
type Spec struct {
	Policy     container.RestartPolicy
	AutoRemove bool
	Health     bool
}

// Spec extracts what Step needs.
func (r *Record) Spec() Spec {
	h := r.Config.Healthcheck
	return Spec{
		Policy:     r.HostConfig.RestartPolicy,
		AutoRemove: r.HostConfig.AutoRemove,
		Health:     HasProbe(h),
	}
}

// HasProbe tells whether a health check is configured that can run; kinds that docker does not know count as none.
func HasProbe(h *container.HealthConfig) bool {
	return h != nil && len(h.Test) > 0 && (h.Test[0] == "CMD" || h.Test[0] == "CMD-SHELL")
}

// Command is the program and its arguments as inspect and ps show them.
func (r *Record) Command() (path string, args []string) {
	all := make([]string, 0, len(r.Config.Entrypoint)+len(r.Config.Cmd))
	all = append(append(all, r.Config.Entrypoint...), r.Config.Cmd...)
	if len(all) == 0 {
		return "", []string{}
	}
	return all[0], all[1:]
}
