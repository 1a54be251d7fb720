package auth

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/containerd/errdefs"

	"longshore/internal/core/condition"
	"longshore/internal/core/glob"
)

// Action is what somebody wants to do with a repository, in zot's words.
type Action string

// The actions. DetectManifestCollision is no act but a guard: who has it cannot delete a manifest that several tags name.
const (
	Read                    Action = "read"
	Create                  Action = "create"
	Update                  Action = "update"
	Delete                  Action = "delete"
	DetectManifestCollision Action = "detectManifestCollision"
)

// AccessControl is zot's accessControl.
type AccessControl struct {
	// Repositories maps patterns to policies; the longest pattern that matches a repository counts, and no other.
	Repositories map[string]PolicyGroup
	// Admin is allowed whatever the repository's own policies say.
	Admin  AccessPolicy
	Groups map[string][]string
	// MetricsUsers may read the metrics; without any, whoever has a name. MetricsAnonymous lets everybody.
	MetricsUsers     []string
	MetricsAnonymous bool
}

// PolicyGroup holds the policies of the repositories that match a pattern.
type PolicyGroup struct {
	Policies []AccessPolicy
	// Default is for subjects with a name, Anonymous for those without.
	Default, Anonymous []Action
}

// AccessPolicy allows actions to users and groups while every condition holds.
type AccessPolicy struct {
	Users, Groups []string
	Actions       []Action
	Conditions    []Condition
}

// Condition is an expression, and what the client reads when it does not hold.
type Condition struct{ Expression, Message string }

// Query is one question: may it do Action in Repo?
type Query struct {
	Action Action
	Repo   string
	// Reference is the tag or digest of the request, empty when it has none.
	Reference string
	// Facts are what conditions may ask besides; nil has none of it.
	Facts *condition.Facts
	// admin: the subject is one; unconditional: conditions are taken as met.
	admin, unconditional bool
}

// Policy is a compiled AccessControl. The zero value and nil allow everything.
type Policy struct {
	enabled  bool
	literal  map[string]*rules
	patterns []patternRules // longest first
	admin    AccessPolicy
	groups   map[string][]string // by user
	metrics  struct {
		users     []string
		anonymous bool
	}
	anyAnonymous bool
	conditional  bool
}

type patternRules struct {
	pattern *glob.Pattern
	rules   *rules
}

type rules struct {
	policies           []compiledPolicy
	byDefault, unnamed []Action
}

type compiledPolicy struct {
	AccessPolicy
	conditions []*condition.Expr
}

// NewPolicy compiles. nil allows everything.
func NewPolicy(ac *AccessControl) (*Policy, error) {
	if ac == nil {
		return &Policy{}, nil
	}
	p := &Policy{enabled: true, literal: map[string]*rules{}, admin: ac.Admin, groups: map[string][]string{}}
	p.metrics.users, p.metrics.anonymous = ac.MetricsUsers, ac.MetricsAnonymous
	for name, users := range ac.Groups {
		for _, u := range users {
			p.groups[u] = append(p.groups[u], name)
		}
	}
	for u := range p.groups {
		slices.Sort(p.groups[u])
	}
	var errs []error
	for text, g := range ac.Repositories {
		pattern, err := glob.Compile(strings.Trim(text, "/"))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r, err := compileRules(text, g)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.anyAnonymous = p.anyAnonymous || len(g.Anonymous) > 0
		p.conditional = p.conditional || slices.ContainsFunc(g.Policies, func(a AccessPolicy) bool { return len(a.Conditions) > 0 })
		if pattern.Literal() {
			p.literal[pattern.String()] = r
		} else {
			p.patterns = append(p.patterns, patternRules{pattern, r})
		}
	}
	sort.Slice(p.patterns, func(i, j int) bool {
		a, b := p.patterns[i].pattern.String(), p.patterns[j].pattern.String()
		return len(a) > len(b) || len(a) == len(b) && a < b
	})
	return p, errors.Join(errs...)
}

