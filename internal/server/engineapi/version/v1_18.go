package version

// v1_18 is what 1.18 changed against 1.17 (changelog, "v1.18 API changes"; document of 1.17).
func v1_18() Rung {
	return Rung{Version: "1.18", Source: "version-history.md, docker_remote_api_v1.17.md", Changes: []Change{
		{What: "limits of a build", Routes: []string{buildRoute}, Lift: dropQuery("memory", "memswap", "cpushares", "cpusetcpus")},
		{What: "Cpuset became CpusetCpus; cgroup parent, log configuration, PID mode and limits were unknown", Routes: []string{create}, Lift: func(r *Request) error {
			body, err := r.JSON()
			if err != nil {
				return err
			}
			if c := body.Member("Cpuset"); c != nil {
				body.Delete("Cpuset")
				body.Ensure("HostConfig").Default("CpusetCpus", c.String())
			}
			body.Member("HostConfig").Delete("CgroupParent", "Ulimits", "LogConfig", "PidMode")
			return nil
		}},
		{What: "Warnings of an exec", Routes: []string{execCreate}, Lower: hideFields("Warnings")},
		{What: "LogPath of a container; its log configuration and PID mode", Routes: []string{inspect}, Lower: hideFields(
			"LogPath", "HostConfig.LogConfig", "HostConfig.PidMode", "HostConfig.CgroupParent", "HostConfig.Ulimits")},
		{What: "RepoDigests of the image list", Routes: []string{imageList}, Lift: dropQuery("digests"), LowerEach: hideFields("RepoDigests")},
		{What: "SystemTime, proxies and registries of info", Routes: []string{info}, Lower: hideFields("SystemTime", "HttpProxy", "HttpsProxy", "NoProxy", "RegistryConfig", "LoggingDriver")},
		{What: "Os, Arch and KernelVersion of version", Routes: []string{versionRoute}, Lower: hideFields("Os", "Arch", "KernelVersion", "BuildTime")},
	}}
}
