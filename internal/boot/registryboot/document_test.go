package registryboot_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"longshore/internal/boot/registryboot/registrytest"
)

// TestDocumentOfMounts holds the served description against the handlers of accounts, tokens and API v1: each path is
// there, and takes the methods that are described and no others.
func TestDocumentOfMounts(t *testing.T) {
	r := registrytest.Start(t, `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0", "auth": {"accounts": {"registration": true}, "token": {}}},
		"extensions": {"v1": {"enable": true}}}`)
	if a := r.Do(t, http.MethodPost, "/v1/users/", []byte(`{"username": "janedoe", "password": "a-long-secret", "email": "jane@example.org"}`)); a.StatusCode != http.StatusCreated {
		t.Fatalf("register: %d %s", a.StatusCode, a.Text)
	}
	served := r.Do(t, http.MethodGet, "/swagger/v2/openapi.json", nil, registrytest.Basic("janedoe", "a-long-secret"))
	doc, err := openapi3.NewLoader().LoadFromData([]byte(served.Text))
	if err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{name}", "team/app", "{username}", "janedoe", "{tag}", "latest", "{image_id}", strings.Repeat("a", 64))
	var counted int
	for path, item := range doc.Paths.Map() {
		tag := ""
		var described []string
		for method, op := range item.Operations() {
			tag = op.Tags[0]
			described = append(described, method)
		}
		if !slices.Contains([]string{"Accounts", "OAuth2", "Tokens", "Index v1", "Registry v1"}, tag) || strings.HasPrefix(path, "/zot/") {
			continue
		}
		counted++
		a := r.Do(t, "LOCK", fill.Replace(path), nil)
		allowed := slices.DeleteFunc(strings.Split(a.Header.Get("Allow"), ", "), func(m string) bool { return m == http.MethodHead })
		slices.Sort(allowed)
		slices.Sort(described)
		if a.StatusCode != http.StatusMethodNotAllowed || !slices.Equal(allowed, described) {
			t.Errorf("%s: %d, allowed %v, described %v", path, a.StatusCode, allowed, described)
		}
	}
	if counted < 30 {
		t.Errorf("only %d paths of accounts, tokens and API v1 are described", counted)
	}
}
