package accountsapi

import (
	"maps"
	"strings"
	"testing"

	"longshore/internal/server/registryapi/apidoc/apidoctest"
)

// TestDescribed: every path is in the description of the API, with its methods.
func TestDescribed(t *testing.T) {
	for path, methods := range endpoints {
		path = Path + path
		if !strings.Contains(path, ".css") {
			path += "/"
		}
		apidoctest.Described(t, path, maps.Keys(methods))
	}
	apidoctest.Described(t, Path+"users/{username}/", maps.Keys(userOperations))
	apidoctest.Described(t, Path+"users/{username}/emails/", maps.Keys(emailOperations))
}
