package version

import "longshore/internal/base/jsontree"

// usageParts are the members of the disk usage answer: the form since 1.52 and the one before.
var usageParts = []struct{ now, before string }{
	{"ImageUsage", "Images"}, {"ContainerUsage", "Containers"}, {"VolumeUsage", "Volumes"}, {"BuildCacheUsage", "BuildCache"},
}

// askVerbose asks for the items, which the form of before 1.53 always had, and keeps what the client asked.
func askVerbose(r *Request) error {
	if !r.Bool("verbose") {
		r.Note("legacy")
		r.Query.Set("verbose", "1")
	}
	return nil
}

// legacyDiskUsage adds the form of before 1.53 beside the new one, unless a verbose answer was asked for.
func legacyDiskUsage(v *View) {
	if !v.Request.Noted("legacy") {
		return
	}
	for _, p := range usageParts {
		part := v.Body.Member(p.now)
		if part == nil {
			continue
		}
		items := part.Member("Items")
		if items.Kind() != jsontree.Array {
			items, _ = jsontree.Parse([]byte("[]"))
		}
		part.Delete("Items")
		v.Body.Set(p.before, items)
		if p.now == "ImageUsage" {
			v.Body.Set("LayersSize", part.Member("TotalSize").Int())
		}
	}
}

// onlyLegacyDiskUsage leaves the form of before 1.52.
func onlyLegacyDiskUsage(v *View) {
	for _, p := range usageParts {
		v.Body.Delete(p.now)
		v.Body.Default(p.before, nil)
	}
	v.Body.Default("LayersSize", 0)
}
