package sqlmeta

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlans: no query of the hot paths reads a whole table.
func TestPlans(t *testing.T) {
	x, err := OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	queries := map[string]string{
		"manifest by tag":    manifestByTag,
		"manifest by digest": manifestByDigest,
		"linked":             linkedQuery,
		"linking":            linkingQuery,
		"referrers":          referrersQuery,
		"catalogue":          repositoriesQuery,
		"tags":               tagsQuery,
		"untagged":           untagged,
		"orphans":            orphansQuery,
		"unused links":       unusedLinksQuery,
		"unlinked blobs":     unlinkedBlobsQuery,
		"image":              imageQuery,
		"chain":              chainQuery,
		"standing":           standingQuery,
		"holding":            holdingQuery,
		"tops":               topsQuery,
		"hub":                hubQuery,
		"drop link":          dropLinkGuard,
	}
	for name, q := range queries {
		args := make([]any, strings.Count(q, "?"))
		for i := range args {
			args[i] = "1"
		}
		var plan []string
		err := x.read.in(context.Background()).rows("EXPLAIN QUERY PLAN "+q, args, func(scan func(...any) error) error {
			var id, parent, unused int
			var detail string
			err := scan(&id, &parent, &unused, &detail)
			plan = append(plan, detail)
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, step := range plan {
			if strings.HasPrefix(step, "SCAN") || strings.Contains(step, "TEMP B-TREE") && name != "linking" && name != "untagged" && name != "holding" && name != "standing" {
				t.Errorf("%s: %s", name, strings.Join(plan, " | "))
				break
			}
		}
	}
}
