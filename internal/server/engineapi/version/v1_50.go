package version

// v1_50 is what 1.50 changed against 1.49 (changelog, "v1.50 API changes").
func v1_50() Rung {
	return Rung{Version: "1.50", Source: "version-history.md", Changes: []Change{
		{What: "platforms of an image removal", Routes: []string{imageDelete}, Lift: dropQuery("platforms")},
		{What: "container fields in an image's Config", Routes: []string{imageInspect}, Lower: imageConfigBelow50},
		{
			What:   "BridgeNfIptables and BridgeNfIp6tables of info; DiscoveredDevices",
			Routes: []string{info},
			Lower: func(v *View) {
				v.Body.Delete("DiscoveredDevices")
				v.Body.Default("BridgeNfIptables", false)
				v.Body.Default("BridgeNfIp6tables", false)
			},
		},
	}}
}

// imageConfigBelow50 adds the container's fields that an image's Config showed, always empty.
func imageConfigBelow50(v *View) {
	cfg := v.Body.Member("Config")
	for _, f := range []string{"Hostname", "Domainname", "Image"} {
		cfg.Default(f, "")
	}
	for _, f := range []string{"AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"} {
		cfg.Default(f, false)
	}
}
