package auth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Authorize says whether a subject may do something in a repository: nil, or an error of class ErrPermissionDenied
// (*Refused) for those who proved something, or ErrUnauthenticated for those who did not.
func (s *Service) Authorize(who *Subject, q Query) error {
	err := s.decide(who, q)
	if err != nil && who.IsAnonymous() && s.Required() {
		return fmt.Errorf("%w: %w", errdefs.ErrUnauthenticated, err)
	}
	return err
}

func (s *Service) decide(who *Subject, q Query) error {
	st := s.state.Load()
	if who.Method == Token {
		if err := granted(who, q); err != nil || !who.Own {
			return err
		}
	}
	if !scoped(who.Scopes, q) {
		return &Refused{Action: q.Action, Repo: q.Repo, Reason: "the API key's scopes do not cover it"}
	}
	if !st.policy.enabled && who.IsAnonymous() && st.required() {
		return &Refused{Action: q.Action, Repo: q.Repo}
	}
	return st.policy.allow(who, q)
}

// Has says whether a subject has a behaviour such as DetectManifestCollision; those are had only where a policy says so.
func (s *Service) Has(who *Subject, q Query) bool {
	st := s.state.Load()
	return st.policy.enabled && !who.foreign() && st.policy.allow(who, q) == nil
}

// Readable is a predicate for lists: the repositories that a subject may read. nil means all.
func (s *Service) Readable(who *Subject, q Query) func(repo string) bool {
	st := s.state.Load()
	if who.Method != Token && who.Scopes == nil && !st.policy.enabled && !(who.IsAnonymous() && st.required()) {
		return nil
	}
	q.Action, q.Reference = Read, ""
	return func(repo string) bool {
		q := q
		q.Repo = repo
		return s.decide(who, q) == nil
	}
}

// Catalogue says whether a subject may ask for the list of repositories, and which of them it sees (nil means all). A
// token that names the catalogue shows what its subject may read when it is one of ours, and everything when it is not.
func (s *Service) Catalogue(who *Subject, q Query) (may func(repo string) bool, err error) {
	if err := s.Enter(who); err != nil {
		return nil, err
	}
	named := slices.ContainsFunc(who.Grants, func(g Grant) bool { return g.Type == "registry" && g.Name == "catalog" })
	switch {
	case who.Own && !named:
		return nil, &InsufficientScope{Refused: Refused{Action: Read, Repo: "catalog"}}
	case who.Own:
		bare := *who
		bare.Grants, bare.Own, bare.Method = nil, false, Password
		if who.Name == "" {
			bare.Method = Anonymous
		}
		return s.Readable(&bare, q), nil
	case named:
		return nil, nil
	}
	return s.Readable(who, q), nil
}

// Allowed is what a subject may do of what it asks for, in the words of token servers: what a token of ours is to say.
// Conditions of policies are taken as met, because they are asked again with each request.
func (s *Service) Allowed(who *Subject, asked Grant) []string {
	st := s.state.Load()
	kind, _, _ := strings.Cut(asked.Type, "(")
	if kind == "registry" && asked.Name == "catalog" {
		if who.Scopes == nil && (!who.IsAnonymous() || !st.required() || st.policy.anyAnonymous) {
			return intersect(asked.Actions, []string{"*"})
		}
		return nil
	}
	if kind != "repository" || who.Method == Token {
		return nil
	}
	var have []string
	for _, a := range []Action{Read, Create, Update, Delete} {
		if word := TokenAction(a); s.possible(st, who, Query{Action: a, Repo: asked.Name}) && !slices.Contains(have, word) {
			have = append(have, word)
		}
	}
	if len(have) == 3 {
		have = append(have, "*")
	} else if slices.Contains(asked.Actions, "*") {
		return have // as much of everything as there is
	}
	return intersect(asked.Actions, have)
}

func intersect(asked, have []string) []string {
	var out []string
	for _, a := range asked {
		if slices.Contains(have, a) && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// possible is decide for the case that all conditions hold.
func (s *Service) possible(st *state, who *Subject, q Query) bool {
	if !scoped(who.Scopes, q) || !st.policy.enabled && who.IsAnonymous() && st.required() {
		return false
	}
	q.unconditional = true
	return st.policy.allow(who, q) == nil
}

// Enter says whether a subject may use the registry at all, that is GET /v2/: anonymous subjects may where nobody needs
// a name or where some repository is open to them.
func (s *Service) Enter(who *Subject) error {
	st := s.state.Load()
	if who.IsAnonymous() && st.required() && !st.policy.anyAnonymous {
		return fmt.Errorf("log in: %w", errdefs.ErrUnauthenticated)
	}
	return nil
}

// Ping is Enter for GET /v2/. Where there are tokens of ours even those who may come in without a name are sent for one:
// clients learn only there that there are tokens, and never ask again.
func (s *Service) Ping(who *Subject) error {
	if who.Method == Anonymous && s.state.Load().ownTokens() {
		return fmt.Errorf("get a token: %w", errdefs.ErrUnauthenticated)
	}
	return s.Enter(who)
}

// ReadMetrics says whether a subject may read the metrics.
func (s *Service) ReadMetrics(who *Subject) error {
	st := s.state.Load()
	m := &st.policy.metrics
	switch {
	case m.anonymous, !st.required():
		return nil
	case who.IsAnonymous():
		return fmt.Errorf("metrics: %w", errdefs.ErrUnauthenticated)
	case len(m.users) == 0:
		return nil
	}
	for _, u := range m.users {
		if u == who.Name && who.Scopes == nil {
			return nil
		}
	}
	return &Refused{Action: Read, Repo: "metrics"}
}

// Administer says whether a subject may look into the process (profiles): it must have a name, no scopes, and be an
// admin where access control is configured.
func (s *Service) Administer(who *Subject) error {
	st := s.state.Load()
	switch {
	case who.IsAnonymous() && st.required():
		return fmt.Errorf("administration: %w", errdefs.ErrUnauthenticated)
	case who.IsAnonymous(), who.Scopes != nil, who.Method == Token:
		return &Refused{Action: Read, Repo: "administration"}
	case st.policy.enabled && !st.policy.isAdmin(who):
		return &Refused{Action: Read, Repo: "administration"}
	}
	return nil
}

// IsAdmin says whether the admin policy names a subject.
func (s *Service) IsAdmin(who *Subject) bool { return s.state.Load().policy.isAdmin(who) }

// Conditional says whether some policy has conditions: queries need Facts only then.
func (s *Service) Conditional() bool { return s.state.Load().policy.conditional }

// TellsUpdate says whether create and update may be answered differently for a subject; else nobody needs to find out
// which of them a push is.
func (s *Service) TellsUpdate(who *Subject) bool {
	return !who.foreign() && (who.Scopes != nil || s.state.Load().policy.enabled)
}
