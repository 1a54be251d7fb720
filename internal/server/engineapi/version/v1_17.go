package version

import "longshore/internal/server/route"

// v1_17 is what 1.17 changed against 1.16 (changelog, "v1.17 API changes"; document of 1.16).
func v1_17() Rung {
	return Rung{
		Version: "1.17", Source: "version-history.md, docker_remote_api_v1.16.md",
		Dialect: func(d *route.Dialect) { d.NoUpgrade = true },
		Changes: []Change{
			{What: "name of the Dockerfile", Routes: []string{buildRoute}, Lift: dropQuery("dockerfile")},
			{What: "labels; read-only root", Routes: []string{create}, Lift: dropFields("Labels", "HostConfig.ReadonlyRootfs")},
			{What: "labels of the container list", Routes: []string{list}, LowerEach: hideFields("Labels")},
			{What: "ExecIDs and labels; spelling of the network settings; states", Routes: []string{inspect}, Lower: inspectBelow17},
			{What: "labels of the image list", Routes: []string{imageList}, LowerEach: hideFields("Labels")},
		},
	}
}

func inspectBelow17(v *View) {
	v.Body.Delete("ExecIDs")
	cfg := v.Body.Member("Config")
	cfg.Delete("Labels")
	cfg.Default("Dns", nil)
	cfg.Default("VolumesFrom", "")
	v.Body.Member("HostConfig").Delete("ReadonlyRootfs")
	st := v.Body.Member("State")
	st.Default("Ghost", false)
	st.Delete("Error", "OOMKilled", "Dead", "Status", "Health")
	v.Body.Default("SysInitPath", "")
	// The documents say IpAddress, daemons of that day IPAddress: both are told.
	ns := v.Body.Member("NetworkSettings")
	ns.Add("IpAddress", ns.Member("IPAddress").String())
	ns.Add("IpPrefixLen", ns.Member("IPPrefixLen").Int())
}
