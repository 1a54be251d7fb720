package version

// v1_52 is what 1.52 changed against 1.51 (engine API changelog, "v1.52 API changes").
func v1_52() Rung {
	return Rung{Version: "1.52", Source: "version-history.md#v152-api-changes"}
}
