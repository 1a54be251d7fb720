package version

// v1_39 is what 1.39 changed against 1.38 (changelog, "v1.39 API changes"; daemon source of 18.09).
func v1_39() Rung {
	return Rung{Version: "1.39", Source: "version-history.md", Changes: []Change{
		{What: "unknown kernel and system; Warnings and ProductLicense", Routes: []string{info}, Lower: func(v *View) {
			v.Body.Delete("Warnings", "ProductLicense")
			for _, f := range []string{"KernelVersion", "OperatingSystem"} {
				if v.Body.Member(f).Empty() {
					v.Body.Set(f, "<unknown>")
				}
			}
		}},
		{What: "parameters of a build cache prune", Routes: []string{buildPrune}, Lift: dropQuery("all", "filters", "keep-storage"), Lower: hideFields("CachesDeleted")},
		{What: "build cache in disk usage", Routes: []string{df}, Lower: hideFields("BuildCache")},
	}}
}
