package version

import "longshore/internal/server/route"

// v1_3 is what 1.3 changed against 1.2 (changelog, "v1.3 API changes"; original document of 1.2).
func v1_3() Rung {
	return Rung{Version: "1.3", Source: "version-history.md, original/docker_remote_api_v1.2.rst", Dialect: func(d *route.Dialect) { d.MultipartBuild = true }, Changes: []Change{
		{What: "quiet builds", Routes: []string{buildRoute}, Lift: dropQuery("q")},
		{What: "size of the container list", Routes: []string{list}, Lift: dropQuery("size")},
		{What: "host configuration at start; it answers 200", Routes: []string{start}, Lift: func(r *Request) error {
			r.SetBody(nil)
			return nil
		}, Reply: statusOK},
		{What: "kernel in info", Routes: []string{info}, Lower: hideFields("EventsListeners", "LXCVersion", "KernelVersion")},
	}}
}
