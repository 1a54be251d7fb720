package version

import "longshore/internal/base/jsontree"

// v1_46 is what 1.46 changed against 1.45 (changelog, "v1.46 API changes"; daemon's events handler).
func v1_46() Rung {
	return Rung{Version: "1.46", Source: "version-history.md", Changes: []Change{
		{What: "options of tmpfs mounts", Routes: []string{create}, Lift: func(r *Request) error {
			return eachMount(r, func(m *jsontree.Value) error {
				m.Member("TmpfsOptions").Delete("Options")
				return nil
			})
		}},
		{What: "annotations of the container list", Routes: []string{list}, LowerEach: hideFields("HostConfig.Annotations")},
		{What: "image create events", Routes: []string{eventsRoute}, Omit: imageCreate},
		{What: "platform of a push", Routes: []string{imagePush}, Lift: dropQuery("platform")},
		{What: "Containerd of info", Routes: []string{info}, Lower: hideFields("Containerd")},
	}}
}

// imageCreate picks the events that 1.46 brought.
func imageCreate(v *View) bool {
	return v.Body.Member("Type").String() == "image" && v.Body.Member("Action").String() == "create"
}
