package groupcommit_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"longshore/internal/base/groupcommit"
)

// TestDo: every item is worked for once, in order of arrival, by one at a time.
func TestDo(t *testing.T) {
	const callers, each = 16, 500
	var working, rounds atomic.Int32
	var seen []*int
	q := groupcommit.New(func(waiting []*int) (int, func()) {
		if working.Add(1) != 1 {
			t.Error("two work at once")
		}
		defer working.Add(-1)
		rounds.Add(1)
		n := min(len(waiting), 5)
		seen = append(seen, waiting[:n]...)
		return n, func() {
			for _, item := range waiting[:n] {
				*item++
			}
		}
	})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				item := new(int)
				if q.Do(item); *item != 1 {
					t.Errorf("worked for %d times", *item)
				}
			}
		})
	}
	wg.Wait()
	if len(seen) != callers*each {
		t.Errorf("%d of %d", len(seen), callers*each)
	}
	t.Logf("%d rounds for %d calls", rounds.Load(), len(seen))
}

// TestNextIsLedMeanwhile: the end of one piece of work holds up nobody but those it is for.
func TestNextIsLedMeanwhile(t *testing.T) {
	first := make(chan struct{})
	q := groupcommit.New(func(waiting []chan struct{}) (int, func()) {
		return 1, func() { <-waiting[0] }
	})
	var wg sync.WaitGroup
	wg.Go(func() { q.Do(first) })
	open := make(chan struct{})
	close(open)
	q.Do(open) // does not wait for the first
	close(first)
	wg.Wait()
}
