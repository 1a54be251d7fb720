// Package apidoctest holds tables of routes against the description of the registry's API.
package apidoctest

import (
	"encoding/json"
	"iter"
	"strings"
	"testing"

	"longshore/internal/server/registryapi/apidoc"
)

// Described fails the test for each method of a path that the description does not have.
func Described(t testing.TB, path string, methods iter.Seq[string]) {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(apidoc.Document, &doc); err != nil {
		t.Fatal(err)
	}
	for method := range methods {
		if _, ok := doc.Paths[path][strings.ToLower(method)]; !ok {
			t.Errorf("%s %s is not described", method, path)
		}
	}
}
