package route

import "testing"

func table(t *testing.T, rs ...Route) *Table {
	t.Helper()
	tb, err := NewTable(rs)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func TestMatch(t *testing.T) {
	tb := table(t,
		Route{Method: "GET", Pattern: "/containers/{id}/json", Since: "1.0"},
		Route{Method: "GET", Pattern: "/containers/json", Since: "1.0"},
		Route{Method: "GET", Pattern: "/containers/ps", Since: "1.0", Until: "1.20"},
		Route{Method: "GET", Pattern: "/images/{name...}/json", Since: "1.0"},
		Route{Method: "GET", Pattern: "/images/{name...}/get", Since: "1.7"},
		Route{Method: "DELETE", Pattern: "/images/{name...}", Since: "1.0"},
		Route{Method: "GET", Pattern: "/images/get", Since: "1.15"},
		Route{Method: "GET", Pattern: "/images/json", Since: "1.0"},
	)
	for _, c := range []struct{ method, path, version, want, name string }{
		{"GET", "/containers/json", "1.55", "/containers/json", ""},
		{"GET", "/containers/abc/json", "1.55", "/containers/{id}/json", "abc"},
		{"GET", "/containers/ps", "1.20", "/containers/ps", ""},
		{"GET", "/containers/ps", "1.21", "", ""},
		{"GET", "/images/json", "1.55", "/images/json", ""},
		{"GET", "/images/reg:5000/a/b:c/json", "1.55", "/images/{name...}/json", "reg:5000/a/b:c"},
		{"GET", "/images/a%2Fb/json", "1.55", "/images/{name...}/json", "a/b"},
		{"GET", "/images/get", "1.15", "/images/get", ""},
		{"GET", "/images/json/get", "1.15", "/images/{name...}/get", "json"},
		{"DELETE", "/images/a/b", "1.1", "/images/{name...}", "a/b"},
		{"GET", "/images/x/get", "1.6", "", ""},
		{"POST", "/containers/json", "1.55", "", ""},
		{"GET", "/containers//json", "1.55", "", ""},
		{"GET", "/", "1.55", "", ""},
	} {
		m, ok := tb.Match(c.method, c.path, MustVersion(c.version))
		got := ""
		if ok {
			got = m.Route.Pattern
		}
		if got != c.want {
			t.Errorf("%s %s at %s: got %q, want %q", c.method, c.path, c.version, got, c.want)
			continue
		}
		if v := m.Vars["id"] + m.Vars["name"]; ok && v != c.name {
			t.Errorf("%s: variable %q, want %q", c.path, v, c.name)
		}
	}
}

func FuzzMatch(f *testing.F) {
	rs := []Route{
		{Method: "GET", Pattern: "/images/{name...}/json"}, {Method: "GET", Pattern: "/containers/{id}/json"}, {Method: "DELETE", Pattern: "/images/{name...}"},
	}
	tb, err := NewTable(rs)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("GET", "/images/a/b/json")
	f.Add("DELETE", "/images/%zz")
	f.Fuzz(func(t *testing.T, method, path string) {
		m, ok := tb.Match(method, path, MustVersion("1.55"))
		if !ok {
			return
		}
		for k, v := range m.Vars {
			if v == "" {
				t.Fatalf("empty variable %s for %q", k, path)
			}
		}
	})
}

func TestParseVersion(t *testing.T) {
	for _, ok := range []string{"1.0", "1.55", "1.99", "2", "2.0"} {
		if v, err := ParseVersion(ok); err != nil || v == 0 {
			t.Errorf("%q: %v %v", ok, v, err)
		}
	}
	for _, bad := range []string{"", ".", "1.", ".1", "1.2.3", "1.x", "-1.2", "1.99999", "99999.1", "1.+2"} {
		if _, err := ParseVersion(bad); err == nil {
			t.Errorf("%q must be refused", bad)
		}
	}
	if s := MustVersion("1.41").String(); s != "1.41" {
		t.Error(s)
	}
}

func TestParseFilters(t *testing.T) {
	for _, s := range []string{`{"a":["x","y"]}`, `{"a":{"x":true,"y":true,"z":false}}`} {
		f, err := ParseFilters(s)
		if err != nil || len(f["a"]) != 2 || f["a"][0] != "x" {
			t.Errorf("%s: %v %v", s, f, err)
		}
	}
	for _, s := range []string{`[`, `{"a":3}`, `"x"`} {
		if _, err := ParseFilters(s); err == nil {
			t.Errorf("%s must be refused", s)
		}
	}
}
