package launch

import (
	"github.com/moby/moby/api/types/container"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/driver/ocispec"
)

// Shifted tells whether a container has a user namespace: where the daemon remaps users and the container does not opt out.
func (l *Launcher) Shifted(hc *container.HostConfig) bool {
	return l.cfg.IDs != nil && !hc.UsernsMode.IsHost()
}

// CheckUserNS refuses what cannot be had together with a user namespace, in docker's words.
func (l *Launcher) CheckUserNS(hc *container.HostConfig) error {
	switch {
	case !l.Shifted(hc):
		return nil
	case hc.Privileged:
		return fault.Invalid("privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode")
	case hc.NetworkMode.IsHost():
		return fault.Invalid("cannot share the host's network namespace when user namespaces are enabled")
	case hc.PidMode.IsHost():
		return fault.Invalid("cannot share the host PID namespace when user namespaces are enabled")
	}
	return nil
}

// rootIDs are the host's numbers of a container's root user and group.
func (l *Launcher) rootIDs(hc *container.HostConfig) (uid, gid int) {
	if l.Shifted(hc) {
		return l.cfg.IDs.Root()
	}
	return 0, 0
}

// remap puts the container into its user namespace: that of the container whose namespaces it joins, else the one that
// its network belongs to.
func (l *Launcher) remap(in *ocispec.Input, rec *core.Record, run *core.Run, j Joins) {
	if !l.Shifted(rec.HostConfig) {
		return
	}
	in.IDs, in.Namespaces.User = l.cfg.IDs, run.UserNS
	if j.User != "" {
		in.Namespaces.User = j.User
	}
}
