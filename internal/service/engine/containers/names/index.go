// Package names finds containers: by full ID, by name and by a prefix of the ID. It also makes names for containers
// that were given none.
package names

import (
	"slices"
	"sort"
	"strings"
	"sync"

	"longshore/internal/core/fault"
)

// Index finds values by ID, name and ID prefix. Safe for concurrent use; look-ups never wait for a container.
type Index[T any] struct {
	mu    sync.RWMutex
	ids   []string          // sorted; of the values that were added
	byID  map[string]T      // values
	names map[string]string // name -> ID; also of containers that are being created
}

// NewIndex returns an empty index.
func NewIndex[T any]() *Index[T] {
	return &Index[T]{byID: map[string]T{}, names: map[string]string{}}
}

// Reserve takes a name for an ID, or answers the ID that has it. Reserving one's own name again succeeds.
func (x *Index[T]) Reserve(name, id string) (owner string, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if owner, taken := x.names[name]; taken && owner != id {
		return owner, false
	}
	x.names[name] = id
	return id, true
}

// Release frees a name if the ID holds it.
func (x *Index[T]) Release(name, id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.names[name] == id {
		delete(x.names, name)
	}
}

// Add makes a value visible.
func (x *Index[T]) Add(id string, v T) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, known := x.byID[id]; !known {
		i := sort.SearchStrings(x.ids, id)
		x.ids = slices.Insert(x.ids, i, id)
	}
	x.byID[id] = v
}

// Remove makes a value invisible and frees its name.
func (x *Index[T]) Remove(id, name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i, ok := slices.BinarySearch(x.ids, id); ok {
		x.ids = slices.Delete(x.ids, i, i+1)
	}
	delete(x.byID, id)
	if x.names[name] == id {
		delete(x.names, name)
	}
}

// Get finds by full ID.
func (x *Index[T]) Get(id string) (T, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	v, ok := x.byID[id]
	return v, ok
}

// Find finds by full ID, then by name, then by an unambiguous prefix of the ID, with docker's words when it does not.
func (x *Index[T]) Find(ref string) (T, error) {
	var none T
	if ref == "" {
		return none, fault.Invalid("invalid container name or ID: value is empty")
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if v, ok := x.byID[ref]; ok {
		return v, nil
	}
	if id, ok := x.names[strings.TrimPrefix(ref, "/")]; ok {
		if v, ok := x.byID[id]; ok {
			return v, nil
		}
	}
	i := sort.SearchStrings(x.ids, ref)
	if i == len(x.ids) || !strings.HasPrefix(x.ids[i], ref) {
		return none, fault.NotFound("No such container: %s", ref)
	}
	if i+1 < len(x.ids) && strings.HasPrefix(x.ids[i+1], ref) {
		return none, fault.Invalid("Multiple IDs found with provided prefix: %s", ref)
	}
	return x.byID[x.ids[i]], nil
}

// All lists the values in the order of their IDs.
func (x *Index[T]) All() []T {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]T, len(x.ids))
	for i, id := range x.ids {
		out[i] = x.byID[id]
	}
	return out
}
