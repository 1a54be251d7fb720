package registryapi

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"longshore/internal/core/distribution"
	"longshore/internal/server/registryapi/apidoc"
)

func TestRoutes(t *testing.T) {
	for path, want := range map[string]target{
		"/v2/":                              {op: opBase},
		"/v2":                               {op: opBase},
		"/v2/_catalog":                      {op: opCatalog},
		"/v2/a/tags/list":                   {opTags, "a", "list"},
		"/v2/a/b/c/tags/list":               {opTags, "a/b/c", "list"},
		"/v2/a/manifests/v1":                {opManifest, "a", "v1"},
		"/v2/manifests/manifests/manifests": {opManifest, "manifests", "manifests"},
		"/v2/a/blobs/sha256:x":              {opBlob, "a", "sha256:x"},
		"/v2/a/blobs/uploads/":              {opUploads, "a", ""},
		"/v2/a/blobs/uploads":               {opUploads, "a", "uploads"},
		"/v2/a/blobs/uploads/id":            {opUpload, "a", "id"},
		"/v2/a/blobs/blobs/uploads/id":      {opUpload, "a/blobs", "id"},
		"/v2/a/referrers/sha256:x":          {opReferrers, "a", "sha256:x"},
		"/v2/_oci/ext/discover":             {op: opDiscover},
		"/v2/_zot/ext/mgmt":                 {op: opMgmt},
		"/v2/_zot/pprof/heap":               {opPprof, "", "heap"},
		"/v2/_zot/pprof":                    {op: opPprof},
		"/zot/auth/apikey":                  {op: opAPIKey},
		"/metrics":                          {op: opMetrics},
		"/livez":                            {opHealth, "", "livez"},
		"/swagger/v2/doc.json":              {opDocs, "", "doc.json"},
		"/oras/artifacts/v1/a/b/manifests/sha256:x/referrers": {opOrasReferrers, "a/b", "sha256:x"},
	} {
		var got target
		if !got.route(path, "/metrics") || got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	for _, path := range []string{"", "/", "/v1/", "/v2/a", "/v2/a/b", "/v2/tags/list", "/v2/a/tags/list/", "/v2/a/manifests/", "/v2/manifests/v1",
		"/v2/_zot/ext/search", "/oras/artifacts/v1/a/referrers", "/metrics/", "/v3/a/tags/list"} {
		var got target
		if got.route(path, "/metrics") {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		var got target
		got.route("/v2/team/app/manifests/v1", "/metrics")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzRoute(f *testing.F) {
	f.Add("/v2/a/b/blobs/uploads/id", "/metrics")
	f.Add("/oras/artifacts/v1/a/b/manifests/sha256:x/referrers", "")
	f.Fuzz(func(t *testing.T, path, metrics string) {
		var got target
		if !got.route(path, metrics) {
			return
		}
		if operations[got.op].methods() == "" {
			t.Errorf("%q: no method", path)
		}
		if repo, err := distribution.ParseRepoName(got.name); err == nil && (!strings.Contains(path, string(repo)) || strings.Contains(string(repo), "..")) {
			t.Errorf("%q: repository %q", path, repo)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add("application/json;q=0.5, */*", `"a", W/"b"`)
	f.Fuzz(func(t *testing.T, acceptable, etags string) {
		for _, m := range accept([]string{acceptable}) {
			if m == "" || strings.ContainsAny(m, ",;") {
				t.Errorf("%q", m)
			}
		}
		matches([]string{etags}, `"x"`)
		list([]string{etags})
		if q := quote(etags); len(q) < 2 || strings.ContainsAny(q, "\r\n") {
			t.Errorf("%q", q)
		}
	})
}

// mounted tells the paths of other handlers, which are described in the same document.
func mounted(path string) bool {
	return slices.ContainsFunc([]string{"/api/v1.1/", "/token", "/oauth2/token", "/v1/", "/_ping"}, func(p string) bool { return strings.HasPrefix(path, p) })
}

// TestDocument holds the description of the API against the routes, both ways.
func TestDocument(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(apidoc.Document)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{name}", "team/app", "{reference}", "v1", "{digest}", "sha256:x", "{session_id}", "id", "{profile}", "heap")
	described := map[op]map[string]bool{}
	for path, item := range doc.Paths.Map() {
		if mounted(path) {
			continue // boot's tests hold these against what is mounted
		}
		var got target
		if !got.route(fill.Replace(path), "/metrics") {
			t.Errorf("%s is described and not there", path)
			continue
		}
		if described[got.op] == nil {
			described[got.op] = map[string]bool{}
		}
		for method := range item.Operations() {
			described[got.op][method] = true
			if operations[got.op].handler(method) == nil {
				t.Errorf("%s %s is described and not there", method, path)
			}
		}
	}
	for o := opBase; o < opCount; o++ {
		for method := range strings.SplitSeq(operations[o].methods(), ", ") {
			hidden := o == opDocs || o == opPprof && method == "POST" || o == opLogin && method == "GET"
			if method != "HEAD" && !described[o][method] && !hidden {
				t.Errorf("%s of operation %d is not described", method, o)
			}
		}
	}
	var v any
	if err := json.Unmarshal(apidoc.Document, &v); err != nil {
		t.Fatal(err)
	}
}
