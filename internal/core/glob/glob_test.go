package glob

import "testing"

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"**", "a", true}, {"**", "a/b/c", true},
		{"a/b", "a/b", true}, {"a/b", "a/bc", false},
		{"tmp/**", "tmp", true}, {"tmp/**", "tmp/a", true}, {"tmp/**", "tmp/a/b", true}, {"tmp/**", "tmpa", false},
		{"infra/*", "infra/a", true}, {"infra/*", "infra/a/b", false}, {"infra/*", "infra", false},
		{"*", "a", true}, {"*", "a/b", false},
		{"**/app", "app", true}, {"**/app", "a/b/app", true}, {"**/app", "a/app2", false},
		{"a/**/b", "a/b", true}, {"a/**/b", "a/x/y/b", true}, {"a/**/b", "a/xb", false},
		{"a?c", "abc", true}, {"a?c", "a/c", false},
		{"v[0-9]/*", "v1/x", true}, {"v[!0-9]", "v1", false}, {"v[!0-9]", "va", true},
		{"{dev,prod}/*", "dev/x", true}, {"{dev,prod}/*", "test/x", false}, {"{dev/**,prod}", "dev/a/b", true},
		{`a\*b`, "a*b", true}, {`a\*b`, "axb", false},
		{"team.x/*", "teamyx/a", false},
		{"a**", "ab", true}, {"a**", "ab/c", false},
		{"/**", "a", false}, {"/**", "/a", true},
	} {
		p, err := Compile(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		if got := p.Match(c.name); got != c.want {
			t.Errorf("%s against %s: %v", c.pattern, c.name, got)
		}
	}
}

func TestBadPatterns(t *testing.T) {
	for _, text := range []string{"", "[", "a]", "{a", "a}", `a\`, "[]", "[!]", "[z-a]"} {
		if p, err := Compile(text); err == nil {
			t.Errorf("%q is accepted as %v", text, p)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("a/**/{b,c[0-9]}*", "a/b")
	f.Add("/**", "0")
	f.Fuzz(func(_ *testing.T, pattern, name string) {
		if p, err := Compile(pattern); err == nil {
			p.Match(name)
		}
	})
}
