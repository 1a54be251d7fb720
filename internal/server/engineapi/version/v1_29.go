package version

// v1_29 is what 1.29 changed against 1.28 (changelog, "v1.29 API changes").
func v1_29() Rung {
	return Rung{Version: "1.29", Source: "version-history.md", Changes: []Change{
		{What: "start period of a health check", Routes: []string{create}, Lift: dropFields("Healthcheck.StartPeriod")},
		{What: "Ingress of a network", Routes: []string{networkShow}, Lower: hideFields("Ingress")},
		{What: "Ingress of a network", Routes: []string{networkList}, LowerEach: hideFields("Ingress")},
		{What: "Ingress of a network", Routes: []string{networkCreate}, Lift: dropFields("Ingress")},
	}}
}
