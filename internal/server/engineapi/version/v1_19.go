package version

// v1_19 is what 1.19 changed against 1.18 (changelog, "v1.19 API changes"; daemon source of 1.7).
func v1_19() Rung {
	return Rung{Version: "1.19", Source: "version-history.md, docker_remote_api_v1.18.md", Changes: []Change{
		{What: "CPU period and quota of a build", Routes: []string{buildRoute}, Lift: dropQuery("cpuperiod", "cpuquota")},
		{What: "CpuShares are clamped; new limits are unknown", Routes: []string{create, start}, Lift: createBelow19},
		{What: "limits of a container", Routes: []string{inspect}, Lower: hideFields("HostConfig.CpuPeriod", "HostConfig.CpuQuota",
			"HostConfig.BlkioWeight", "HostConfig.CpusetMems", "HostConfig.OomKillDisable")},
		{What: "user of an exec", Routes: []string{execCreate}, Lift: dropFields("User")},
		{What: "since of logs", Routes: []string{logsRoute}, Lift: dropQuery("since")},
		{What: "one sample of stats; the previous one", Routes: []string{stats}, Lift: dropQuery("stream"),
			Lower: statsBelow19, LowerEach: statsBelow19},
		{What: "Comment, Size and Tags of a history", Routes: []string{imageHistory}, LowerEach: hideFields("Comment", "Tags")},
		{What: "numbers instead of booleans in info", Routes: []string{info}, Lower: infoBelow19},
		{What: "Experimental of version", Routes: []string{versionRoute}, Lower: hideFields("Experimental")},
	}}
}

const minShares, maxShares = 2, 262144

func createBelow19(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	for _, at := range []string{"", "HostConfig"} {
		v := body
		if at != "" {
			v = body.Member(at)
		}
		if n := v.Member("CpuShares").Int(); n != 0 {
			v.Set("CpuShares", min(max(n, minShares), maxShares))
		}
		v.Delete("CpuPeriod", "CpuQuota", "BlkioWeight", "CpusetMems", "OomKillDisable")
	}
	return nil
}

func statsBelow19(v *View) {
	v.Body.Delete("precpu_stats")
	v.Body.Member("cpu_stats").Set("throttling_data", struct{}{})
}

func infoBelow19(v *View) {
	v.Body.Delete("CpuCfsPeriod", "CpuCfsQuota", "OomKillDisable", "ExperimentalBuild")
	for _, f := range []string{"Debug", "IPv4Forwarding", "MemoryLimit", "SwapLimit"} {
		n := 0
		if v.Body.Member(f).Bool() {
			n = 1
		}
		v.Body.Set(f, n)
	}
}
