// Package statetest is the conformance suite of state.Store: every implementation runs it.
//
//	func TestConformance(t *testing.T) { statetest.Run(t, func(t *testing.T) state.Store { … }) }
package statetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"longshore/internal/core/state"
)

// Run checks the stores that open makes; each subtest gets an empty one. With reopen, which returns the same store as
// a new process would find it, contents are checked again after it; it may be nil for stores that live in memory.
func Run(t *testing.T, open func(t *testing.T) state.Store, reopen func(t *testing.T, s state.Store) state.Store) {
	for name, test := range map[string]func(*testing.T, state.Store){
		"documents":  documents,
		"buckets":    buckets,
		"order":      order,
		"each":       each,
		"copies":     copies,
		"names":      names,
		"cancelled":  cancelled,
		"concurrent": concurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
	if reopen != nil {
		t.Run("reopen", func(t *testing.T) { reopened(t, open(t), reopen) })
	}
}

var both = []state.Durability{state.Durable, state.Volatile}

func documents(t *testing.T, s state.Store) {
	ctx := t.Context()
	for _, d := range both {
		if _, err := s.Get(ctx, "b", "k"); !errors.Is(err, errdefs.ErrNotFound) {
			t.Fatalf("missing key: %v", err)
		}
		for _, doc := range []string{"one", "", "two"} {
			must(t, s.Put(ctx, "b", "k", []byte(doc), d))
			want(t, s, "b", "k", doc)
		}
		must(t, s.Delete(ctx, "b", "k", d))
		must(t, s.Delete(ctx, "b", "k", d))
		must(t, s.Delete(ctx, "never", "k", d))
	}
	if _, err := s.Get(ctx, "b", "k"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("deleted key: %v", err)
	}
}

func buckets(t *testing.T, s state.Store) {
	ctx := t.Context()
	for _, d := range both {
		must(t, s.Put(ctx, "a", "k", []byte("a"), d))
		must(t, s.Put(ctx, "b", "k", []byte("b"), d))
		must(t, s.Delete(ctx, "a", "k", d))
		want(t, s, "b", "k", "b")
	}
}

// order: the last write wins, whatever the durability of it and of the ones before.
func order(t *testing.T, s state.Store) {
	ctx := t.Context()
	for i := range 16 {
		key := fmt.Sprint("k", i)
		for step := range 4 {
			must(t, s.Put(ctx, "b", key, fmt.Appendf(nil, "%d", step), state.Durability(i>>step&1 == 1)))
		}
		want(t, s, "b", key, "3")
	}
	for i := range 4 {
		key := fmt.Sprint("d", i)
		must(t, s.Put(ctx, "b", key, []byte("x"), state.Durability(i&1 == 1)))
		must(t, s.Delete(ctx, "b", key, state.Durability(i&2 == 2)))
		if _, err := s.Get(ctx, "b", key); !errors.Is(err, errdefs.ErrNotFound) {
			t.Fatalf("%s: %v", key, err)
		}
	}
}

func each(t *testing.T, s state.Store) {
	ctx := t.Context()
	must(t, s.Each(ctx, "none", func(string, []byte) error { return errors.New("called for an empty bucket") }))
	for i, k := range []string{"c", "a", "d", "b", "gone"} {
		must(t, s.Put(ctx, "b", k, []byte("doc "+k), state.Durability(i%2 == 0)))
	}
	must(t, s.Delete(ctx, "b", "gone", state.Volatile))
	var seen string
	must(t, s.Each(ctx, "b", func(k string, doc []byte) error {
		if string(doc) != "doc "+k {
			t.Errorf("%s: %q", k, doc)
		}
		seen += k
		// Writing while iterating is allowed.
		return s.Put(ctx, "b", k+"-copy", doc, state.Durable)
	}))
	if seen != "abcd" {
		t.Fatalf("order %q", seen)
	}
	all, err := state.ReadAll(ctx, s, "b", func(k string, doc []byte) string { return k + "=" + string(doc) })
	if want := "[a=doc a a-copy=doc a b=doc b b-copy=doc b c=doc c c-copy=doc c d=doc d d-copy=doc d]"; err != nil || fmt.Sprint(all) != want {
		t.Fatalf("all: %v %v", all, err)
	}
	if all, err := state.ReadAll(ctx, s, "none", func(string, []byte) bool { return true }); err != nil || len(all) != 0 {
		t.Fatalf("all of an empty bucket: %v %v", all, err)
	}
	stop, n := errors.New("stop"), 0
	if err := s.Each(ctx, "b", func(string, []byte) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Fatalf("%v after %d", err, n)
	}
}

// copies: neither side sees what the other does to its bytes.
func copies(t *testing.T, s state.Store) {
	ctx := t.Context()
	for _, d := range both {
		doc := []byte("abc")
		must(t, s.Put(ctx, "b", "k", doc, d))
		doc[0] = 'x'
		got, err := s.Get(ctx, "b", "k")
		must(t, err)
		got[1] = 'x'
		want(t, s, "b", "k", "abc")
		must(t, s.Each(ctx, "b", func(_ string, doc []byte) error { doc[2] = 'x'; return nil }))
		want(t, s, "b", "k", "abc")
	}
}

func names(t *testing.T, s state.Store) {
	ctx := t.Context()
	for _, d := range both {
		if s.Put(ctx, "", "k", nil, d) == nil || s.Put(ctx, "b", "", nil, d) == nil || s.Delete(ctx, "", "k", d) == nil {
			t.Error("empty names must be refused")
		}
		for _, odd := range []string{"/a/b", "ü \x00\xff", "m", "t", "b:x"} {
			must(t, s.Put(ctx, odd, odd, []byte(odd), d))
			want(t, s, odd, odd, odd)
		}
	}
}

func cancelled(t *testing.T, s state.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, d := range both {
		if err := s.Put(ctx, "b", "k", nil, d); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	if _, err := s.Get(t.Context(), "b", "k"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a refused write happened: %v", err)
	}
}

func concurrent(t *testing.T, s state.Store) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			key := fmt.Sprint("w", w)
			for i := range 40 {
				doc := fmt.Appendf(nil, "%d-%d", w, i)
				if err := s.Put(ctx, "b", key, doc, state.Durability((w+i)%3 == 0)); err != nil {
					t.Error(err)
					return
				}
				if got, err := s.Get(ctx, "b", key); err != nil || !bytes.Equal(got, doc) {
					t.Errorf("own write: %q, want %q: %v", got, doc, err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if err := s.Each(ctx, "b", func(string, []byte) error { return nil }); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	for w := range 16 {
		want(t, s, "b", fmt.Sprint("w", w), fmt.Sprintf("%d-39", w))
	}
}

func reopened(t *testing.T, s state.Store, reopen func(*testing.T, state.Store) state.Store) {
	ctx := t.Context()
	content := map[string]string{}
	for round := range 4 {
		for i := range 60 {
			key, d := fmt.Sprint("k", i%20), state.Durability((i*7+round)%3 == 0)
			if (i+round)%5 == 0 {
				must(t, s.Delete(ctx, "b", key, d))
				delete(content, key)
				continue
			}
			content[key] = fmt.Sprintf("%d %d", round, i)
			must(t, s.Put(ctx, "b", key, []byte(content[key]), d))
		}
		s = reopen(t, s)
		found := map[string]string{}
		must(t, s.Each(ctx, "b", func(k string, doc []byte) error { found[k] = string(doc); return nil }))
		if fmt.Sprint(found) != fmt.Sprint(content) {
			t.Fatalf("round %d: found %v, want %v", round, found, content)
		}
	}
}

func want(t *testing.T, s state.Store, bucket, key, doc string) {
	t.Helper()
	got, err := s.Get(t.Context(), bucket, key)
	if err != nil || string(got) != doc {
		t.Fatalf("%s/%s: %q, want %q: %v", bucket, key, got, doc, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
