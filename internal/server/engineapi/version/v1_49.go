package version

// v1_49 is what 1.49 changed against 1.48 (changelog, "v1.49 API changes"; daemon's info handler).
func v1_49() Rung {
	return Rung{Version: "1.49", Source: "version-history.md", Changes: []Change{
		{What: "platform of an image inspect", Routes: []string{imageInspect}, Lift: dropQuery("platform")},
		{
			What:   "FirewallBackend of info; Expected commits",
			Routes: []string{info},
			Lower: func(v *View) {
				v.Body.Delete("FirewallBackend")
				for _, c := range []string{"ContainerdCommit", "RuncCommit", "InitCommit"} {
					commit := v.Body.Member(c)
					commit.Default("Expected", commit.Member("ID").String())
				}
				reg := v.Body.Member("RegistryConfig")
				reg.Default("AllowNondistributableArtifactsCIDRs", nil)
				reg.Default("AllowNondistributableArtifactsHostnames", nil)
			},
		},
	}}
}
