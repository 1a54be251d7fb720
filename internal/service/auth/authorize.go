package auth

import (
	"fmt"

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
		return granted(who, q)
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
	return st.policy.enabled && who.Method != Token && st.policy.allow(who, q) == nil
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

// Enter says whether a subject may use the registry at all, that is GET /v2/: anonymous subjects may where nobody needs
// a name or where some repository is open to them.
func (s *Service) Enter(who *Subject) error {
	st := s.state.Load()
	if who.IsAnonymous() && st.required() && !st.policy.anyAnonymous {
		return fmt.Errorf("log in: %w", errdefs.ErrUnauthenticated)
	}
	return nil
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
	return who.Method != Token && (who.Scopes != nil || s.state.Load().policy.enabled)
}
