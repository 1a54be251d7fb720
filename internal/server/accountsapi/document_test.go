package accountsapi

import (
	"strings"
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
	check := func(path string, method string) {
		item := doc.Paths.Value(path)
		if item == nil || item.GetOperation(method) == nil {
			t.Errorf("%s %s is not described", method, path)
		}
	}
	for path, methods := range endpoints {
		path = Path + path
		if !strings.Contains(path, ".css") {
			path += "/"
		}
		for m := range methods {
			check(path, m)
		}
	}
	for m := range userOperations {
		check(Path+"users/{username}/", m)
	}
	for m := range emailOperations {
		check(Path+"users/{username}/emails/", m)
	}
}
