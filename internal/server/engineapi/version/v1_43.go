package version

// v1_43 is what 1.43 changed against 1.42 (changelog, "v1.43 API changes").
func v1_43() Rung {
	return Rung{Version: "1.43", Source: "version-history.md", Changes: []Change{
		{What: "annotations", Routes: []string{create}, Lift: dropFields("HostConfig.Annotations")},
		{What: "annotations of a container", Routes: []string{inspect}, Lower: hideFields("HostConfig.Annotations")},
		{What: "names of untagged images", Routes: []string{imageList}, LowerEach: namesOfUntagged},
		{What: "names of untagged images", Routes: []string{df}, Lower: func(v *View) {
			for _, img := range v.Body.Member("Images").Items() {
				namesOfUntagged(&View{Body: img})
			}
		}},
	}}
}

func namesOfUntagged(v *View) {
	if v.Body.Member("RepoTags").Empty() && v.Body.Member("RepoDigests").Empty() {
		v.Body.Set("RepoTags", []string{"<none>:<none>"})
		v.Body.Set("RepoDigests", []string{"<none>@<none>"})
	}
}
