package version

// v1_35 is what 1.35 changed against 1.34 (changelog, "v1.35 API changes").
func v1_35() Rung {
	return Rung{Version: "1.35", Source: "version-history.md", Changes: []Change{
		{What: "working directory of an exec", Routes: []string{execCreate}, Lift: dropFields("WorkingDir")},
		{What: "until of logs", Routes: []string{logsRoute}, Lift: dropQuery("until")},
		{What: "Platform and Components of version", Routes: []string{versionRoute}, Lower: hideFields("Platform", "Components")},
	}}
}
