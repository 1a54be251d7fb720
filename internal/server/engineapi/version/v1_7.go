package version

import (
	"strings"

	"longshore/internal/base/jsontree"
)

// v1_7 is what 1.7 changed against 1.6 (changelog, "v1.7 API changes"; original document of 1.6).
func v1_7() Rung {
	return Rung{Version: "1.7", Source: "version-history.md, original/docker_remote_api_v1.6.rst", Changes: []Change{
		{What: "a row for every tag", Routes: []string{imageList}, Lower: rowPerTag},
		{What: "keys of a search", Routes: []string{searchRoute}, LowerEach: func(v *View) {
			rename(v.Body, "name", "Name")
			rename(v.Body, "description", "Description")
			v.Body.Delete("is_official", "is_trusted", "is_automated", "star_count")
		}},
	}}
}

// rowPerTag turns each image into as many rows as it has tags; the last colon parts repository and tag.
func rowPerTag(v *View) {
	var rows []*jsontree.Value
	for _, img := range v.Body.Items() {
		for _, name := range img.Member("RepoTags").Strings() {
			repo, tag := name, ""
			if i := strings.LastIndexByte(name, ':'); i > 0 {
				repo, tag = name[:i], name[i+1:]
			}
			row, err := jsontree.Of(struct {
				Repository, Tag, Id        string
				Created, Size, VirtualSize int64
			}{repo, tag, img.Member("Id").String(), img.Member("Created").Int(), img.Member("Size").Int(), img.Member("Size").Int()})
			if err == nil {
				rows = append(rows, row)
			}
		}
	}
	v.Body.SetItems(rows)
}
