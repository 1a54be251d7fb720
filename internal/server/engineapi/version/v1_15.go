package version

// v1_15 is what 1.15 changed against 1.14: the host configuration of a create (changelog, "v1.15 API changes"). It was
// ignored before and given at start.
func v1_15() Rung {
	return Rung{Version: "1.15", Source: "version-history.md, docker_remote_api_v1.14.md", Changes: []Change{
		{What: "host configuration at create", Routes: []string{create}, Lift: hostConfigBelow15},
	}}
}

// hostConfigBelow15 drops the host configuration and moves the limits, which lay in Config until 1.18, into a new one.
func hostConfigBelow15(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	body.Delete("HostConfig")
	return nil
}
