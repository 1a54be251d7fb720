package version

import (
	"strings"

	"longshore/internal/base/jsontree"
)

// v1_48 is what 1.48 changed against 1.47 (changelog, "v1.48 API changes"; daemon's create handler).
func v1_48() Rung {
	return Rung{Version: "1.48", Source: "version-history.md", Changes: []Change{
		{What: "prune parameters of the build cache", Routes: []string{buildPrune}, Lift: func(r *Request) error {
			for _, q := range []string{"reserved-space", "max-used-space", "min-free-space"} {
				r.Query.Del(q)
			}
			if r.Query.Has("keep-storage") {
				r.Query.Set("reserved-space", r.Query.Get("keep-storage"))
			}
			return nil
		}},
		{What: "image mounts; gateway priority; sysctls of eth0 are endpoint options", Routes: []string{create}, Lift: createBelow48},
		{What: "gateway priority", Routes: []string{connect}, Lift: dropFields("EndpointConfig.GwPriority")},
		{What: "gateway priority and manifest of a container", Routes: []string{list}, LowerEach: func(v *View) {
			v.Body.Delete("ImageManifestDescriptor")
			hidePriority(v)
		}},
		{What: "gateway priority and manifest of a container", Routes: []string{inspect}, Lower: func(v *View) {
			v.Body.Delete("ImageManifestDescriptor")
			hidePriority(v)
		}},
		{What: "platform of save and load", Routes: []string{imageGet, "GET /images/get", imageLoad, imageHistory}, Lift: dropQuery("platform")},
		{What: "Descriptor of an image", Routes: []string{imageList}, LowerEach: hideFields("Descriptor")},
		{What: "Descriptor and Manifests of an image", Routes: []string{imageInspect}, Lift: dropQuery("manifests"), Lower: hideFields("Descriptor", "Manifests")},
		{What: "EnableIPv4 of a network", Routes: []string{networkCreate}, Lift: dropFields("EnableIPv4")},
		{What: "EnableIPv4 of a network", Routes: []string{networkShow}, Lower: hideFields("EnableIPv4")},
		{What: "EnableIPv4 of a network", Routes: []string{networkList}, LowerEach: hideFields("EnableIPv4")},
	}}
}

func hidePriority(v *View) {
	for _, ep := range endpoints(v.Body.Member("NetworkSettings"), "Networks") {
		ep.Delete("GwPriority")
	}
}

func createBelow48(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	for _, ep := range endpoints(body.Member("NetworkingConfig"), "EndpointsConfig") {
		ep.Delete("GwPriority")
	}
	if err := eachMount(r, func(m *jsontree.Value) error {
		if m.Member("Type").String() == "image" {
			return invalid(`Mount type "Image" needs API v1.48 or newer`)
		}
		return nil
	}); err != nil {
		return err
	}
	migrateSysctls(body)
	return nil
}

// migrateSysctls moves net.*.eth0.* settings to the first endpoint's driver options, as daemons of 1.46 and 1.47 did.
func migrateSysctls(body *jsontree.Value) {
	sysctls := body.At("HostConfig", "Sysctls")
	var moved []string
	for i, k := range sysctls.Keys() {
		p := strings.Split(k, ".")
		if len(p) == 5 && p[0] == "net" && p[3] == "eth0" {
			moved = append(moved, k+"="+sysctls.Items()[i].String())
		}
	}
	if len(moved) == 0 {
		return
	}
	mode := body.At("HostConfig", "NetworkMode").String()
	if mode == "" || mode == "bridge" {
		mode = "default"
	}
	opts := body.Ensure("NetworkingConfig").Ensure("EndpointsConfig").Ensure(mode).Ensure("DriverOpts")
	var lines []string
	for _, m := range moved {
		name, value, _ := strings.Cut(m, "=")
		lines = append(lines, strings.Replace(name, ".eth0.", ".IFNAME.", 1)+"="+value)
		sysctls.Delete(name)
	}
	opts.Default("com.docker.network.endpoint.sysctls", strings.Join(lines, ","))
}
