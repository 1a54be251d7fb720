package registryv1

import (
	"maps"
	"testing"

	"longshore/internal/server/registryapi/apidoc/apidoctest"
)

// TestDescribed: every path is in the description of the API, with its methods.
func TestDescribed(t *testing.T) {
	for kind, table := range imageRoutes {
		apidoctest.Described(t, "/v1/images/{image_id}/"+kind, maps.Keys(table))
	}
	for kind, table := range repositoryRoutes {
		path := map[string]string{"tag": "tags/{tag}", "tagjson": "tags/{tag}/json"}[kind]
		if path == "" {
			path = kind
		}
		apidoctest.Described(t, "/v1/repositories/{name}/"+path, maps.Keys(table))
	}
}
