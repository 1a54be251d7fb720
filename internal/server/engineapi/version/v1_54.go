package version

// v1_54 is what 1.54 changed against 1.53 (changelog, "v1.54 API changes").
func v1_54() Rung {
	return Rung{Version: "1.54", Source: "version-history.md", Changes: []Change{
		{
			What:   "connect applies EndpointConfig.MacAddress; 1.44 to 1.53 ignored it",
			Routes: []string{connect},
			Lift:   dropFields("EndpointConfig.MacAddress"),
		},
		{
			What:   "the identity query of the image list",
			Routes: []string{imageList},
			Lift:   dropQuery("identity"),
		},
		{
			What:   "logs in JSON by query or Accept header",
			Routes: []string{logsRoute},
			Lift: func(r *Request) error {
				r.Query.Del("format")
				r.HTTP.Header.Del("Accept")
				return nil
			},
		},
	}}
}
