package version

// v1_33 is what 1.33 changed against 1.32: more kinds in the events filter, which old clients never ask for
// (changelog, "v1.33 API changes").
func v1_33() Rung { return Rung{Version: "1.33", Source: "version-history.md"} }
