package transfer

import (
	"context"
	"sync"

	"longshore/internal/driver/registryclient"
)

// sources are the ways to a repository: mirrors, then the registry itself.
type sources struct {
	list []*source
}

// source is a registry that may have what is looked for.
type source struct {
	*registryclient.Repository

	mu    sync.Mutex // guards what follows, and the first contact
	state contact
	err   error // why it is down
}

type contact int

const (
	unknown contact = iota
	up
	down
)

func newSources(repos []*registryclient.Repository) *sources {
	s := &sources{}
	for _, r := range repos {
		s.list = append(s.list, &source{Repository: r})
	}
	return s
}

// Close ends the conversations.
func (s *sources) Close() {
	for _, r := range s.list {
		r.Close()
	}
}

// connect makes the first contact. What did not answer is not asked again, unless it is the last resort.
func (s *source) connect(ctx context.Context, last bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == up {
		return nil
	}
	if s.state == down && !last {
		return s.err
	}
	if err := s.Ping(ctx); err != nil {
		if ctx.Err() == nil {
			s.state, s.err = down, err
		}
		return err
	}
	s.state = up
	return nil
}

// each asks one source after the other until one has what is looked for; the error is the last one's. stay tells after a
// failure that the same source is to be asked again later, before the others.
func (s *sources) each(ctx context.Context, usable func(*source) bool, do func(*source) error, stay func(error) bool) error {
	var err error
	for i, src := range s.list {
		if !usable(src) {
			continue
		}
		if err = src.connect(ctx, i == len(s.list)-1); err == nil {
			err = do(src)
		}
		if err == nil || ctx.Err() != nil || stay != nil && stay(err) {
			return err
		}
	}
	return err
}

func holds(s *source) bool    { return s.Holds() }
func resolves(s *source) bool { return s.Resolves() }
