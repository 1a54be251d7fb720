package version

import "longshore/internal/base/jsontree"

// v1_12 is what 1.12 changed against 1.11 (changelog, "v1.12 API changes"; document of 1.11; image keys by the daemon's
// source, which kept the image's own JSON on older versions).
func v1_12() Rung {
	return Rung{Version: "1.12", Source: "version-history.md, original/docker_remote_api_v1.11.md", Changes: []Change{
		{What: "a build keeps intermediate containers by default", Routes: []string{buildRoute}, Lift: func(r *Request) error {
			r.Query.Del("forcerm")
			if !r.Query.Has("rm") {
				r.Query.Set("rm", "0")
			}
			return nil
		}},
		{What: "comment of a commit", Routes: []string{commitRoute}, Lift: func(r *Request) error {
			if m := r.Query.Get("m"); m != "" && !r.Query.Has("comment") {
				r.Query.Set("comment", m)
			}
			return nil
		}},
		{What: "spelling of an image's keys", Routes: []string{imageInspect}, Lower: imageBelow12},
		// The documents say Id, daemons of that day ID: both are told.
		{What: "spelling of a container's ID", Routes: []string{inspect}, Lower: func(v *View) { v.Body.Add("ID", v.Body.Member("Id").String()) }},
		{What: "is_trusted of a search", Routes: []string{searchRoute}, LowerEach: func(v *View) { v.Body.Rename("is_automated", "is_trusted") }},
		{What: "filters of lists", Routes: []string{list, imageList}, Lift: dropQuery("filters")},
		{What: "ApiVersion of version", Routes: []string{versionRoute}, Lower: hideFields("ApiVersion")},
	}}
}

// imageBelow12 spells the keys as the image's own JSON did.
func imageBelow12(v *View) {
	for _, r := range [][2]string{
		{"Id", "id"}, {"Parent", "parent"}, {"Created", "created"}, {"Container", "container"}, {"ContainerConfig", "container_config"},
		{"DockerVersion", "docker_version"}, {"Author", "author"}, {"Config", "config"}, {"Architecture", "architecture"}, {"Os", "os"}, {"Comment", "comment"},
	} {
		rename(v.Body, r[0], r[1])
	}
	v.Body.Delete("VirtualSize", "GraphDriver", "Variant")
}

// rename changes the spelling of a key, also where only its letter case differs.
func rename(v *jsontree.Value, from, to string) {
	m := v.Member(from)
	if m == nil {
		return
	}
	v.Delete(from)
	v.Set(to, m)
}
