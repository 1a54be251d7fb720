package version

import (
	"strings"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// v1_24 is what 1.24 changed against 1.23 (changelog, "v1.24 API changes"; daemon source of 1.12).
func v1_24() Rung {
	return Rung{
		Version: "1.24", Source: "version-history.md, docker_remote_api_v1.23.md",
		Dialect: func(d *route.Dialect) { d.PlainTextErrors = true },
		Changes: []Change{
			{What: "health check, sysctls, storage options, link-local addresses; no command is 500", Routes: []string{create}, Lift: createBelow24, Error: func(_ *route.Request, err error) error {
				if strings.EqualFold(err.Error(), "no command specified") {
					return fault.Internal("No command specified")
				}
				return err
			}},
			{What: "host configuration at start; its sysctls and storage options", Routes: []string{start}, Lift: dropFields("Sysctls", "StorageOpt")},
			{What: "health of a container", Routes: []string{inspect}, Lower: hideFields("State.Health", "Config.Healthcheck", "HostConfig.Sysctls",
				"HostConfig.StorageOpt", "HostConfig.CpuPercent", "HostConfig.IOMaximumIOps", "HostConfig.IOMaximumBandwidth", "HostConfig.Runtime")},
			{What: "health check of an image", Routes: []string{imageInspect}, Lower: hideFields("Config.Healthcheck", "ContainerConfig.Healthcheck")},
			{What: "detach and reload events", Routes: []string{eventsRoute}, Omit: func(v *View) bool {
				switch v.Body.Member("Action").String() {
				case "detach", "exec_detach", "reload":
					return true
				}
				return false
			}},
			{What: "filters and limit of a search", Routes: []string{searchRoute}, Lift: dropQuery("filters", "limit")},
			{What: "SecurityOptions of info; the execution driver", Routes: []string{info}, Lower: func(v *View) {
				v.Body.Delete("SecurityOptions", "Swarm", "Runtimes", "DefaultRuntime")
				v.Body.Set("ExecutionDriver", "native-0.2")
			}},
			{What: "Scope and Status of a volume", Routes: []string{volumeShow, volumeCreate}, Lower: hideFields("Scope", "Status")},
			{What: "Scope and Status of a volume", Routes: []string{volumeList}, Lower: func(v *View) {
				for _, vol := range v.Body.Member("Volumes").Items() {
					vol.Delete("Scope", "Status")
				}
			}},
		},
	}
}

func createBelow24(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	body.Delete("Healthcheck")
	body.Member("HostConfig").Delete("Sysctls", "StorageOpt", "CpuPercent")
	for _, ep := range endpoints(body.Member("NetworkingConfig"), "EndpointsConfig") {
		ep.Member("IPAMConfig").Delete("LinkLocalIPs")
	}
	return nil
}
