package sqlauth

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"longshore/internal/core/account"
	"longshore/internal/core/account/accounttest"
	"longshore/internal/core/credential"
	"longshore/internal/core/credential/credentialtest"
	"longshore/internal/driver/sqlmeta/postgrestest"
)

func openFile(t *testing.T, path string) *Store {
	t.Helper()
	s, err := OpenSQLite(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSQLite(t *testing.T) {
	credentialtest.Run(t, func(t *testing.T) credential.Store {
		return openFile(t, filepath.Join(t.TempDir(), "a ?#.db"))
	})
}

func TestAccountsInSQLite(t *testing.T) {
	accounttest.Run(t, func(t *testing.T) account.Store {
		return openFile(t, filepath.Join(t.TempDir(), "auth.db"))
	})
}

func TestPostgres(t *testing.T) {
	server := postgrestest.Start(t)
	n := 0
	accounttest.Run(t, func(t *testing.T) account.Store {
		n++
		s, err := OpenPostgres(context.Background(), server.Create(t, fmt.Sprintf("people%d", n)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
	credentialtest.Run(t, func(t *testing.T) credential.Store {
		n++
		dsn := server.Create(t, fmt.Sprintf("accounts%d", n))
		var wg sync.WaitGroup
		stores := make([]*Store, 4) // instances that start together
		for i := range stores {
			wg.Go(func() {
				s, err := OpenPostgres(context.Background(), dsn)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = s.Close() })
				stores[i] = s
			})
		}
		wg.Wait()
		if stores[0] == nil {
			t.FailNow()
		}
		return stores[0]
	})
}

func TestKeptOverRestarts(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "auth.db"), context.Background()
	first, err := OpenSQLite(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.AddKey(ctx, credential.Key{ID: "1", User: "alice", Hash: "h"}); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if k, err := openFile(t, path).KeyByHash(ctx, "h"); err != nil || k.User != "alice" {
		t.Errorf("%+v %v", k, err)
	}
}

func TestInstancesThatStartTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := OpenSQLite(context.Background(), path)
			if err != nil {
				t.Error(err)
				return
			}
			_ = s.Close()
		})
	}
	wg.Wait()
}

func TestANewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.db")
	s := openFile(t, path)
	if _, err := s.exec(context.Background(), `INSERT INTO auth_schema (version) VALUES (99)`); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSQLite(context.Background(), path); err == nil {
		t.Error("a newer schema is taken")
	}
}
