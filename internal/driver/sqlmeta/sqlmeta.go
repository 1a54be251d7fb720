// Package sqlmeta keeps the registry's index in SQL: SQLite in a file of ours by default, PostgreSQL where several
// instances share one registry. One set of statements serves both; dialect.go holds the differences, schema.go the
// versioned migrations.
//
//	index, err := sqlmeta.OpenSQLite(ctx, "/var/lib/longshore/registry/index.db")
//	index, err := sqlmeta.OpenPostgres(ctx, "postgres://registry@db/registry")
//
// SQLite has one writer: changes that arrive while a commit is being synced share the next one (group commit), so that
// many small pushes cost few syncs and a single one never waits for company. Readers use connections of their own and
// never wait for the writer (WAL).
package sqlmeta

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"runtime"

	"github.com/containerd/errdefs"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	_ "modernc.org/sqlite"             // driver "sqlite"

	"longshore/internal/core/registryindex"
)

// Index implements registryindex.Index.
type Index struct {
	dialect dialect
	// read is for queries outside of a change.
	read *pool
	// change runs a change in a transaction that is durable when it returns nil.
	change func(ctx context.Context, fn func(tx) error) error
	// later is change, but durable only with the next change.
	later func(ctx context.Context, fn func(tx) error) error
	registryindex.Guards
	close func() error
}

var _ registryindex.Index = (*Index)(nil)

// OpenSQLite opens or makes the database file and brings its schema up to date. The directory must exist. One process
// at a time may use the file.
func OpenSQLite(ctx context.Context, path string) (*Index, error) {
	x, err := openSQLite(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", path, err)
	}
	return x, nil
}

func openSQLite(ctx context.Context, path string) (_ *Index, err error) {
	// synchronous=NORMAL syncs around checkpoints; commits are synced by the writer (walsync.go).
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)" +
		"&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)&_pragma=temp_store(MEMORY)"
	writer, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	reader, err := sql.Open("sqlite", dsn+"&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	defer func() {
		if err != nil {
			err = errors.Join(err, reader.Close(), writer.Close())
		}
	}()
	if err := migrate(ctx, writer, sqlite); err != nil {
		return nil, err
	}
	conn, err := writer.Conn(ctx)
	if err != nil {
		return nil, err
	}
	sync, err := newWALSync(path)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	w := newWriter(conn, sync)
	read := newPool(reader, sqlite)
	return &Index{
		dialect: sqlite, read: read, change: w.change, later: w.later, Guards: newKeyed(),
		close: func() error {
			return errors.Join(read.Close(), w.close(), conn.Close(), reader.Close(), writer.Close())
		},
	}, nil
}

// OpenPostgres connects to a database of PostgreSQL 12 or newer and brings its schema up to date. dsn is a URL or a
// keyword string of libpq.
func OpenPostgres(ctx context.Context, dsn string) (*Index, error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	locks, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open index: %w", err), db.Close())
	}
	// Guards have connections of their own: a push holds one while it asks for another from db.
	locks.SetMaxOpenConns(16)
	locks.SetMaxIdleConns(16)
	if err := migrate(ctx, db, postgres); err != nil {
		return nil, errors.Join(fmt.Errorf("open index: %w", err), db.Close(), locks.Close())
	}
	change := postgresChange(db)
	return &Index{
		dialect: postgres, read: newPool(db, postgres), change: change, later: change, Guards: &advisory{db: locks},
		close: func() error { return errors.Join(db.Close(), locks.Close()) },
	}, nil
}

// Close waits for nothing: the caller has stopped using the index.
func (x *Index) Close() error { return x.close() }

// notFound is an error of class ErrNotFound.
func notFound(format string, a ...any) error {
	return fmt.Errorf(format+": %w", append(a, errdefs.ErrNotFound)...)
}
