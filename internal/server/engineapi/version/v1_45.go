package version

import "longshore/internal/base/jsontree"

// v1_45 is what 1.45 changed against 1.44 (changelog, "v1.45 API changes"; daemon's inspect handler).
func v1_45() Rung {
	return Rung{Version: "1.45", Source: "version-history.md", Changes: []Change{
		{What: "sub path of a volume mount", Routes: []string{create}, Lift: func(r *Request) error {
			return eachMount(r, func(m *jsontree.Value) error {
				if !m.At("VolumeOptions", "Subpath").Empty() {
					return invalid("VolumeOptions.Subpath needs API v1.45 or newer")
				}
				return nil
			})
		}},
		{What: "aliases without the short ID", Routes: []string{inspect}, Lower: aliasesBelow45},
		{What: "Container and ContainerConfig of an image", Routes: []string{imageInspect}, Lower: func(v *View) {
			v.Body.Default("Container", "")
			v.Body.Default("ContainerConfig", emptyContainerConfig)
		}},
	}}
}

// emptyContainerConfig is what images that no legacy builder made showed as ContainerConfig.
const emptyContainerConfig = jsonObject(`{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,` +
	`"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,` +
	`"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}`)

// aliasesBelow45 appends the short ID and the host name to the aliases on user-defined networks.
func aliasesBelow45(v *View) {
	id, host := v.Body.Member("Id").String(), v.Body.At("Config", "Hostname").String()
	if len(id) < 12 {
		return
	}
	for name, ep := range endpoints(v.Body.Member("NetworkSettings"), "Networks") {
		if name == "bridge" || name == "host" || name == "none" {
			continue
		}
		aliases := append(ep.Member("Aliases").Strings(), id[:12])
		if host != "" && host != id[:12] {
			aliases = append(aliases, host)
		}
		ep.Set("Aliases", aliases)
	}
}
