package version

import (
	"longshore/internal/base/jsontree"
	"longshore/internal/server/route"
)

// v1_28 is what 1.28 changed against 1.27 (changelog, "v1.28 API changes"; daemon source of 17.04).
func v1_28() Rung {
	return Rung{
		Version: "1.28", Source: "version-history.md",
		Dialect: func(d *route.Dialect) { d.TextWebSocket = true },
		Changes: []Change{
			{What: "extra hosts of a build", Routes: []string{buildRoute}, Lift: dropQuery("extrahosts")},
			{What: "device cgroup rules; consistency of mounts", Routes: []string{create}, Lift: func(r *Request) error {
				if err := dropFields("HostConfig.DeviceCgroupRules")(r); err != nil {
					return err
				}
				return eachMount(r, func(m *jsontree.Value) error {
					m.Delete("Consistency")
					return nil
				})
			}},
			{What: "device cgroup rules of a container", Routes: []string{inspect}, Lower: hideFields("HostConfig.DeviceCgroupRules")},
			{What: "CPU quota in billionths of an update", Routes: []string{update}, Lift: dropFields("NanoCpus")},
			{What: "the network list tells the containers", Routes: []string{networkList}, Lift: func(r *Request) error {
				r.Query.Set("detailed", "1")
				return nil
			}},
			{What: "verbose network inspect", Routes: []string{networkShow}, Lift: dropQuery("verbose")},
		},
	}
}
