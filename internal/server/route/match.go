package route

import (
	"fmt"
	"net/url"
	"strings"
)

// Table matches requests to routes. Build it once with NewTable; it is then safe for concurrent use.
type Table struct {
	exact map[string][]*compiled // "METHOD first-segment/number" for patterns without a greedy part
	multi map[string][]*compiled // "METHOD first-segment" for patterns with one
	paths []*compiled
}

type compiled struct {
	route  *Route
	method string
	segs   []seg
	greedy int // index of the greedy segment, -1

	since, until Version
}

type seg struct {
	lit, name string
}

// NewTable compiles routes. Patterns that are not well formed panic at start, never at run time.
func NewTable(routes []Route) (*Table, error) {
	t := &Table{exact: map[string][]*compiled{}, multi: map[string][]*compiled{}}
	for i := range routes {
		c, err := compile(&routes[i])
		if err != nil {
			return nil, err
		}
		t.paths = append(t.paths, c)
		if c.greedy >= 0 {
			k := c.method + " " + c.segs[0].lit
			t.multi[k] = append(t.multi[k], c)
		} else {
			k := exactKey(c.method, c.segs[0].lit, len(c.segs))
			t.exact[k] = append(t.exact[k], c)
		}
	}
	return t, nil
}

func exactKey(method, first string, n int) string {
	return method + " " + first + "/" + string(rune('a'+n))
}

func compile(r *Route) (*compiled, error) {
	c := &compiled{route: r, method: r.Method, greedy: -1}
	var err error
	if r.Since != "" {
		if c.since, err = ParseVersion(r.Since); err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Key(), err)
		}
	}
	if r.Until != "" {
		if c.until, err = ParseVersion(r.Until); err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Key(), err)
		}
	}
	for i, p := range strings.Split(strings.TrimPrefix(r.Pattern, "/"), "/") {
		if !strings.HasPrefix(p, "{") {
			c.segs = append(c.segs, seg{lit: p})
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(p, "{"), "}")
		if strings.HasSuffix(name, "...") {
			if c.greedy >= 0 {
				return nil, fmt.Errorf("route %s: two greedy variables", r.Key())
			}
			c.greedy, name = i, strings.TrimSuffix(name, "...")
		}
		c.segs = append(c.segs, seg{name: name})
	}
	if c.segs[0].name != "" && c.greedy != 0 {
		return nil, fmt.Errorf("route %s: the first segment must be literal or greedy", r.Key())
	}
	return c, nil
}

// Match finds the route of a version for a method and an escaped path without version prefix. Literal segments win
// over variables, fixed patterns over greedy ones, and of patterns that fit alike the one that stands first in the table.
// Vars are unescaped.
func (t *Table) Match(method, path string, v Version) (Match, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	best, found := Match{}, false
	try := func(cs []*compiled) {
		for _, c := range cs {
			if !v.In(c.since, c.until) {
				continue
			}
			if m, ok := c.match(parts); ok && (!found || m.score > best.score) {
				best, found = m, true
			}
		}
	}
	try(t.exact[exactKey(method, parts[0], len(parts))])
	try(t.multi[method+" "+parts[0]])
	if !found {
		try(t.multi[method+" "])
	}
	return best, found
}

// Methods lists the methods that have a route for the path, for 405 answers.
func (t *Table) Methods(path string) []string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var out []string
	for _, c := range t.paths {
		if _, ok := c.match(parts); ok {
			out = append(out, c.method)
		}
	}
	return out
}

// Match is a route that fits a path.
type Match struct {
	Route *Route
	Vars  map[string]string
	score int
}

func (c *compiled) match(parts []string) (Match, bool) {
	n := len(c.segs)
	if len(parts) < n || (c.greedy < 0 && len(parts) != n) {
		return Match{}, false
	}
	extra := len(parts) - n
	m := Match{Route: c.route}
	for i, s := range c.segs {
		j := i
		if c.greedy >= 0 && i > c.greedy {
			j = i + extra
		}
		part := parts[j]
		if i == c.greedy {
			part = strings.Join(parts[i:i+extra+1], "/")
		} else if s.name == "" {
			if part != s.lit {
				return Match{}, false
			}
			m.score += 4
			continue
		} else {
			m.score += 2
		}
		v, err := url.PathUnescape(part)
		if err != nil || v == "" {
			return Match{}, false
		}
		if m.Vars == nil {
			m.Vars = make(map[string]string, 2)
		}
		m.Vars[s.name] = v
	}
	return m, true
}
