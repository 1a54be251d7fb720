package version

// v1_38 is what 1.38 changed against 1.37 (changelog, "v1.38 API changes").
func v1_38() Rung {
	return Rung{Version: "1.38", Source: "version-history.md", Changes: []Change{
		{What: "the BuildKit builder", Routes: []string{buildRoute}, Lift: dropQuery("version")},
		{What: "masked and read-only paths", Routes: []string{create}, Lift: dropFields("HostConfig.MaskedPaths", "HostConfig.ReadonlyPaths")},
		{What: "masked and read-only paths", Routes: []string{inspect}, Lower: hideFields("HostConfig.MaskedPaths", "HostConfig.ReadonlyPaths")},
	}}
}
