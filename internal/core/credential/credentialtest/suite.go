// Package credentialtest is the suite that every credential.Store passes, and a store in memory for tests.
package credentialtest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/credential"
)

// Run checks the contract. open gives an empty store.
func Run(t *testing.T, open func(t *testing.T) credential.Store) {
	t.Run("keys", func(t *testing.T) { keys(t, open(t)) })
	t.Run("sessions", func(t *testing.T) { sessions(t, open(t)) })
	t.Run("concurrency", func(t *testing.T) { concurrency(t, open(t)) })
}

var at = time.Date(2026, 1, 2, 3, 4, 5, 678000000, time.UTC)

func sample(id, user string) credential.Key {
	return credential.Key{ID: id, User: user, Hash: "hash-" + id, Label: "label '\"; --", Scopes: []string{"a", "b/**"},
		Proof: credential.Password, CreatorUA: "curl", Created: at, Expires: at.AddDate(900, 0, 0)}
}

func keys(t *testing.T, s credential.Store) {
	ctx := context.Background()
	first, second := sample("1", "alice"), sample("2", "alice")
	second.Scopes, second.Expires, second.Created = nil, time.Time{}, at.Add(time.Second)
	for _, k := range []credential.Key{second, first, sample("3", "bob")} {
		must(t, s.AddKey(ctx, k))
	}
	if err := s.AddKey(ctx, first); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("the same key again: %v", err)
	}
	got, err := s.KeyByHash(ctx, "hash-1")
	if err != nil || !same(got, first) {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := s.KeyByHash(ctx, "nothing"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("no such hash: %v", err)
	}
	must(t, s.KeyUsed(ctx, "hash-2", at.Add(time.Minute)))
	must(t, s.KeyUsed(ctx, "nothing", at))
	second.LastUsed = at.Add(time.Minute)
	list, err := s.KeysOf(ctx, "alice")
	if err != nil || len(list) != 2 || !same(list[0], first) || !same(list[1], second) {
		t.Errorf("%+v %v", list, err)
	}
	if err := s.DeleteKey(ctx, "alice", "3"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("another's key: %v", err)
	}
	must(t, s.DeleteKey(ctx, "alice", "1"))
	if _, err := s.KeyByHash(ctx, "hash-1"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a deleted key: %v", err)
	}
}

func same(a, b credential.Key) bool {
	return a.ID == b.ID && a.User == b.User && a.Hash == b.Hash && a.Label == b.Label && slices.Equal(a.Scopes, b.Scopes) &&
		(a.Scopes == nil) == (b.Scopes == nil) && a.Proof == b.Proof && a.CreatorUA == b.CreatorUA &&
		a.Created.Equal(b.Created) && a.Expires.Equal(b.Expires) && a.LastUsed.Equal(b.LastUsed)
}

func sessions(t *testing.T, s credential.Store) {
	ctx := context.Background()
	old := credential.Session{Hash: "o", User: "alice", Proof: credential.Password, Expires: at}
	young := credential.Session{Hash: "y", User: "bob", Proof: credential.Certificate, Expires: at.Add(time.Hour)}
	must(t, s.AddSession(ctx, old))
	must(t, s.AddSession(ctx, young))
	got, err := s.SessionByHash(ctx, "y")
	if err != nil || got.User != "bob" || got.Proof != credential.Certificate || !got.Expires.Equal(young.Expires) {
		t.Errorf("%+v %v", got, err)
	}
	must(t, s.SweepSessions(ctx, at.Add(time.Minute)))
	if _, err := s.SessionByHash(ctx, "o"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("an old session: %v", err)
	}
	must(t, s.AddSession(ctx, credential.Session{Hash: "a1", User: "ann"}))
	must(t, s.AddSession(ctx, credential.Session{Hash: "a2", User: "ann"}))
	must(t, s.DeleteSessionsOf(ctx, "ann"))
	must(t, s.DeleteSessionsOf(ctx, "ann"))
	for _, hash := range []string{"a1", "a2"} {
		if _, err := s.SessionByHash(ctx, hash); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("a session of a user who was thrown out: %v", err)
		}
	}
	if _, err := s.SessionByHash(ctx, "y"); err != nil {
		t.Errorf("somebody else's session: %v", err)
	}
	must(t, s.DeleteSession(ctx, "y"))
	must(t, s.DeleteSession(ctx, "y"))
	if _, err := s.SessionByHash(ctx, "y"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a deleted session: %v", err)
	}
}

func concurrency(t *testing.T, s credential.Store) {
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 5 {
				if err := s.AddKey(ctx, sample(strconv.Itoa(i*100+j), "alice")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if list, err := s.KeysOf(ctx, "alice"); err != nil || len(list) != 80 {
		t.Errorf("%d keys, %v", len(list), err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
