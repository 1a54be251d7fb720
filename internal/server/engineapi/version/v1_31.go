package version

// v1_31 is what 1.31 changed against 1.30 (changelog, "v1.31 API changes").
func v1_31() Rung {
	return Rung{Version: "1.31", Source: "version-history.md", Changes: []Change{
		{What: "Metadata of an image", Routes: []string{imageInspect}, Lower: hideFields("Metadata")},
		{What: "scope of a network inspect", Routes: []string{networkShow}, Lift: dropQuery("scope")},
		{What: "BuilderSize of disk usage", Routes: []string{df}, Lower: hideFields("BuilderSize")},
		{What: "CreatedAt of a volume", Routes: []string{volumeShow, volumeCreate}, Lower: hideFields("CreatedAt")},
		{What: "CreatedAt of a volume", Routes: []string{volumeList, df}, Lower: func(v *View) {
			for _, vol := range v.Body.Member("Volumes").Items() {
				vol.Delete("CreatedAt")
			}
		}},
	}}
}
