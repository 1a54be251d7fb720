package sqlmeta_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/registryindex"
	"longshore/internal/core/registryindex/registryindextest"
	"longshore/internal/driver/sqlmeta"
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
	dsn := startPostgres(t)
	n := 0
	registryindextest.Run(t, func(t *testing.T) registryindex.Index {
		n++
		name := fmt.Sprintf("registry%d", n)
		admin, err := sql.Open("pgx", dsn("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		defer admin.Close()
		// A linguistic collation as the database's default: the order must not come from it.
		if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
			t.Fatal(err)
		}
		return openPostgres(t, dsn(name))
	})
}

// TestPostgresInstancesMigrateTogether: several that start at once on an empty database all come up.
func TestPostgresInstancesMigrateTogether(t *testing.T) {
	dsn := startPostgres(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			x, err := sqlmeta.OpenPostgres(context.Background(), dsn("postgres"))
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

// startPostgres runs a cluster of its own on a unix socket until the test ends; dsn makes the address of a database.
func startPostgres(t *testing.T) func(db string) string {
	t.Helper()
	bin := postgresBin()
	if bin == "" {
		t.Skip("PostgreSQL is not installed (Debian: postgresql)")
	}
	dir, err := os.MkdirTemp("/tmp", "lspg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	attr := unprivileged(t, dir)
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, attr
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := run("initdb", "-D", data, "-U", "registry", "-A", "trust", "--no-sync", "--locale=C.UTF-8").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	server := run("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=150")
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT) // fast shutdown
		_ = server.Wait()
	})
	dsn := func(db string) string { return fmt.Sprintf("host=%s user=registry dbname=%s", dir, db) }
	waitFor(t, dsn("postgres"), filepath.Join(dir, "log"))
	return dsn
}

func waitFor(t *testing.T, dsn, log string) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for db.PingContext(ctx) != nil {
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(log)
			t.Fatalf("postgres does not answer:\n%s", text)
		case <-tick.C:
		}
	}
}

// postgresBin is the directory of Debian's server programs, or where PATH has them.
func postgresBin() string {
	if dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); len(dirs) > 0 {
		return dirs[len(dirs)-1]
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return ""
	}
	return filepath.Dir(path)
}

// unprivileged makes the server run as nobody when the test is root: postgres refuses root.
func unprivileged(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		return attr
	}
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	attr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	return attr
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
