package version

// v1_51 is what 1.51 changed against 1.50 (changelog, "v1.51 API changes"; daemon's image list).
func v1_51() Rung {
	return Rung{Version: "1.51", Source: "version-history.md", Changes: []Change{{
		What:      "the image list counts containers; before it said -1",
		Routes:    []string{imageList},
		LowerEach: func(v *View) { v.Body.Set("Containers", -1) },
	}}}
}
