package version

import (
	"longshore/internal/base/jsontree"
)

// v1_21 is what 1.21 changed against 1.20 (changelog, "v1.21 API changes"; daemon source of 1.9).
func v1_21() Rung {
	return Rung{Version: "1.21", Source: "version-history.md, docker_remote_api_v1.20.md", Changes: []Change{
		{What: "arguments of a build", Routes: []string{buildRoute}, Lift: dropQuery("buildargs")},
		{What: "VolumeDriver lay in Config; stop signal, DNS options, kernel memory, reservation and OOM score were unknown", Routes: []string{create}, Lift: createBelow21},
		{What: "ImageID of the container list", Routes: []string{list}, LowerEach: hideFields("ImageID")},
		{What: "privileged exec", Routes: []string{execCreate}, Lift: dropFields("Privileged")},
		{What: "size of a container inspect; flat network settings", Routes: []string{inspect}, Lift: dropQuery("size"), Lower: inspectBelow21},
		{What: "one network object in stats", Routes: []string{stats}, Lower: networkOfStats, LowerEach: networkOfStats},
		{What: "timeNano of events", Routes: []string{eventsRoute}, LowerEach: hideFields("timeNano")},
		{What: "names of an image", Routes: []string{imageInspect}, Lower: hideFields("RepoTags", "RepoDigests", "GraphDriver")},
		{What: "ServerVersion, CPUShares, CPUSet and cluster of info", Routes: []string{info}, Lower: hideFields(
			"ServerVersion", "CPUShares", "CPUSet", "ClusterStore", "ClusterAdvertise", "BridgeNfIptables", "BridgeNfIp6tables")},
	}}
}

func createBelow21(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	hc := body.Member("HostConfig")
	hc.Delete("DnsOptions", "KernelMemory", "OomScoreAdj", "MemoryReservation", "VolumeDriver")
	body.Delete("StopSignal")
	if d := body.Member("VolumeDriver"); d != nil {
		body.Delete("VolumeDriver")
		body.Ensure("HostConfig").Default("VolumeDriver", d.String())
	}
	return nil
}

// inspectBelow21 leaves the flat network settings and moves what lay in Config back there.
func inspectBelow21(v *View) {
	ns, cfg := v.Body.Member("NetworkSettings"), v.Body.Member("Config")
	if ns.Member("IPAddress").Empty() {
		for _, ep := range ns.Member("Networks").Items() {
			for _, f := range []string{"EndpointID", "Gateway", "GlobalIPv6Address", "IPAddress", "IPv6Gateway", "MacAddress"} {
				ns.Set(f, ep.Member(f).String())
			}
			for _, f := range []string{"GlobalIPv6PrefixLen", "IPPrefixLen"} {
				ns.Set(f, ep.Member(f).Int())
			}
			break
		}
	}
	ns.Delete("Networks")
	ns.Default("NetworkID", "")
	ns.Default("PortMapping", nil)
	v.Body.Member("State").Delete("Status")
	cfg.Delete("StopSignal")
	cfg.Default("MacAddress", ns.Member("MacAddress").String())
	cfg.Default("NetworkDisabled", false)
	cfg.Default("ExposedPorts", nil)
	cfg.Default("VolumeDriver", v.Body.At("HostConfig", "VolumeDriver").String())
	v.Body.Member("HostConfig").Delete("VolumeDriver", "DnsOptions", "KernelMemory", "OomScoreAdj", "MemoryReservation")
}

// networkOfStats sums the interfaces into the one object of before 1.21.
func networkOfStats(v *View) {
	nets := v.Body.Member("networks")
	if nets.Kind() != jsontree.Object {
		return
	}
	sum := map[string]int64{}
	for _, n := range nets.Items() {
		for i, k := range n.Keys() {
			sum[k] += n.Items()[i].Int()
		}
	}
	v.Body.Delete("networks")
	v.Body.Set("network", sum)
}
