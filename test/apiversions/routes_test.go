package apiversions

import (
	"os"
	"slices"
	"strings"
	"testing"

	"longshore/internal/server/engineapi/archive"
	"longshore/internal/server/engineapi/build"
	"longshore/internal/server/engineapi/buildkit"
	"longshore/internal/server/engineapi/containers"
	"longshore/internal/server/engineapi/debug"
	"longshore/internal/server/engineapi/images"
	"longshore/internal/server/engineapi/legacy"
	"longshore/internal/server/engineapi/networks"
	"longshore/internal/server/engineapi/system"
	"longshore/internal/server/engineapi/volumes"
	"longshore/internal/server/route"
)

// endpoint is a row of the table of all endpoints that any version of the API had.
type endpoint struct {
	method, path, since, until, group string
}

func endpoints(t *testing.T) []endpoint {
	t.Helper()
	doc, err := os.ReadFile("testdata/engine-endpoints.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var out []endpoint
	for _, l := range strings.Split(strings.TrimSpace(string(doc)), "\n")[1:] {
		c := strings.Split(l, "\t")
		e := endpoint{method: c[0], path: c[1], since: c[2], until: c[3], group: c[5]}
		if e.until == "-" {
			e.until = newest
		}
		out = append(out, e)
	}
	return out
}

const newest = "1.55"

// wider are endpoints that stand in more versions than the table says, and why.
var wider = map[string]string{
	"GET /_ping":  "clients ask before they know the version",
	"HEAD /_ping": "clients ask before they know the version",
}

// later are endpoints whose versioned path is younger than the unversioned one.
var later = map[string]string{"/debug/": "1.48"}

func allRoutes() []route.Route {
	all := slices.Concat(containers.Routes(nil, false), images.Routes(nil, nil), networks.Routes(nil, nil), volumes.Routes(nil),
		archive.Routes(nil), build.Routes(nil), buildkit.Routes(nil), system.Routes(nil), debug.Routes())
	return append(legacy.Routes(all, nil), all...)
}

func sample(path string) string {
	return strings.NewReplacer("{id}", "c0ffee", "{name}", "name", "{checkpoint}", "cp", "{any}", "images/json").Replace(path)
}

// TestRoutesOfEveryVersion holds the table of routes against the table of endpoints, at the first and the last version
// of each and just outside.
func TestRoutesOfEveryVersion(t *testing.T) {
	table, err := route.NewTable(allRoutes())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range endpoints(t) {
		for prefix, since := range later {
			if strings.HasPrefix(e.path, prefix) {
				e.since = since
			}
		}
		since, until := route.MustVersion(e.since), route.MustVersion(e.until)
		at := func(v route.Version) bool {
			m, ok := table.Match(e.method, sample(e.path), v)
			return ok && shape(m.Route.Pattern) == shape(e.path)
		}
		if !at(since) || !at(until) {
			t.Errorf("%s %s is missing at %s or %s", e.method, e.path, e.since, e.until)
		}
		if wider[e.method+" "+e.path] != "" {
			continue
		}
		if since > 1000 && at(since-1) || e.until != newest && at(until+1) {
			t.Errorf("%s %s stands outside %s to %s", e.method, e.path, e.since, e.until)
		}
	}
}

// shape is a path without the names of its variables.
func shape(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for i, p := range parts {
		if strings.HasPrefix(p, "{") {
			parts[i] = "{}"
		}
	}
	return strings.Join(parts, "/")
}

// TestNoRouteWithoutEndpoint is the other way round.
func TestNoRouteWithoutEndpoint(t *testing.T) {
	known := map[string]bool{}
	for _, e := range endpoints(t) {
		known[e.method+" "+shape(e.path)] = true
	}
	known["DELETE containers/{}/{}"] = true // the same with the name of a link, "parent/alias"
	for _, r := range allRoutes() {
		if !known[r.Method+" "+shape(r.Pattern)] {
			t.Errorf("%s is in no version of the API", r.Key())
		}
	}
}
