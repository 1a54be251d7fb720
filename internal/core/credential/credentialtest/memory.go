package credentialtest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/credential"
)

// Memory is a store that forgets.
type Memory struct {
	mu       sync.Mutex
	keys     []credential.Key
	sessions map[string]credential.Session
}

// NewMemory makes an empty store.
func NewMemory() *Memory { return &Memory{sessions: map[string]credential.Session{}} }

func (m *Memory) find(f func(credential.Key) bool) int { return slices.IndexFunc(m.keys, f) }

// AddKey keeps a key.
func (m *Memory) AddKey(_ context.Context, k credential.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.find(func(x credential.Key) bool { return x.ID == k.ID || x.Hash == k.Hash }) >= 0 {
		return errdefs.ErrAlreadyExists
	}
	m.keys = append(m.keys, k)
	return nil
}

// KeyByHash finds a key.
func (m *Memory) KeyByHash(_ context.Context, hash string) (credential.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.find(func(k credential.Key) bool { return k.Hash == hash }); i >= 0 {
		return m.keys[i], nil
	}
	return credential.Key{}, errdefs.ErrNotFound
}

// KeysOf lists a user's keys.
func (m *Memory) KeysOf(_ context.Context, user string) ([]credential.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []credential.Key
	for _, k := range m.keys {
		if k.User == user {
			out = append(out, k)
		}
	}
	slices.SortStableFunc(out, func(a, b credential.Key) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// DeleteKey forgets a key.
func (m *Memory) DeleteKey(_ context.Context, user, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.find(func(k credential.Key) bool { return k.ID == id && k.User == user })
	if i < 0 {
		return errdefs.ErrNotFound
	}
	m.keys = slices.Delete(m.keys, i, i+1)
	return nil
}

// KeyUsed notes a use.
func (m *Memory) KeyUsed(_ context.Context, hash string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.find(func(k credential.Key) bool { return k.Hash == hash }); i >= 0 {
		m.keys[i].LastUsed = at
	}
	return nil
}

// AddSession keeps a session.
func (m *Memory) AddSession(_ context.Context, s credential.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[s.Hash] = s
	return nil
}

// SessionByHash finds a session.
func (m *Memory) SessionByHash(_ context.Context, hash string) (credential.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[hash]
	if !ok {
		return s, errdefs.ErrNotFound
	}
	return s, nil
}

// DeleteSession forgets a session.
func (m *Memory) DeleteSession(_ context.Context, hash string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, hash)
	return nil
}

// DeleteSessionsOf forgets a user's sessions.
func (m *Memory) DeleteSessionsOf(_ context.Context, user string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for h, s := range m.sessions {
		if s.User == user {
			delete(m.sessions, h)
		}
	}
	return nil
}

// SweepSessions forgets old sessions.
func (m *Memory) SweepSessions(_ context.Context, before time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for h, s := range m.sessions {
		if s.Expires.Before(before) {
			delete(m.sessions, h)
		}
	}
	return nil
}
