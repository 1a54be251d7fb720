package listing

import (
	"maps"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
)

// NetworkSettings are the endpoints and ports of a container: live ones while it runs, else what it asks for.
func NetworkSettings(rec *core.Record) *container.NetworkSettings {
	ns := &container.NetworkSettings{Ports: network.PortMap{}, Networks: map[string]*network.EndpointSettings{}}
	maps.Copy(ns.Networks, rec.Networks)
	if rec.Run == nil || !rec.State.Live() {
		return ns
	}
	ns.SandboxID, ns.SandboxKey = rec.Run.SandboxID, rec.Run.SandboxKey
	if rec.Run.Endpoints != nil {
		ns.Networks = rec.Run.Endpoints
	}
	if rec.Run.Ports != nil {
		ns.Ports = rec.Run.Ports
	}
	return ns
}
