package containers

import (
	"fmt"

	"github.com/moby/moby/api/types/container"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/service/engine/containers/launch"
)

// checkJoins refuses at create what cannot be joined ("container:" modes). A network stack's owner may come later.
func (s *Service) checkJoins(rec *core.Record) error {
	hc := rec.HostConfig
	if mode := hc.NetworkMode; mode.IsContainer() {
		if h, err := s.find(mode.ConnectedContainer()); err == nil {
			hc.NetworkMode = container.NetworkMode("container:" + h.id)
		}
	}
	if hc.IpcMode.IsContainer() {
		h, err := s.named(hc.IpcMode.Container())
		if err != nil {
			return err
		}
		if mode := h.record().HostConfig.IpcMode; !mode.IsShareable() && !mode.IsHost() {
			return fault.Invalid("can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", h.id)
		}
	}
	if hc.PidMode.IsContainer() {
		if _, err := s.named(hc.PidMode.Container()); err != nil {
			return err
		}
	}
	for _, l := range hc.Links {
		target, _ := launch.ParseLink(l)
		if _, err := s.find(target); err != nil {
			return fault.Invalid("could not get container for %s: %s", target, err)
		}
	}
	return nil
}

// named finds a container that another one's configuration names: where there is none, the request is wrong, not the path.
func (s *Service) named(ref string) (*handle, error) {
	h, err := s.find(ref)
	if err != nil {
		return nil, fault.Invalid("%s", err)
	}
	return h, nil
}

// joins are the namespaces that a run takes from other containers, which must be running.
func (s *Service) joins(rec *core.Record) (j launch.Joins, err error) {
	hc, pid := rec.HostConfig, 0
	if hc.NetworkMode.IsContainer() {
		other, err := s.donor(hc.NetworkMode.ConnectedContainer(), "network")
		if err != nil {
			return j, err
		}
		pid = other.State.PID
		j.Net, j.Files = fmt.Sprintf("/proc/%d/ns/net", pid), s.namesDir(other)
	}
	if hc.IpcMode.IsContainer() {
		other, err := s.donor(hc.IpcMode.Container(), "IPC")
		if err != nil {
			return j, err
		}
		pid = other.State.PID
		j.IPC, j.Shm = fmt.Sprintf("/proc/%d/ns/ipc", pid), s.deps.Disk.Dir(other.ID)+"/shm"
		if other.HostConfig.IpcMode.IsHost() {
			j.Shm = "/dev/shm"
		}
	}
	if hc.PidMode.IsContainer() {
		other, err := s.donor(hc.PidMode.Container(), "PID")
		if err != nil {
			return j, err
		}
		pid = other.State.PID
		j.PID = fmt.Sprintf("/proc/%d/ns/pid", pid)
	}
	if s.launcher.Shifted(hc) && pid != 0 { // namespaces can be shared within one user namespace only
		j.User = fmt.Sprintf("/proc/%d/ns/user", pid)
	}
	j.LinkEnv, err = launch.LinkEnv(rec, s.recordOf)
	return j, err
}

func (s *Service) donor(ref, what string) (*core.Record, error) {
	h, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	rec := h.record()
	if !rec.State.Live() {
		return nil, fault.Conflict("cannot join %s namespace of a non running container: container %s is %s", what, rec.ID, rec.State.Status())
	}
	return rec, nil
}

// namesDir is the directory of the hosts, hostname and resolv.conf files that a container sees.
func (s *Service) namesDir(rec *core.Record) string {
	for range 8 {
		if !rec.HostConfig.NetworkMode.IsContainer() {
			break
		}
		h, err := s.find(rec.HostConfig.NetworkMode.ConnectedContainer())
		if err != nil {
			break
		}
		rec = h.record()
	}
	return s.deps.Disk.Dir(rec.ID)
}
