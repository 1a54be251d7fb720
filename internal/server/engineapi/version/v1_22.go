package version

import (
	"time"
)

// v1_22 is what 1.22 changed against 1.21 (changelog, "v1.22 API changes"; daemon source of 1.10).
func v1_22() Rung {
	return Rung{Version: "1.22", Source: "version-history.md, docker_remote_api_v1.21.md", Changes: []Change{
		{What: "networking, shared memory, tmpfs and block device rates at create", Routes: []string{create}, Lift: dropFields(
			"NetworkingConfig", "HostConfig.ShmSize", "HostConfig.Tmpfs", "HostConfig.BlkioWeightDevice", "HostConfig.BlkioDeviceReadBps",
			"HostConfig.BlkioDeviceWriteBps", "HostConfig.BlkioDeviceReadIOps", "HostConfig.BlkioDeviceWriteIOps", "HostConfig.LxcConf")},
		{What: "networks of the container list", Routes: []string{list}, LowerEach: hideFields("HostConfig", "NetworkSettings")},
		{What: "detach keys", Routes: []string{attach, attachWS}, Lift: dropQuery("detachKeys")},
		{What: "detach keys", Routes: []string{execCreate}, Lift: dropFields("DetachKeys")},
		{What: "ExecDriver and LxcConf; Propagation of mounts; State.Dead", Routes: []string{inspect}, Lower: inspectBelow22},
		{What: "events of containers and images only, without Type, Action and Actor", Routes: []string{eventsRoute}, Omit: notOfContainersOrImages, LowerEach: hideFields("Type", "Action", "Actor", "scope")},
		{What: "an exec shows its container", Routes: []string{execInspect}, Lower: execBelow22},
		{What: "any content type of an exec start", Routes: []string{execStart}, Lift: func(r *Request) error {
			r.HTTP.Header.Set("Content-Type", "application/json")
			return nil
		}},
		{What: "Architecture, OSType, Plugins and states of info", Routes: []string{info}, Lower: hideFields(
			"Architecture", "OSType", "SystemStatus", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Plugins")},
		{What: "Internal network", Routes: []string{networkCreate}, Lift: dropFields("Internal", "IPAM.Options")},
		{What: "Name of an attached container; IPAM options", Routes: []string{networkShow}, Lower: networkBelow22},
		{What: "Name of an attached container; IPAM options", Routes: []string{networkList}, LowerEach: networkBelow22},
		{What: "forced disconnect", Routes: []string{"POST /networks/{id}/disconnect"}, Lift: dropFields("Force")},
		{What: "static addresses", Routes: []string{connect}, Lift: dropFields("EndpointConfig")},
		{What: "spelling of BuildTime", Routes: []string{versionRoute}, Lower: buildTimeBelow22},
		{What: "Warnings of the volume list", Routes: []string{volumeList}, Lower: hideFields("Warnings")},
	}}
}

func notOfContainersOrImages(v *View) bool {
	t := v.Body.Member("Type").String()
	return t != "container" && t != "image"
}

// buildTimeBelow22 writes the time as date(1) does.
func buildTimeBelow22(v *View) {
	if t, err := time.Parse(time.RFC3339Nano, v.Body.Member("BuildTime").String()); err == nil {
		v.Body.Set("BuildTime", t.UTC().Format(time.UnixDate))
	}
}

func inspectBelow22(v *View) {
	v.Body.Member("HostConfig").Delete("ShmSize", "Tmpfs", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps",
		"BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "Isolation")
	v.Body.Member("HostConfig").Default("LxcConf", []string{})
	v.Body.Default("ExecDriver", "native-0.2")
	v.Body.Member("State").Delete("Dead")
	for _, m := range v.Body.Member("Mounts").Items() {
		m.Delete("Propagation")
	}
	for _, ep := range v.Body.At("NetworkSettings", "Networks").Items() {
		ep.Delete("NetworkID", "Aliases", "Links", "IPAMConfig", "DriverOpts")
	}
}

func networkBelow22(v *View) {
	for _, c := range v.Body.Member("Containers").Items() {
		c.Delete("Name")
	}
	v.Body.Member("IPAM").Delete("Options")
}

// execBelow22 leaves the container in the place of its ID.
func execBelow22(v *View) {
	id := v.Body.Member("ContainerID").String()
	v.Body.Delete("ContainerID", "CanRemove", "DetachKeys")
	v.Body.Ensure("Container").Delete("Id")
	v.Body.Member("Container").Set("ID", id)
}
