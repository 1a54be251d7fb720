package version

// v1_37 is what 1.37 changed against 1.36: the target of a build (changelog, "v1.37 API changes").
func v1_37() Rung {
	return Rung{Version: "1.37", Source: "version-history.md", Changes: []Change{
		{What: "target of a build", Routes: []string{buildRoute}, Lift: dropQuery("target")},
	}}
}
