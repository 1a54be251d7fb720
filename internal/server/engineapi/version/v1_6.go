package version

import (
	"strings"

	"longshore/internal/base/jsontree"
	"longshore/internal/server/route"
)

// v1_6 is what 1.6 changed against 1.5 (changelog, "v1.6 API changes"; original document of 1.5).
func v1_6() Rung {
	return Rung{
		Version: "1.6", Source: "version-history.md, original/docker_remote_api_v1.5.rst",
		Dialect: func(d *route.Dialect) { d.UnframedStreams = true },
		Changes: []Change{
			{What: "no name at create; PortSpecs and Privileged in Config", Routes: []string{create}, Lift: createBelow6},
			{What: "PortSpecs in a commit's configuration", Routes: []string{commitRoute}, Lift: func(r *Request) error {
				if err := runIntoBody(r); err != nil {
					return err
				}
				body, err := r.JSON()
				if err != nil || body == nil {
					return err
				}
				portSpecs(body)
				return nil
			}},
			{What: "PortSpecs and port mapping of a container", Routes: []string{inspect}, Lower: inspectBelow6},
			{What: "names of the container list", Routes: []string{list}, LowerEach: hideFields("Names")},
			{What: "signal of a kill", Routes: []string{killRoute}, Lift: dropQuery("signal")},
			{What: "ports, links and privileges at start", Routes: []string{start}, Lift: dropFields(
				"PortBindings", "PublishAllPorts", "Links", "ContainerIDFile", "Privileged")},
		},
	}
}

func createBelow6(r *Request) error {
	r.Query.Del("name")
	body, err := r.JSON()
	if err != nil {
		return err
	}
	if body.Member("Privileged").Bool() {
		earlyHostConfig(body).Set("Privileged", true)
	}
	body.Delete("Privileged")
	if bindings := portSpecs(body); bindings != nil {
		earlyHostConfig(body).Set("PortBindings", bindings)
	}
	return nil
}

type portBinding struct{ HostIp, HostPort string } //nolint:revive // docker's own spelling on the wire

// portSpecs replaces PortSpecs ("22", "8080:80", "53/udp", "127.0.0.1:8080:80") by ExposedPorts and answers the
// bindings; a port without a host port was published on a free one.
func portSpecs(body *jsontree.Value) map[string][]portBinding {
	specs := body.Member("PortSpecs").Strings()
	body.Delete("PortSpecs")
	if len(specs) == 0 {
		return nil
	}
	bindings := map[string][]portBinding{}
	exposed := body.Ensure("ExposedPorts")
	for _, spec := range specs {
		proto := "tcp"
		if s, p, ok := strings.Cut(spec, "/"); ok {
			spec, proto = s, strings.ToLower(p)
		}
		parts := strings.Split(spec, ":")
		port := parts[len(parts)-1] + "/" + proto
		var b portBinding
		if len(parts) > 1 {
			b.HostPort = parts[len(parts)-2]
		}
		if len(parts) > 2 {
			b.HostIp = parts[0]
		}
		exposed.Set(port, struct{}{})
		bindings[port] = append(bindings[port], b)
	}
	return bindings
}

// inspectBelow6 tells exposed ports as PortSpecs and published ones as a mapping per protocol.
func inspectBelow6(v *View) {
	cfg, ns := v.Body.Member("Config"), v.Body.Member("NetworkSettings")
	var specs []string
	for _, p := range cfg.Member("ExposedPorts").Keys() {
		specs = append(specs, strings.TrimSuffix(p, "/tcp"))
	}
	cfg.Delete("ExposedPorts")
	cfg.Set("PortSpecs", specs)
	mapping := map[string]map[string]string{"Tcp": {}, "Udp": {}}
	ports := ns.Member("Ports")
	for i, p := range ports.Keys() {
		port, proto, _ := strings.Cut(p, "/")
		kind := map[string]string{"tcp": "Tcp", "udp": "Udp"}[proto]
		if list := ports.Items()[i].Items(); kind != "" && len(list) > 0 {
			mapping[kind][port] = list[0].Member("HostPort").String()
		}
	}
	ns.Delete("Ports")
	ns.Set("PortMapping", mapping)
	v.Body.Delete("Name")
}
