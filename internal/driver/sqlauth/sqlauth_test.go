package sqlauth

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"longshore/internal/core/credential"
	"longshore/internal/core/credential/credentialtest"
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

// TestPostgres needs an empty database, named by a URL.
func TestPostgres(t *testing.T) {
	dsn := os.Getenv("LONGSHORE_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("LONGSHORE_TEST_POSTGRES names no PostgreSQL database")
	}
	credentialtest.Run(t, func(t *testing.T) credential.Store {
		s, err := OpenPostgres(context.Background(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.exec(context.Background(), `DELETE FROM api_keys`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.exec(context.Background(), `DELETE FROM sessions`); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
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
