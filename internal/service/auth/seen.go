package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

// seenTokens remembers tokens whose signature was good: a push sends the same one a hundred times. What else makes a
// token good (its end, its user) is looked at each time.
type seenTokens struct {
	mu     sync.RWMutex
	tokens map[[sha256.Size]byte]seenToken
}

type seenToken struct {
	who     Subject
	kid     string
	expires time.Time
}

// maxSeen bounds the memory; when it is full it begins anew.
const maxSeen = 2_000

func newSeenTokens() *seenTokens { return &seenTokens{tokens: map[[sha256.Size]byte]seenToken{}} }

// find gives a copy of the subject of a token that has not expired, and the key that signed it. A nil memory has none.
func (s *seenTokens) find(token string, now time.Time) (who *Subject, kid string, ok bool) {
	if s == nil {
		return nil, "", false
	}
	sum := sha256.Sum256([]byte(token))
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, ok := s.tokens[sum]
	if !ok || !now.Before(t.expires) {
		return nil, "", false
	}
	found := t.who
	return &found, t.kid, true
}

func (s *seenTokens) add(token string, who *Subject, kid string, expires time.Time) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) >= maxSeen {
		clear(s.tokens)
	}
	s.tokens[sha256.Sum256([]byte(token))] = seenToken{*who, kid, expires}
}
