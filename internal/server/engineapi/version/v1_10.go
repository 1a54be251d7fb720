package version

import (
	"strings"

	"longshore/internal/base/jsontree"
)

// v1_10 is what 1.10 changed against 1.9 (changelog, "v1.10 API changes"; original document of 1.9).
func v1_10() Rung {
	return Rung{Version: "1.10", Source: "version-history.md, original/docker_remote_api_v1.9.rst", Changes: []Change{
		{What: "Dns and VolumesFrom left Config", Routes: []string{create}, Lift: func(r *Request) error {
			body, err := r.JSON()
			if err != nil {
				return err
			}
			if dns := body.Member("Dns"); !dns.Empty() {
				earlyHostConfig(body).Set("Dns", dns)
			}
			if from := body.Member("VolumesFrom").String(); from != "" {
				earlyHostConfig(body).Set("VolumesFrom", strings.Split(from, ","))
			}
			body.Delete("Dns", "VolumesFrom")
			return nil
		}},
		{What: "Dns and VolumesFrom of a container", Routes: []string{inspect}, Lower: func(v *View) {
			hc, cfg := v.Body.Member("HostConfig"), v.Body.Member("Config")
			cfg.Set("Dns", hc.Member("Dns").Strings())
			cfg.Set("VolumesFrom", strings.Join(hc.Member("VolumesFrom").Strings(), ","))
		}},
		{What: "forced removal of a container", Routes: []string{removeRoute}, Lift: dropQuery("force")},
		{What: "forced removal of an image", Routes: []string{imageDelete}, Lift: dropQuery("force", "noprune")},
		{What: "tag of a push", Routes: []string{imagePush}, Lift: dropQuery("tag")},
	}}
}

// earlyHost is where lifts of versions before 1.15 put what became the host configuration: the rung of 1.15 drops the
// client's own HostConfig, which daemons of that day ignored at create, and puts this in its place.
const earlyHost = "earlyHostConfig"

func earlyHostConfig(body *jsontree.Value) *jsontree.Value { return body.Ensure(earlyHost) }
