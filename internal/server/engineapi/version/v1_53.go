package version

// v1_53 is what 1.53 changed against 1.52 (changelog, "v1.53 API changes").
func v1_53() Rung {
	return Rung{Version: "1.53", Source: "version-history.md", Changes: []Change{
		{What: "NRI in info", Routes: []string{info}, Lower: hideFields("NRI")},
		{What: "Identity of an image", Routes: []string{imageInspect}, Lower: hideFields("Identity")},
		{
			What:   "the deprecated form of disk usage ended with 1.52",
			Routes: []string{df},
			Lift:   askVerbose,
			Lower:  legacyDiskUsage,
		},
	}}
}
