package version

import (
	"errors"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// v1_13 is what 1.13 changed against 1.12 (changelog, "v1.13 API changes"; document of 1.12).
func v1_13() Rung {
	return Rung{Version: "1.13", Source: "version-history.md, docker_remote_api_v1.12.md", Changes: []Change{
		{What: "commit does not pause by default", Routes: []string{commitRoute}, Lift: func(r *Request) error {
			if !r.Query.Has("pause") {
				r.Query.Set("pause", "0")
			}
			return nil
		}},
		{What: "tail of logs", Routes: []string{logsRoute}, Lift: dropQuery("tail")},
		{What: "start and stop that change nothing answer 204", Routes: []string{start, stop}, Error: func(_ *route.Request, err error) error {
			if errors.Is(err, fault.ErrNotModified) {
				return nil
			}
			return err
		}},
		{What: "Sockets of info", Routes: []string{info}, Lower: hideFields("Sockets")},
	}}
}
