package wirev1

import (
	"strings"
	"testing"
)

func TestParseToken(t *testing.T) {
	want := Token{"123abc", "foo/bar", "write"}
	for _, header := range []string{
		`Token signature=123abc,repository="foo/bar",access=write`, `token signature=123abc, repository="foo/bar", access=write`,
		`Token Token signature=123abc,repository="foo/bar",access=write`, "Token signature=123abc,repository=“foo/bar”,access=write",
		"  Token   access=write,repository=foo/bar,signature=123abc  ", "Token " + want.String(),
	} {
		if got, ok := ParseToken(header); !ok || got != want {
			t.Errorf("%q: %+v %v", header, got, ok)
		}
	}
	for _, header := range []string{"", "Basic Zm9vOmJhcg==", "Bearer x", "Tokens x", "Token " + strings.Repeat("x", 5000)} {
		if got, ok := ParseToken(header); ok {
			t.Errorf("%.30q: %+v", header, got)
		}
	}
	if got, ok := ParseToken("Token"); !ok || got != (Token{}) {
		t.Error(got, ok)
	}
}

// FuzzParseToken: what is read stands in the header, and headers of other schemes are no tokens.
func FuzzParseToken(f *testing.F) {
	f.Add(`Token signature=123abc,repository="foo/bar",access=write`)
	f.Add("Token Token signature=“a”,,=,repository")
	f.Fuzz(func(t *testing.T, header string) {
		got, ok := ParseToken(header)
		if !ok && got != (Token{}) || ok && !strings.EqualFold(strings.TrimSpace(header)[:5], "token") {
			t.Fatalf("%q: %+v", header, got)
		}
		for _, part := range []string{got.Signature, got.Repository, got.Access} {
			if !strings.Contains(header, part) {
				t.Fatalf("%q: %+v", header, got)
			}
		}
	})
}

func TestParseTarget(t *testing.T) {
	for path, want := range map[string]Target{
		"/v1/repositories/foo/bar/": {"foo/bar", "", ""}, "/v1/repositories/foo/bar": {"foo/bar", "", ""}, "/v1/repositories/foobar/": {"foobar", "", ""},
		"/v1/repositories/foo/bar/tags": {"foo/bar", "tags", ""}, "/v1/repositories/foo/bar/tags/": {"foo/bar", "tags", ""},
		"/v1/repositories/foo/bar/tags/v1": {"foo/bar", "tag", "v1"}, "/v1/repositories/foo/tags/v1": {"foo", "tag", "v1"},
		"/v1/repositories/a/b/c/d/images": {"a/b/c/d", "images", ""}, "/v1/repositories/foo/auth": {"foo", "auth", ""},
		"/v1/repositories/foo/bar/tags/v1/json": {"foo/bar", "tagjson", "v1"}, "/v1/repositories/foo/bar/json": {"foo/bar", "json", ""},
		"/v1/repositories/foo/bar/properties": {"foo/bar", "properties", ""}, "/v1/repositories/tags/tags": {"tags", "tags", ""},
		"/v1/repositories/images": {"images", "", ""},
	} {
		if got, ok := ParseTarget(path); !ok || got != want {
			t.Errorf("%s: %+v %v", path, got, ok)
		}
	}
	for _, path := range []string{"/v1/repositories/", "/v1/repositories//tags", "/v1/images/x/json", ""} {
		if got, ok := ParseTarget(path); ok {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

// FuzzParseTarget: the parts are parts of the path, and a name that is good has no surprises.
func FuzzParseTarget(f *testing.F) {
	f.Add("/v1/repositories/foo/bar/tags/v1/json")
	f.Fuzz(func(t *testing.T, path string) {
		got, ok := ParseTarget(path)
		if !ok {
			return
		}
		if got.Name == "" || !strings.Contains(path, got.Name) || !strings.Contains(path, got.Tag) {
			t.Fatalf("%q: %+v", path, got)
		}
		if repo, err := RepoName(got.Name); err == nil && (strings.HasPrefix(string(repo), "_") || !strings.Contains(string(repo), "/")) {
			t.Fatalf("%q is %s", path, repo)
		}
	})
}
