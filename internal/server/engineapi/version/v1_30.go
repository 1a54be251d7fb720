package version

import "longshore/internal/server/route"

// v1_30 is what 1.30 changed against 1.29 (changelog, "v1.30 API changes"; daemon source of 17.06).
func v1_30() Rung {
	return Rung{
		Version: "1.30", Source: "version-history.md",
		Dialect: func(d *route.Dialect) { d.LateWaitHeaders = true },
		Changes: []Change{
			{What: "aux message with the built image's ID", Routes: []string{buildRoute}, Omit: func(v *View) bool { return v.Body.Has("aux") }},
			{What: "scope of events", Routes: []string{eventsRoute}, LowerEach: hideFields("scope")},
			{What: "copyUIDGID", Routes: []string{"PUT /containers/{id}/archive"}, Lift: dropQuery("copyUIDGID")},
			{What: "condition of wait; headers only with its result", Routes: []string{waitRoute}, Lift: dropQuery("condition"), Reply: lateHeaders},
			{What: "Log plugins of info", Routes: []string{info}, Lower: hideFields("Plugins.Log")},
		},
	}
}

// lateHeaders sends the headers with the first object, not before.
func lateHeaders(_ *route.Request, resp route.Response) (route.Response, error) {
	if l, ok := resp.(route.Lines); ok {
		l.Early = false
		return l, nil
	}
	return resp, nil
}
