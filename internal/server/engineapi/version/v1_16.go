package version

// v1_16 is what 1.16 changed against 1.15 (changelog, "v1.16 API changes"; document of 1.15).
func v1_16() Rung {
	return Rung{Version: "1.16", Source: "version-history.md, docker_remote_api_v1.15.md", Changes: []Change{
		{What: "pull of a build", Routes: []string{buildRoute}, Lift: dropQuery("pull")},
		{What: "MAC address", Routes: []string{create}, Lift: dropFields("MacAddress")},
		{What: "filters of events", Routes: []string{eventsRoute}, Lift: dropQuery("filters")},
		{What: "size and name of the host in info", Routes: []string{info}, Lower: hideFields("NCPU", "MemTotal", "Name", "ID", "Labels", "DockerRootDir")},
	}}
}
