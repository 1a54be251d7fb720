package version

import "longshore/internal/server/route"

// v1_41 is what 1.41 changed against 1.40 (changelog, "v1.41 API changes"; daemon source of 20.10).
func v1_41() Rung {
	return Rung{Version: "1.41", Source: "version-history.md", Changes: []Change{
		{What: "platform of a container; Capabilities of 1.40", Routes: []string{create}, Lift: func(r *Request) error {
			r.Query.Del("platform")
			r.Note(route.HostCgroupns)
			body, err := r.JSON()
			if err != nil {
				return err
			}
			body.Member("HostConfig").Delete("Capabilities")
			return nil
		}},
		{What: "cgroup namespace of a container", Routes: []string{inspect}, Lower: hideFields("HostConfig.CgroupnsMode")},
		{What: "prune events", Routes: []string{eventsRoute}, Omit: func(v *View) bool { return v.Body.Member("Action").String() == "prune" }},
		{What: "one-shot stats", Routes: []string{stats}, Lift: dropQuery("one-shot")},
		{What: "the filter query of images", Routes: []string{imageList}, Lift: func(r *Request) error {
			if f := r.Query.Get("filter"); f != "" {
				return setFilter(r, "reference", f)
			}
			return nil
		}},
		{What: "CgroupVersion and DefaultAddressPools of info", Routes: []string{info}, Lower: hideFields("CgroupVersion", "DefaultAddressPools")},
	}}
}
