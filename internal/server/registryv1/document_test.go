package registryv1

import (
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"longshore/internal/server/registryapi/apidoc"
)

// TestDescribed: every path is in the description of the API, with its methods.
func TestDescribed(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(apidoc.Document)
	if err != nil {
		t.Fatal(err)
	}
	check := func(path string, table methods) {
		for method := range table {
			if item := doc.Paths.Value(path); item == nil || item.GetOperation(method) == nil {
				t.Errorf("%s %s is not described", method, path)
			}
		}
	}
	for kind, table := range imageRoutes {
		check("/v1/images/{image_id}/"+kind, table)
	}
	for kind, table := range repositoryRoutes {
		path := map[string]string{"tag": "tags/{tag}", "tagjson": "tags/{tag}/json"}[kind]
		if path == "" {
			path = kind
		}
		check("/v1/repositories/{name}/"+path, table)
	}
}
