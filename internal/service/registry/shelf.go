package registry

import (
	"hash/maphash"
	"sync"
	"time"

	"longshore/internal/core/distribution"
)

// shelf remembers what the index said about a repository's names, within a bound of bytes. A nil shelf remembers
// nothing. It is never stale after a change was acknowledged: the changer forgets before it answers, and an answer of
// the index that was under way meanwhile is not put on the shelf.
type shelf[V any] struct {
	seed   maphash.Seed
	size   func(V) int
	bound  int // per board
	boards [32]board[V]
}

type board[V any] struct {
	mu    sync.RWMutex
	gen   uint64 // counts forgettings
	bytes int
	repos map[distribution.RepoName]map[string]V
}

func newShelf[V any](bound int, size func(V) int) *shelf[V] {
	s := &shelf[V]{seed: maphash.MakeSeed(), size: size, bound: bound / 32}
	for i := range s.boards {
		s.boards[i].repos = map[distribution.RepoName]map[string]V{}
	}
	return s
}

func (s *shelf[V]) board(repo distribution.RepoName) *board[V] {
	return &s.boards[maphash.String(s.seed, string(repo))%uint64(len(s.boards))]
}

// get looks a name up; gen is to be handed to put when the caller asks the index instead.
func (s *shelf[V]) get(repo distribution.RepoName, name string) (v V, ok bool, gen uint64) {
	if s == nil {
		return v, false, 0
	}
	b := s.board(repo)
	b.mu.RLock()
	defer b.mu.RUnlock()
	v, ok = b.repos[repo][name]
	return v, ok, b.gen
}

// put remembers v unless something was forgotten since gen.
func (s *shelf[V]) put(repo distribution.RepoName, name string, v V, gen uint64) {
	size := 0
	if s != nil {
		size = s.size(v) + len(repo) + len(name)
	}
	if s == nil || size > s.bound {
		return
	}
	b := s.board(repo)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gen != gen {
		return
	}
	names := b.repos[repo]
	if names == nil {
		names = map[string]V{}
		b.repos[repo] = names
	}
	if old, ok := names[name]; ok {
		b.bytes -= s.size(old) + len(repo) + len(name)
	}
	names[name] = v
	b.bytes += size
	if b.bytes > s.bound {
		s.shrink(b)
	}
}

// shrink throws away arbitrary names (the order of a map's walk) until a quarter is free. b.mu is held.
func (s *shelf[V]) shrink(b *board[V]) {
	for repo, names := range b.repos {
		for name, v := range names {
			if b.bytes <= s.bound*3/4 {
				return
			}
			b.bytes -= s.size(v) + len(repo) + len(name)
			delete(names, name)
		}
		if len(names) == 0 {
			delete(b.repos, repo)
		}
	}
}

// forget drops names of a repository; without names, all of them.
func (s *shelf[V]) forget(repo distribution.RepoName, names ...string) {
	if s == nil {
		return
	}
	b := s.board(repo)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gen++
	if len(names) == 0 {
		for name, v := range b.repos[repo] {
			b.bytes -= s.size(v) + len(repo) + len(name)
		}
		delete(b.repos, repo)
		return
	}
	for _, name := range names {
		if v, ok := b.repos[repo][name]; ok {
			b.bytes -= s.size(v) + len(repo) + len(name)
			delete(b.repos[repo], name)
		}
	}
}

// activity remembers when each repository was last pushed to, so that a push that takes longer than the grace period
// does not lose its first layers.
type activity struct {
	m sync.Map // distribution.RepoName -> time.Time
}

func (a *activity) note(repo distribution.RepoName, now time.Time) { a.m.Store(repo, now) }

func (a *activity) since(repo distribution.RepoName, t time.Time) bool {
	v, ok := a.m.Load(repo)
	return ok && v.(time.Time).After(t)
}

// prune forgets what is older than t.
func (a *activity) prune(t time.Time) {
	a.m.Range(func(k, v any) bool {
		if v.(time.Time).Before(t) {
			a.m.CompareAndDelete(k, v)
		}
		return true
	})
}
