package version

import "longshore/internal/server/route"

// v1_15 is what 1.15 changed against 1.14: the host configuration of a create (changelog, "v1.15 API changes"). It was
// ignored before and given at start.
func v1_15() Rung {
	return Rung{Version: "1.15", Source: "version-history.md, docker_remote_api_v1.14.md", Changes: []Change{
		{What: "content type of a copy", Routes: []string{copyRoute}, Reply: func(_ *route.Request, resp route.Response) (route.Response, error) {
			if raw, ok := resp.(route.Raw); ok {
				raw.ContentType = "application/octet-stream"
				return raw, nil
			}
			return resp, nil
		}},
		{What: "host configuration at create", Routes: []string{create}, Lift: hostConfigBelow15},
	}}
}

// hostConfigBelow15 drops the client's host configuration and puts what the lifts of older versions gathered in its place.
func hostConfigBelow15(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	body.Delete("HostConfig")
	body.Rename(earlyHost, "HostConfig")
	return nil
}
