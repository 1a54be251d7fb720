package version

// v1_47 is what 1.47 changed against 1.46 (changelog, "v1.47 API changes").
func v1_47() Rung {
	return Rung{Version: "1.47", Source: "version-history.md", Changes: []Change{
		{What: "Manifests of an image", Routes: []string{imageList}, Lift: dropQuery("manifests"), LowerEach: hideFields("Manifests")},
	}}
}
