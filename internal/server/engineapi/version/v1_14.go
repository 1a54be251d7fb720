package version

// v1_14 is what 1.14 changed against 1.13 (changelog, "v1.14 API changes"; document of 1.13).
func v1_14() Rung {
	return Rung{Version: "1.14", Source: "version-history.md, docker_remote_api_v1.13.md", Changes: []Change{
		{What: "restart policy and capabilities at start", Routes: []string{start}, Lift: dropFields("RestartPolicy", "CapAdd", "CapDrop")},
		{What: "capabilities of a container", Routes: []string{inspect}, Lower: hideFields("HostConfig.CapAdd", "HostConfig.CapDrop", "HostConfig.RestartPolicy")},
	}}
}
