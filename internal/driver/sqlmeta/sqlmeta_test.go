package sqlmeta_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/graph/graphtest"
	"longshore/internal/core/registryindex"
	"longshore/internal/core/registryindex/registryindextest"
	"longshore/internal/driver/sqlmeta"
	"longshore/internal/driver/sqlmeta/postgrestest"
)

func TestSQLite(t *testing.T) {
	registryindextest.Run(t, func(t *testing.T) registryindex.Index {
		x, err := sqlmeta.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "in dex?%.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		return x
	})
}

func TestPostgres(t *testing.T) {
	server := postgrestest.Start(t)
	n := 0
	registryindextest.Run(t, func(t *testing.T) registryindex.Index {
		n++
		name := fmt.Sprintf("registry%d", n)
		return openPostgres(t, server.Create(t, name))
	})
}

// TestPostgresInstancesMigrateTogether: several that start at once on an empty database all come up.
func TestPostgresInstancesMigrateTogether(t *testing.T) {
	server := postgrestest.Start(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			x, err := sqlmeta.OpenPostgres(context.Background(), server.DSN("postgres"))
			if err != nil {
				t.Error(err)
				return
			}
			x.Close()
		})
	}
	wg.Wait()
}

func openPostgres(t *testing.T, dsn string) *sqlmeta.Index {
	t.Helper()
	x, err := sqlmeta.OpenPostgres(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// TestNewerSchemaIsRefused: an older program must not write to what a newer one has made.
func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	x, err := sqlmeta.OpenSQLite(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	x.Close()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var version int
	if err := db.QueryRow("SELECT MAX(version) FROM schema_version").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO schema_version VALUES (" + strconv.Itoa(version+1) + ")"); err != nil {
		t.Fatal(err)
	}
	_, err = sqlmeta.OpenSQLite(context.Background(), path)
	if err == nil || !strings.Contains(err.Error(), "newer") {
		t.Fatalf("got %v", err)
	}
}

// TestReopen: what was acknowledged is there after the file was closed and opened.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	for i := range 3 {
		x, err := sqlmeta.OpenSQLite(context.Background(), path)
		if err != nil {
			t.Fatal(err)
		}
		_, bytes, err := x.Total(context.Background())
		if err != nil || bytes != int64(i) {
			t.Fatal(bytes, err)
		}
		b := registryindex.Blob{Digest: digest.FromString(fmt.Sprint(i)), Size: 1, Added: time.Now()}
		if err := x.Link(context.Background(), registryindex.Link{Repo: "r", Blob: b}); err != nil {
			t.Fatal(err)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func rigOf(x *sqlmeta.Index) graphtest.Rig { return graphtest.Rig{Index: x, Graph: x.Graph()} }

func TestGraphInSQLite(t *testing.T) {
	graphtest.Run(t, func(t *testing.T) graphtest.Rig {
		x, err := sqlmeta.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "index.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		return rigOf(x)
	})
}

func TestGraphInPostgres(t *testing.T) {
	server := postgrestest.Start(t)
	n := 0
	graphtest.Run(t, func(t *testing.T) graphtest.Rig {
		n++
		return rigOf(openPostgres(t, server.Create(t, fmt.Sprintf("graph%d", n))))
	})
}