func compileRules(pattern string, g PolicyGroup) (*rules, error) {
	r := &rules{byDefault: g.Default, unnamed: g.Anonymous}
	for _, p := range g.Policies {
		c := compiledPolicy{AccessPolicy: p}
		for _, cond := range p.Conditions {
			e, err := condition.Compile(cond.Expression)
			if err != nil {
				return nil, fmt.Errorf("repositories %q: condition %q: %w", pattern, cond.Expression, err)
			}
			c.conditions = append(c.conditions, e)
		}
		r.policies = append(r.policies, c)
	}
	return r, nil
}

// GroupsOf lists a user's groups.
func (p *Policy) GroupsOf(user string) []string { return p.groups[user] }

// find is the rules of the longest pattern that matches; nil when none does.
func (p *Policy) find(repo string) *rules {
	literal := p.literal[repo]
	for _, pr := range p.patterns {
		if literal != nil && len(pr.pattern.String()) <= len(repo) {
			return literal
		}
		if pr.pattern.Match(repo) {
			return pr.rules
		}
	}
	return literal
}

// isAdmin says whether the admin policy names the subject, or its account is an administrator's.
func (p *Policy) isAdmin(s *Subject) bool {
	return s.Name != "" && (s.Admin || slices.Contains(p.admin.Users, s.Name) || overlap(p.admin.Groups, s.Groups))
}

// Refused is a denial. Reason, when not empty, is a condition's message, for the client to read.
type Refused struct {
	Action Action
	Repo   string
	Reason string
}

func (r *Refused) Error() string {
	if r.Reason != "" {
		return fmt.Sprintf("%s %s: %s", r.Action, r.Repo, r.Reason)
	}
	return fmt.Sprintf("%s %s: requested access to the resource is denied", r.Action, r.Repo)
}

// Unwrap gives the class ErrPermissionDenied.
func (r *Refused) Unwrap() error { return errdefs.ErrPermissionDenied }

// allow decides by the policies alone.
func (p *Policy) allow(s *Subject, q Query) error {
	if !p.enabled {
		return nil
	}
	reason := ""
	q.admin = p.isAdmin(s)
	if r := p.find(q.Repo); r != nil {
		ok, why := r.allow(s, q)
		if ok {
			return nil
		}
		reason = why
	}
	if q.admin && slices.Contains(p.admin.Actions, q.Action) {
		return nil
	}
	return &Refused{Action: q.Action, Repo: q.Repo, Reason: reason}
}

func (r *rules) allow(s *Subject, q Query) (ok bool, reason string) {
	for i := range r.policies {
		p := &r.policies[i]
		if !slices.Contains(p.Actions, q.Action) || !p.names(s) {
			continue
		}
		failed := p.unmet(s, q)
		if failed < 0 {
			return true, ""
		}
		if reason == "" {
			reason = p.Conditions[failed].Message
		}
	}
	if s.Name != "" {
		return slices.Contains(r.byDefault, q.Action), reason
	}
	return slices.Contains(r.unnamed, q.Action), reason
}

func (p *compiledPolicy) names(s *Subject) bool {
	return s.Name != "" && (slices.Contains(p.Users, s.Name) || overlap(p.Groups, s.Groups))
}

// unmet is the index of the first condition that does not hold, -1 when all do. A condition that cannot be computed
// does not hold.
func (p *compiledPolicy) unmet(s *Subject, q Query) int {
	if len(p.conditions) == 0 || q.unconditional {
		return -1
	}
	f := condition.Facts{}
	if q.Facts != nil {
		f = *q.Facts
	}
	f.Action, f.Repository, f.Reference = string(q.Action), q.Repo, q.Reference
	f.User, f.Groups, f.Admin = s.Name, s.Groups, q.admin
	for i, e := range p.conditions {
		if ok, err := e.Eval(&f); err != nil || !ok {
			return i
		}
	}
	return -1
}

func overlap(a, b []string) bool {
	for _, x := range a {
		if slices.Contains(b, x) {
			return true
		}
	}
	return false
}
