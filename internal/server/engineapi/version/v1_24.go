package version

import "longshore/internal/server/route"

// v1_24 is what 1.24 changed against 1.23 (changelog, "v1.24 API changes"; daemon source of 1.12).
func v1_24() Rung {
	return Rung{
		Version: "1.24", Source: "version-history.md, docker_remote_api_v1.23.md",
		Dialect: func(d *route.Dialect) { d.PlainTextErrors = true },
		Changes: []Change{
			{What: "health check, sysctls, storage options", Routes: []string{create}, Lift: dropFields(
				"Healthcheck", "HostConfig.Sysctls", "HostConfig.StorageOpt", "HostConfig.CpuPercent")},
			{What: "SecurityOptions of info", Routes: []string{info}, Lower: hideFields("SecurityOptions")},
			{What: "Scope and Status of a volume", Routes: []string{volumeShow, volumeCreate}, Lower: hideFields("Scope", "Status")},
			{What: "Scope and Status of a volume", Routes: []string{volumeList}, Lower: func(v *View) {
				for _, vol := range v.Body.Member("Volumes").Items() {
					vol.Delete("Scope", "Status")
				}
			}},
		},
	}
}
