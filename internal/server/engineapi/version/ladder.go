// Package version is the ladder of engine API versions: one file per version says all that this version changed against
// the one before, with its source document. A request of an old client climbs: every Lift of the rungs above its
// version, oldest first. A response descends: every Lower, newest first. Handlers know the newest version only.
//
// To add a version, write vN_M.go with a function that answers its Rung and name it in rungs().
package version

import (
	"fmt"
	"strings"

	"longshore/internal/base/jsontree"
	"longshore/internal/server/route"
)

// Rung is what one version changed.
type Rung struct {
	// Version that introduced the changes: "1.41".
	Version string
	// Source names the document that says so.
	Source string
	// Changes apply to clients below Version.
	Changes []Change
	// Dialect sets the behaviours of clients below Version; may be nil.
	Dialect func(*route.Dialect)
}

// Change is one change of some operations. Only the functions that it needs are set.
type Change struct {
	// Routes are keys as in route tables, "GET /containers/{id}/json" ("..." of greedy variables left out).
	Routes []string
	// What it is, for the generated table of changes.
	What string
	// Lift rewrites a request of the version below into this version's terms.
	Lift func(*Request) error
	// Lower rewrites a JSON body of this version into the terms of the version below.
	Lower func(*View)
	// LowerEach is Lower for every item of a list or object of a stream of lines.
	LowerEach func(*View)
	// Omit tells which items or objects, in this version's terms, the version below did not send.
	Omit func(*View) bool
	// Reply replaces the whole response where its kind, status or headers differ.
	Reply func(*route.Request, route.Response) (route.Response, error)
	// Error changes the class or words of an error.
	Error func(*route.Request, error) error
}

// View is a response body on its way down.
type View struct {
	// Body is the document, or one item of it; edit it in place. It and the strings that it tells are not to be kept.
	Body *jsontree.Value
	// Typed is the handler's own value, for what the newest shape no longer tells. nil for items.
	Typed any
	// Request is the client's request.
	Request *route.Request
}

// Ladder composes rungs. Immutable and safe for concurrent use.
type Ladder struct {
	rungs    []Rung             // oldest first
	versions []route.Version    // of rungs
	steps    map[string][]*Step // per route key: the step of clients below rungs[i]
	dialects []route.Dialect    // of clients below rungs[i]
}

// New composes the ladder of all versions.
func New() (*Ladder, error) { return Compose(rungs()) }

// Compose composes any rungs, oldest first.
func Compose(rungs []Rung) (*Ladder, error) {
	l := &Ladder{rungs: rungs, steps: map[string][]*Step{}, dialects: make([]route.Dialect, len(rungs))}
	for i, r := range rungs {
		v, err := route.ParseVersion(r.Version)
		if err != nil {
			return nil, fmt.Errorf("rung %d: %w", i, err)
		}
		if i > 0 && v <= l.versions[i-1] {
			return nil, fmt.Errorf("rung %s stands out of order", r.Version)
		}
		l.versions = append(l.versions, v)
	}
	for i := len(rungs) - 1; i >= 0; i-- {
		if i+1 < len(rungs) {
			l.dialects[i] = l.dialects[i+1]
		}
		if rungs[i].Dialect != nil {
			rungs[i].Dialect(&l.dialects[i])
		}
		for c := range rungs[i].Changes {
			l.enter(i, &rungs[i].Changes[c])
		}
	}
	l.fill()
	return l, nil
}

// enter notes a change in the step of clients just below rung i.
func (l *Ladder) enter(i int, c *Change) {
	for _, key := range c.Routes {
		if l.steps[key] == nil {
			l.steps[key] = make([]*Step, len(l.rungs))
		}
		if l.steps[key][i] == nil {
			l.steps[key][i] = &Step{}
		}
		l.steps[key][i].changes = append(l.steps[key][i].changes, c)
	}
}

// fill gives every step the changes of the rungs above: own lifts run first, own lowers last.
func (l *Ladder) fill() {
	for _, steps := range l.steps {
		var above *Step
		for i := len(steps) - 1; i >= 0; i-- {
			if steps[i] == nil {
				steps[i] = above
				continue
			}
			if above != nil {
				steps[i].changes = append(steps[i].changes, above.changes...)
			}
			above = steps[i]
		}
		for i, s := range steps {
			if s != nil && (i == 0 || steps[i-1] != s) {
				s.settle()
			}
		}
	}
}

// Key is a route's key on the ladder. The first name of the container list stands where the list does.
func Key(routeKey string) string {
	if routeKey == "GET /containers/ps" {
		return list
	}
	return strings.ReplaceAll(routeKey, "...}", "}")
}

// Step answers what stands between a version and the newest for a route; nil where nothing does.
func (l *Ladder) Step(routeKey string, v route.Version) (*Step, route.Dialect) {
	i := l.below(v)
	if i == len(l.rungs) {
		return nil, route.Dialect{}
	}
	steps := l.steps[Key(routeKey)]
	if steps == nil {
		return nil, l.dialects[i]
	}
	return steps[i], l.dialects[i]
}

// below is the index of the first rung above v.
func (l *Ladder) below(v route.Version) int {
	lo, hi := 0, len(l.versions)
	for lo < hi {
		if mid := (lo + hi) / 2; l.versions[mid] > v {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
