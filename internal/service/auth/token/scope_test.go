package token

import (
	"strings"
	"testing"
)

func TestParseScopes(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"repository:samalba/my-app:pull,push", "repository:samalba/my-app:pull,push"},
		{"repository:a:pull repository:b:push", "repository:a:pull repository:b:push"},
		{"repository:a:pull|repository:a:push,pull", "repository:a:pull,push"},
		{"repository(plugin):a:pull", "repository:a:pull"},
		{"repository:a:*", "repository:a:*"},
		{"registry:catalog:*", "registry:catalog:*"},
		{"repository:a:", ""}, {"repository::pull", ""}, {"repository:a", ""}, {":a:pull", ""}, {"", ""}, {" ", ""}, {"::", ""},
		{"repository:a/../b:pull", ""}, {"repository:A:pull", ""}, {"repository:a:PULL", ""}, {"repository:a:pull,pu sh", "repository:a:pull,pu"},
		{"repository:localhost:5000/a:pull", ""}, // we host nothing under another host's name
		{"repository(:a:pull", ""}, {"repository():a:pull", ""}, {"repository(x:a:pull", ""}, {"Repository:a:pull", ""},
		{"registry:cat alog:*", ""}, {"registry:x:*", "registry:x:*"}, {"secret:a:pull", ""}, {"repository:a:" + strings.Repeat("a,", 50), ""},
	} {
		if got := scopeText(ParseScopes(strings.Split(c.in, "|"))); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
	many := ParseScopes([]string{strings.Repeat("repository:a:pull ", 500), strings.Join(numbered(500), " ")})
	if len(many) != maxScopes {
		t.Errorf("%d scopes", len(many))
	}
}

func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "repository:a" + strings.Repeat("a", i%100) + "/" + strings.Repeat("b", i/100+1) + ":pull"
	}
	return out
}

// FuzzParseScopes: whatever is read is of the grammar, and is read again as the same.
func FuzzParseScopes(f *testing.F) {
	for _, s := range []string{"repository:samalba/my-app:pull,push", "registry:catalog:*", "repository(plugin):a:pull b", "a:b:c:d", "repository:a:\x00", "::: :"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		grants := ParseScopes([]string{s})
		text := scopeText(grants)
		if again := scopeText(ParseScopes([]string{text})); again != text {
			t.Fatalf("%q is read as %q, and that as %q", s, text, again)
		}
		if len(grants) > maxScopes {
			t.Fatalf("%d scopes", len(grants))
		}
		for _, g := range grants {
			if g.Type != "repository" && g.Type != "registry" || g.Name == "" || strings.ContainsAny(g.Name, " \t\n:()\"\\") || strings.Contains(g.Name, "..") || len(g.Actions) == 0 {
				t.Fatalf("%q: %+v", s, g)
			}
		}
	})
}
