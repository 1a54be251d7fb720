// Package sqlauth keeps API keys, login sessions, people, applications and tokens in SQL: SQLite in a file of its own by default, or PostgreSQL beside
// the registry's index, where several instances share them. One set of statements serves both.
//
//	s, err := sqlauth.OpenSQLite(ctx, "/var/lib/longshore/registry/auth.db")
package sqlauth

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	"modernc.org/sqlite"               // driver "sqlite"

	"longshore/internal/core/credential"
)

// Store implements credential.Store and account.Store.
type Store struct {
	db       *sql.DB
	numbered bool // $1, $2 instead of ?
}

var _ credential.Store = (*Store)(nil)

// OpenSQLite opens or makes the database file and brings its schema up to date. The directory must exist.
func OpenSQLite(ctx context.Context, path string) (*Store, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)" +
		"&_pragma=synchronous(FULL)&_txlock=immediate"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open credentials: %w", err)
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	return open(ctx, &Store{db: db})
}

// OpenPostgres connects to a database and brings its schema up to date. dsn is a URL or a keyword string of libpq.
func OpenPostgres(ctx context.Context, dsn string) (*Store, error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, fmt.Errorf("open credentials: %w", err)
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(4)
	return open(ctx, &Store{db: db, numbered: true})
}

func open(ctx context.Context, s *Store) (*Store, error) {
	err := s.migrate(ctx)
	for end := time.Now().Add(busyLimit); isBusy(err) && time.Now().Before(end) && ctx.Err() == nil; err = s.migrate(ctx) {
		<-time.After(busyPause)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open credentials: %w", err), s.db.Close())
	}
	return s, nil
}

// SQLite waits for locks (busy_timeout), but not where instances that start together make the file a WAL at the same time, or the
// last one of others takes the WAL away: that is tried again.
const (
	busyLimit = 10 * time.Second
	busyPause = 10 * time.Millisecond
)

// isBusy tells SQLITE_BUSY and its kinds.
func isBusy(err error) bool {
	const busy = 5 // SQLITE_BUSY
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == busy
}

// Close waits for nothing: the caller has stopped using the store.
func (s *Store) Close() error { return s.db.Close() }

// migrations bring the schema from one version to the next. They are never changed, only added to. Moments are
// microseconds since 1970, 0 for never.
var migrations = []string{
	`CREATE TABLE api_keys (
		id TEXT PRIMARY KEY, owner TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, label TEXT NOT NULL, scopes TEXT NOT NULL,
		proof TEXT NOT NULL, creator_ua TEXT NOT NULL, created BIGINT NOT NULL, expires BIGINT NOT NULL,
		last_used BIGINT NOT NULL);
	CREATE INDEX api_keys_owner ON api_keys (owner, created);
	CREATE TABLE sessions (
		hash TEXT PRIMARY KEY, owner TEXT NOT NULL, proof TEXT NOT NULL, expires BIGINT NOT NULL);
	CREATE INDEX sessions_expires ON sessions (expires)`,
	accountsSchema,
}

// migrationLock is a number of ours among PostgreSQL's advisory locks.
const migrationLock = 7_238_105_441

