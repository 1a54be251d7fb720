package version

// v1_34 is what 1.34 changed against 1.33 (changelog, "v1.34 API changes").
func v1_34() Rung {
	return Rung{Version: "1.34", Source: "version-history.md", Changes: []Change{
		{What: "Error of wait", Routes: []string{waitRoute}, Lower: hideFields("Error"), LowerEach: hideFields("Error"), Omit: func(v *View) bool {
			// A removal that failed was told by an empty body.
			return v.Request.Query.Get("condition") == "removed" && !v.Body.Member("Error").Empty()
		}},
	}}
}
