package auth

import (
	"context"
)

// Return is the subject of somebody who proved its name by proof some time ago, for tokens and sessions that are kept
// elsewhere. Those who have gone are ErrCredentials. An empty name is the anonymous subject.
func (s *Service) Return(ctx context.Context, user string, proof Method) (*Subject, error) {
	if user == "" {
		return anonymous, nil
	}
	st := s.state.Load()
	admin, err := st.stillThere(ctx, user, proof)
	if err != nil {
		return nil, err
	}
	who := st.subject(user, Cookie, proof)
	who.Admin = admin
	return who, nil
}

// Administered says whether there are administrators at all: an admin policy, or accounts.
func (s *Service) Administered() bool {
	st := s.state.Load()
	return len(st.policy.admin.Users)+len(st.policy.admin.Groups) > 0 || st.cfg.Accounts != nil
}
