package version

// v1_36 is what 1.36 changed against 1.35 (changelog, "v1.36 API changes").
func v1_36() Rung {
	return Rung{Version: "1.36", Source: "version-history.md", Changes: []Change{{
		What: "exec_die events", Routes: []string{eventsRoute},
		Omit: func(v *View) bool { return v.Body.Member("Action").String() == "exec_die" },
	}}}
}
