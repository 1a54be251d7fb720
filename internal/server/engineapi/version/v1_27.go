package version

// v1_27 is what 1.27 changed against 1.26 (changelog, "v1.27 API changes").
func v1_27() Rung {
	hideCPUs := hideFields("cpu_stats.online_cpus", "precpu_stats.online_cpus")
	return Rung{Version: "1.27", Source: "version-history.md", Changes: []Change{
		{What: "online CPUs of stats", Routes: []string{stats}, Lower: hideCPUs, LowerEach: hideCPUs},
		{What: "Attachable of a network", Routes: []string{networkShow}, Lower: hideFields("Attachable")},
		{What: "Attachable of a network", Routes: []string{networkList}, LowerEach: hideFields("Attachable")},
		{What: "Attachable of a network", Routes: []string{networkCreate}, Lift: dropFields("Attachable")},
	}}
}