// migrate is one transaction under a lock, so that instances that start together do not both migrate: SQLite's own write
// lock, or PostgreSQL's advisory one.
func (s *Store) migrate(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	if s.numbered {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS auth_schema (version BIGINT PRIMARY KEY)`); err != nil {
		return err
	}
	var version int
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM auth_schema`).Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("the schema has version %d, this program knows %d", version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		for q := range strings.SplitSeq(migrations[version], ";") {
			if _, err := tx.ExecContext(ctx, q); err != nil {
				return fmt.Errorf("migration %d: %w", version+1, err)
			}
		}
		if _, err := tx.ExecContext(ctx, s.q(`INSERT INTO auth_schema (version) VALUES (?)`), version+1); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// q writes a statement in the database's own placeholders.
func (s *Store) q(text string) string {
	if !s.numbered {
		return text
	}
	var out strings.Builder
	n := 0
	for part := range strings.SplitSeq(text, "?") {
		if n > 0 {
			out.WriteString("$" + strconv.Itoa(n))
		}
		out.WriteString(part)
		n++
	}
	return out.String()
}

func (s *Store) exec(ctx context.Context, q string, args ...any) (int64, error) {
	r, err := s.db.ExecContext(ctx, s.q(q), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// taken says that a row with the same key is there already.
func (s *Store) taken(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505"
	}
	var lite *sqlite.Error
	const constraint = 19 // SQLITE_CONSTRAINT, the low byte of its kinds
	return errors.As(err, &lite) && lite.Code()&0xff == constraint
}

const keyColumns = `id, owner, hash, label, scopes, proof, creator_ua, created, expires, last_used`

// AddKey keeps a key.
func (s *Store) AddKey(ctx context.Context, k credential.Key) error {
	scopes, err := json.Marshal(k.Scopes)
	if err != nil {
		return fmt.Errorf("add key: %w", err)
	}
	_, err = s.exec(ctx, `INSERT INTO api_keys (`+keyColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		k.ID, k.User, k.Hash, k.Label, string(scopes), string(k.Proof), k.CreatorUA, micros(k.Created), micros(k.Expires), micros(k.LastUsed))
	if s.taken(err) {
		return fmt.Errorf("add key %s: %w", k.ID, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return fmt.Errorf("add key %s: %w", k.ID, err)
	}
	return nil
}

func scanKey(scan func(...any) error) (k credential.Key, err error) {
	var scopes string
	var created, expires, used int64
	if err := scan(&k.ID, &k.User, &k.Hash, &k.Label, &scopes, &k.Proof, &k.CreatorUA, &created, &expires, &used); err != nil {
		return k, err
	}
	k.Created, k.Expires, k.LastUsed = moment(created), moment(expires), moment(used)
	return k, json.Unmarshal([]byte(scopes), &k.Scopes)
}

// KeyByHash finds a key.
func (s *Store) KeyByHash(ctx context.Context, hash string) (credential.Key, error) {
	k, err := scanKey(s.db.QueryRowContext(ctx, s.q(`SELECT `+keyColumns+` FROM api_keys WHERE hash = ?`), hash).Scan)
	return k, absent(err, "API key")
}

// KeysOf lists a user's keys, oldest first.
func (s *Store) KeysOf(ctx context.Context, user string) ([]credential.Key, error) {
	rows, err := s.db.QueryContext(ctx, s.q(`SELECT `+keyColumns+` FROM api_keys WHERE owner = ? ORDER BY created, id`), user)
	if err != nil {
		return nil, fmt.Errorf("list keys of %q: %w", user, err)
	}
	defer rows.Close() //nolint:errcheck // Err tells
	var out []credential.Key
	for rows.Next() {
		k, err := scanKey(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list keys of %q: %w", user, err)
		}
		out = append(out, k)
	}
	return out, rows.Err()
}

// DeleteKey forgets one of a user's keys.
func (s *Store) DeleteKey(ctx context.Context, user, id string) error {
	n, err := s.exec(ctx, `DELETE FROM api_keys WHERE owner = ? AND id = ?`, user, id)
	if err == nil && n == 0 {
		err = errdefs.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("delete key %q: %w", id, err)
	}
	return nil
}

// KeyUsed notes a use.
func (s *Store) KeyUsed(ctx context.Context, hash string, at time.Time) error {
	if _, err := s.exec(ctx, `UPDATE api_keys SET last_used = ? WHERE hash = ?`, micros(at), hash); err != nil {
		return fmt.Errorf("note use of key: %w", err)
	}
	return nil
}

// AddSession keeps a session.
func (s *Store) AddSession(ctx context.Context, v credential.Session) error {
	_, err := s.exec(ctx, `INSERT INTO sessions (hash, owner, proof, expires) VALUES (?, ?, ?, ?)`,
		v.Hash, v.User, string(v.Proof), micros(v.Expires))
	if err != nil {
		return fmt.Errorf("add session: %w", err)
	}
	return nil
}

// SessionByHash finds a session.
func (s *Store) SessionByHash(ctx context.Context, hash string) (credential.Session, error) {
	v := credential.Session{Hash: hash}
	var expires int64
	err := s.db.QueryRowContext(ctx, s.q(`SELECT owner, proof, expires FROM sessions WHERE hash = ?`), hash).
		Scan(&v.User, &v.Proof, &expires)
	v.Expires = moment(expires)
	return v, absent(err, "session")
}

// DeleteSession forgets a session.
func (s *Store) DeleteSession(ctx context.Context, hash string) error {
	if _, err := s.exec(ctx, `DELETE FROM sessions WHERE hash = ?`, hash); err != nil {
		return fmt.Errorf("delete session: %w", err)
	}
	return nil
}

// DeleteSessionsOf forgets a user's sessions.
func (s *Store) DeleteSessionsOf(ctx context.Context, user string) error {
	if _, err := s.exec(ctx, `DELETE FROM sessions WHERE owner = ?`, user); err != nil {
		return fmt.Errorf("delete sessions of %q: %w", user, err)
	}
	return nil
}

// SweepSessions forgets what expired before.
func (s *Store) SweepSessions(ctx context.Context, before time.Time) error {
	if _, err := s.exec(ctx, `DELETE FROM sessions WHERE expires < ?`, micros(before)); err != nil {
		return fmt.Errorf("sweep sessions: %w", err)
	}
	return nil
}

func absent(err error, what string) error {
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%s: %w", what, errdefs.ErrNotFound)
	case err != nil:
		return fmt.Errorf("find %s: %w", what, err)
	}
	return nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
