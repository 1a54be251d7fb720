package version

// v1_32 is what 1.32 changed against 1.31 (changelog, "v1.32 API changes"; platform by the daemon's source).
func v1_32() Rung {
	return Rung{Version: "1.32", Source: "version-history.md", Changes: []Change{
		{What: "platform of a pull, of a build and of an import", Routes: []string{imagePull, buildRoute}, Lift: dropQuery("platform")},
		{What: "driver options of an endpoint", Routes: []string{create}, Lift: func(r *Request) error {
			body, err := r.JSON()
			if err != nil {
				return err
			}
			for _, ep := range endpoints(body.Member("NetworkingConfig"), "EndpointsConfig") {
				ep.Delete("DriverOpts")
			}
			return nil
		}},
		{What: "driver options of an endpoint", Routes: []string{connect}, Lift: dropFields("EndpointConfig.DriverOpts")},
	}}
}
