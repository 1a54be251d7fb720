package retention_test

import (
	"strings"
	"testing"
	"time"

	"longshore/internal/core/distribution"
	"longshore/internal/core/retention"
)

var now = time.Unix(1_700_000_000, 0)

// item is "name pushed-hours-ago pulled-hours-ago"; a pull of 0 is never.
func item(name string, pushed, pulled int) retention.Item {
	i := retention.Item{Name: name, Pushed: now.Add(-time.Duration(pushed) * time.Hour)}
	if pulled > 0 {
		i.Pulled = now.Add(-time.Duration(pulled) * time.Hour)
	}
	return i
}

func ruling(t *testing.T, p retention.Policy) retention.Ruling {
	t.Helper()
	p.Repositories = []string{"**"}
	e, err := retention.New(retention.Config{Delay: 24 * time.Hour, Policies: []retention.Policy{p}})
	if err != nil {
		t.Fatal(err)
	}
	r, ok := e.For("any/repo")
	if !ok {
		t.Fatal("no policy")
	}
	return r
}

func join(items []retention.Item) string {
	var names []string
	for _, i := range items {
		names = append(names, i.Name)
	}
	return strings.Join(names, " ")
}

func TestTags(t *testing.T) {
	tags := []retention.Item{item("v1", 50, 1), item("v2", 40, 0), item("v3", 30, 20), item("dev", 1, 0), item("prod", 90, 80)}
	cases := []struct {
		name  string
		rules []retention.Rule
		want  string
	}{
		{"no rules keep all", nil, ""},
		{"patterns only", []retention.Rule{{Patterns: []string{"^v", "prod"}}}, "dev"},
		{"unanchored as in zot", []retention.Rule{{Patterns: []string{"1", "e"}}}, "v2 v3 prod"},
		{"pushed within", []retention.Rule{{PushedWithin: 35 * time.Hour}}, "v1 v2 prod"},
		{"pulled within; never is not within", []retention.Rule{{PulledWithin: 35 * time.Hour}}, "v2 dev prod"},
		{"either", []retention.Rule{{PulledWithin: 2 * time.Hour, PushedWithin: 2 * time.Hour}}, "v2 v3 prod"},
		{"last pushed", []retention.Rule{{MostRecentlyPushedCount: 2}}, "v1 v2 prod"},
		{"last pulled", []retention.Rule{{MostRecentlyPulledCount: 2}}, "v2 dev prod"},
		{"counts are per rule", []retention.Rule{{Patterns: []string{"^v"}, MostRecentlyPushedCount: 1}, {MostRecentlyPushedCount: 1}}, "v1 v2 prod"},
		{"the first rule that matches decides", []retention.Rule{{Patterns: []string{"v1"}, PushedWithin: time.Hour}, {Patterns: []string{".*"}}}, "v1"},
	}
	for _, c := range cases {
		if got := join(ruling(t, retention.Policy{KeepTags: c.rules}).DropTags(tags, now)); got != c.want {
			t.Errorf("%s: drops %q, want %q", c.name, got, c.want)
		}
	}
}

func TestUntaggedAndReferrers(t *testing.T) {
	list := []retention.Item{item("a", 50, 0), item("b", 30, 2), item("c", 1, 0)}
	cases := []struct {
		name                string
		policy              retention.Policy
		untagged, referrers string
	}{
		{"neither", retention.Policy{}, "", ""},
		{"older than the delay", retention.Policy{DeleteUntagged: true, DeleteReferrers: true}, "a b", "a b"},
		{"kept by pull", retention.Policy{DeleteUntagged: true, KeepUntagged: &retention.Rule{PulledWithin: 3 * time.Hour}}, "a", ""},
		{"an empty rule keeps nothing", retention.Policy{DeleteUntagged: true, KeepUntagged: &retention.Rule{}}, "a b", ""},
		{"kept by count", retention.Policy{DeleteUntagged: true, KeepUntagged: &retention.Rule{MostRecentlyPushedCount: 2}}, "a", ""},
	}
	for _, c := range cases {
		r := ruling(t, c.policy)
		if got := join(r.DropUntagged(list, now)); got != c.untagged {
			t.Errorf("%s: untagged %q", c.name, got)
		}
		if got := join(r.DropReferrers(list, now)); got != c.referrers {
			t.Errorf("%s: referrers %q", c.name, got)
		}
	}
}

func TestFirstPolicyWins(t *testing.T) {
	e, err := retention.New(retention.Config{Policies: []retention.Policy{
		{Repositories: []string{"infra/*", "prod/*"}}, {Repositories: []string{"infra/**"}, DeleteUntagged: true}}})
	if err != nil {
		t.Fatal(err)
	}
	for repo, want := range map[distribution.RepoName]string{"infra/a": "", "infra/a/b": "x", "prod/a/b": "none"} {
		got := "none"
		if r, ok := e.For(repo); ok {
			got = join(r.DropUntagged([]retention.Item{item("x", 100, 0)}, now))
		}
		if got != want {
			t.Errorf("%s: %q, want %q", repo, got, want)
		}
	}
	for _, bad := range []retention.Policy{{Repositories: []string{"["}}, {KeepTags: []retention.Rule{{Patterns: []string{"("}}}}} {
		if _, err := retention.New(retention.Config{Policies: []retention.Policy{bad}}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestGlob(t *testing.T) {
	cases := []struct{ glob, match, not string }{
		{"**", "a a/b a/b/c", ""},
		{"*", "a ab", "a/b"},
		{"a/*", "a/b", "a a/b/c b/a"},
		{"a/**", "a a/b a/b/c", "ab b/a"},
		{"**/b", "b a/b a/c/b", "ab a/bc"},
		{"a/**/z", "a/z a/b/z a/b/c/z", "az a/zz"},
		{"a?c", "abc", "ac a/c"},
		{"{a,b/c}/d", "a/d b/c/d", "b/d"},
		{"[ab]x", "ax bx", "cx"},
		{"[!a]x", "bx", "ax /x"},
		{"[a-c]", "b", "d -"},
		{"a.b", "a.b", "axb"},
		{`\*`, "*", "a"},
	}
	for _, c := range cases {
		re, err := retention.Glob(c.glob)
		if err != nil {
			t.Errorf("%s: %v", c.glob, err)
			continue
		}
		for _, s := range strings.Fields(c.match) {
			if !re.MatchString(s) {
				t.Errorf("%s does not match %s", c.glob, s)
			}
		}
		for _, s := range strings.Fields(c.not) {
			if re.MatchString(s) {
				t.Errorf("%s matches %s", c.glob, s)
			}
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("{a,b}/**/[x-z]?*\\q", "a/b/c")
	f.Fuzz(func(t *testing.T, glob, name string) {
		if re, err := retention.Glob(glob); err == nil {
			re.MatchString(name)
		}
	})
}
