package version

// v1_11 is what 1.11 changed against 1.10 (changelog, "v1.11 API changes"; original document of 1.10).
func v1_11() Rung {
	return Rung{Version: "1.11", Source: "version-history.md, original/docker_remote_api_v1.10.rst", Changes: []Change{
		{What: "until of events", Routes: []string{eventsRoute}, Lift: dropQuery("until")},
		{What: "drivers and kernel of info", Routes: []string{info}, Lower: func(v *View) {
			v.Body.Delete("Driver", "DriverStatus", "ExecutionDriver", "IndexServerAddress", "InitPath", "InitSha1", "KernelVersion", "OperatingSystem", "NEventsListener")
		}},
	}}
}
