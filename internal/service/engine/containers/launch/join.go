package launch

import (
	"fmt"

	"github.com/moby/moby/api/types/container"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// CheckJoins refuses at create what cannot be joined ("container:" modes). A network stack's owner may come later.
func (l *Launcher) CheckJoins(rec *core.Record, find Finder) error {
	hc := rec.HostConfig
	if mode := hc.NetworkMode; mode.IsContainer() {
		if other, err := find(mode.ConnectedContainer()); err == nil {
			hc.NetworkMode = container.NetworkMode("container:" + other.ID)
		}
	}
	if hc.IpcMode.IsContainer() {
		other, err := Named(hc.IpcMode.Container(), find)
		if err != nil {
			return err
		}
		if mode := other.HostConfig.IpcMode; !mode.IsShareable() && !mode.IsHost() {
			return fault.Invalid("can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", other.ID)
		}
	}
	if hc.PidMode.IsContainer() {
		if _, err := Named(hc.PidMode.Container(), find); err != nil {
			return err
		}
	}
	return bindLinks(hc, find)
}

// Needs are the IDs of the containers that must run before this one can: those whose namespaces it joins, and those that it
// links to.
func Needs(rec *core.Record, find Finder) []string {
	hc := rec.HostConfig
	refs := []string{hc.NetworkMode.ConnectedContainer(), hc.IpcMode.Container(), hc.PidMode.Container()}
	if !hc.NetworkMode.IsUserDefined() {
		for _, l := range hc.Links {
			target, _ := ParseLink(l)
			refs = append(refs, target)
		}
	}
	var ids []string
	for _, ref := range refs {
		if other, err := find(ref); ref != "" && err == nil {
			ids = append(ids, other.ID)
		}
	}
	return ids
}

// Named finds a container that another one's configuration names: where there is none, the request is wrong, not the path.
func Named(ref string, find Finder) (*core.Record, error) {
	rec, err := find(ref)
	if err != nil {
		return nil, fault.Invalid("%s", err)
	}
	return rec, nil
}

// JoinsOf are the namespaces that a run takes from other containers, which must be running.
func (l *Launcher) JoinsOf(rec *core.Record, find Finder) (j Joins, err error) {
	hc, pid := rec.HostConfig, 0
	if hc.NetworkMode.IsContainer() {
		other, err := donor(hc.NetworkMode.ConnectedContainer(), "network", find)
		if err != nil {
			return j, err
		}
		pid = other.State.PID
		j.Net, j.Files = fmt.Sprintf("/proc/%d/ns/net", pid), l.NamesDir(other, find)
	}
	if hc.IpcMode.IsContainer() {
		other, err := donor(hc.IpcMode.Container(), "IPC", find)
		if err != nil {
			return j, err
		}
		pid = other.State.PID
		j.IPC, j.Shm = fmt.Sprintf("/proc/%d/ns/ipc", pid), l.Disk.Dir(other.ID)+"/shm"
		if other.HostConfig.IpcMode.IsHost() {
			j.Shm = "/dev/shm"
		}
	}
	if hc.PidMode.IsContainer() {
		other, err := donor(hc.PidMode.Container(), "PID", find)
		if err != nil {
			return j, err
		}
		pid = other.State.PID
		j.PID = fmt.Sprintf("/proc/%d/ns/pid", pid)
	}
	if l.Shifted(hc) && pid != 0 { // namespaces can be shared within one user namespace only
		j.User = fmt.Sprintf("/proc/%d/ns/user", pid)
	}
	j.LinkEnv, err = LinkEnv(rec, find)
	return j, err
}

func donor(ref, what string, find Finder) (*core.Record, error) {
	rec, err := find(ref)
	if err != nil {
		return nil, err
	}
	if !rec.State.Live() {
		return nil, fault.Conflict("cannot join %s namespace of a non running container: container %s is %s", what, rec.ID, rec.State.Status())
	}
	return rec, nil
}

// NamesDir is the directory of the hosts, hostname and resolv.conf files that a container sees.
func (l *Launcher) NamesDir(rec *core.Record, find Finder) string {
	for range 8 {
		if !rec.HostConfig.NetworkMode.IsContainer() {
			break
		}
		other, err := find(rec.HostConfig.NetworkMode.ConnectedContainer())
		if err != nil {
			break
		}
		rec = other
	}
	return l.Disk.Dir(rec.ID)
}
