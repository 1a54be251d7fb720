package classic

import "sync"

// remembered is how many steps a Memory keeps.
const remembered = 1 << 16

// Memory knows the steps that earlier builds came to, by their IDs; the oldest half is forgotten when it is full. Safe for
// concurrent use; the nil Memory knows nothing.
type Memory struct {
	mu       sync.Mutex
	now, old map[string]struct{}
}

// seen tells whether the step was known, and remembers it.
func (m *Memory) seen(id string) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, now := m.now[id]
	_, old := m.old[id]
	if now {
		return true
	}
	if m.now == nil || len(m.now) >= remembered/2 {
		m.now, m.old = make(map[string]struct{}), m.now
	}
	m.now[id] = struct{}{}
	return old
}
