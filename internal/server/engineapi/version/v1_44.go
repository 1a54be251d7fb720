package version

import (
	"longshore/internal/base/jsontree"
	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// v1_44 is what 1.44 changed against 1.43 (changelog, "v1.44 API changes"; daemon's create handler).
func v1_44() Rung {
	return Rung{Version: "1.44", Source: "version-history.md", Changes: []Change{
		{What: "start interval, several endpoints, recursive read-only binds, endpoint MAC addresses", Routes: []string{create}, Lift: createBelow44},
		{What: "endpoint MAC addresses", Routes: []string{connect}, Lift: dropFields("EndpointConfig.MacAddress")},
		{What: "DNSNames of an endpoint", Routes: []string{inspect}, Lower: hideDNSNames},
		{What: "DNSNames of an endpoint", Routes: []string{list}, LowerEach: hideDNSNames},
		{What: "VirtualSize of an image", Routes: []string{imageList}, LowerEach: virtualSize},
		{What: "VirtualSize and Created of an image", Routes: []string{imageInspect}, Lower: func(v *View) {
			virtualSize(v)
			v.Body.Default("Created", "0001-01-01T00:00:00Z")
		}},
		{What: "VirtualSize of images in disk usage", Routes: []string{df}, Lower: func(v *View) {
			for _, img := range v.Body.Member("Images").Items() {
				img.Default("VirtualSize", img.Member("Size").Int())
			}
		}},
		{What: "CDISpecDirs and status of runtimes", Routes: []string{info}, Lower: func(v *View) {
			v.Body.Delete("CDISpecDirs")
			for _, r := range v.Body.Member("Runtimes").Items() {
				r.Delete("status")
			}
		}},
	}}
}

func virtualSize(v *View) { v.Body.Default("VirtualSize", v.Body.Member("Size").Int()) }

func hideDNSNames(v *View) {
	for _, ep := range endpoints(v.Body.Member("NetworkSettings"), "Networks") {
		ep.Delete("DNSNames")
	}
}

func createBelow44(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	r.Note(onlyMAC)
	r.Note(route.PlainReadOnly)
	body.Member("Healthcheck").Delete("StartInterval")
	eps := body.At("NetworkingConfig", "EndpointsConfig")
	if n := eps.Len(); n > 1 {
		return fault.Invalid("Container cannot be created with multiple network endpoints; got %d (needs API v1.44 or newer)", n)
	}
	for _, ep := range eps.Items() {
		ep.Delete("MacAddress")
	}
	if !body.Member("MacAddress").Empty() && !hasEndpoint(body.At("HostConfig", "NetworkMode").String()) {
		return fault.Invalid("conflicting options: mac-address and the network mode")
	}
	return eachMount(r, func(m *jsontree.Value) error {
		if m.Member("Type").String() == "bind" && m.At("BindOptions", "ReadOnlyForceRecursive").Bool() {
			return invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
		}
		return nil
	})
}
