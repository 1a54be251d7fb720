package sqlauth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"longshore/internal/core/account"
)

var _ account.Store = (*Store)(nil)

// accountsSchema is the second migration. folded addresses are compared; next_user gives IDs that are never given again,
// in both databases.
const accountsSchema = `CREATE TABLE users (
		id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, password TEXT NOT NULL, full_name TEXT NOT NULL, location TEXT NOT NULL,
		company TEXT NOT NULL, url TEXT NOT NULL, gravatar TEXT NOT NULL, active BIGINT NOT NULL, admin BIGINT NOT NULL,
		joined BIGINT NOT NULL);
	CREATE TABLE next_user (id BIGINT NOT NULL);
	INSERT INTO next_user (id) VALUES (0);
	CREATE TABLE emails (
		folded TEXT PRIMARY KEY, owner TEXT NOT NULL, address TEXT NOT NULL, verified BIGINT NOT NULL, is_primary BIGINT NOT NULL);
	CREATE INDEX emails_owner ON emails (owner);
	CREATE TABLE clients (
		id TEXT PRIMARY KEY, secret TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL, redirects TEXT NOT NULL,
		created BIGINT NOT NULL);
	CREATE TABLE tokens (
		hash TEXT PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, proof TEXT NOT NULL, client TEXT NOT NULL,
		grant_id TEXT NOT NULL, scope TEXT NOT NULL, audience TEXT NOT NULL, challenge TEXT NOT NULL, created BIGINT NOT NULL,
		expires BIGINT NOT NULL, used BIGINT NOT NULL);
	CREATE INDEX tokens_owner ON tokens (owner, created);
	CREATE INDEX tokens_grant ON tokens (grant_id);
	CREATE INDEX tokens_client ON tokens (client);
	CREATE INDEX tokens_expires ON tokens (kind, expires);
	CREATE INDEX tokens_used ON tokens (kind, used)`

// in runs a function in a transaction: a writing one from its beginning in SQLite, so that what it reads stays true.
func (s *Store) in(ctx context.Context, f func(t *transaction) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	if err := f(&transaction{tx: tx, s: s}); err != nil {
		return err
	}
	return tx.Commit()
}

// transaction writes statements in the database's own placeholders.
type transaction struct {
	tx *sql.Tx
	s  *Store
}

func (t *transaction) exec(ctx context.Context, q string, args ...any) (int64, error) {
	r, err := t.tx.ExecContext(ctx, t.s.q(q), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (t *transaction) row(ctx context.Context, q string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(ctx, t.s.q(q), args...)
}

// locked ends a query that reads a row in order to change it. SQLite's transactions have the write lock already.
func (s *Store) locked(q string) string {
	if s.numbered {
		return q + ` FOR UPDATE`
	}
	return q
}

const userColumns = `id, name, password, full_name, location, company, url, gravatar, active, admin, joined`

// AddUser keeps a user with its primary address.
func (s *Store) AddUser(ctx context.Context, u account.User, e account.Email) (account.User, error) {
	err := s.in(ctx, func(t *transaction) error {
		if _, err := t.exec(ctx, `UPDATE next_user SET id = id + 1`); err != nil {
			return err
		}
		if err := t.row(ctx, `SELECT id FROM next_user`).Scan(&u.ID); err != nil {
			return err
		}
		_, err := t.exec(ctx, `INSERT INTO users (`+userColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			u.ID, u.Name, u.PasswordHash, u.FullName, u.Location, u.Company, u.URL, u.GravatarEmail, number(u.Active), number(u.Admin), micros(u.Joined))
		if err != nil {
			return err
		}
		e.Primary = true
		return t.addEmail(ctx, u.Name, e)
	})
	if s.taken(err) {
		err = errdefs.ErrAlreadyExists
	}
	if err != nil {
		return account.User{}, fmt.Errorf("add user %q: %w", u.Name, err)
	}
	return u, nil
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func scanUser(scan func(...any) error) (u account.User, err error) {
	var active, admin, joined int64
	err = scan(&u.ID, &u.Name, &u.PasswordHash, &u.FullName, &u.Location, &u.Company, &u.URL, &u.GravatarEmail, &active, &admin, &joined)
	u.Active, u.Admin, u.Joined = active != 0, admin != 0, moment(joined)
	return u, err
}

// UserByName finds a user.
func (s *Store) UserByName(ctx context.Context, name string) (account.User, error) {
	u, err := scanUser(s.db.QueryRowContext(ctx, s.q(`SELECT `+userColumns+` FROM users WHERE name = ?`), name).Scan)
	return u, absent(err, fmt.Sprintf("user %q", name))
}

// UpdateUser reads, changes and writes a user under its row's lock.
func (s *Store) UpdateUser(ctx context.Context, name string, change func(*account.User) error) (u account.User, err error) {
	err = s.in(ctx, func(t *transaction) error {
		was, err := scanUser(t.row(ctx, s.locked(`SELECT `+userColumns+` FROM users WHERE name = ?`), name).Scan)
		if err != nil {
			return absent(err, fmt.Sprintf("user %q", name))
		}
		u = was
		if err := change(&u); err != nil {
			return err
		}
		u.ID, u.Name, u.Joined = was.ID, was.Name, was.Joined
		_, err = t.exec(ctx, `UPDATE users SET password = ?, full_name = ?, location = ?, company = ?, url = ?, gravatar = ?, active = ?, admin = ?
			WHERE id = ?`, u.PasswordHash, u.FullName, u.Location, u.Company, u.URL, u.GravatarEmail, number(u.Active), number(u.Admin), u.ID)
		return err
	})
	return u, err
}

// DeleteUser forgets a user and all that is its.
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	err := s.in(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, `DELETE FROM users WHERE name = ?`, name)
		if err == nil && n == 0 {
			err = errdefs.ErrNotFound
		}
		for _, table := range []string{"emails", "tokens", "sessions", "api_keys"} {
			if err == nil {
				_, err = t.exec(ctx, `DELETE FROM `+table+` WHERE owner = ?`, name)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete user %q: %w", name, err)
	}
	return nil
}

// ListUsers lists users by name.
func (s *Store) ListUsers(ctx context.Context, after string, n int) ([]account.User, error) {
	rows, err := s.db.QueryContext(ctx, s.q(`SELECT `+userColumns+` FROM users WHERE name > ? ORDER BY name LIMIT ?`), after, n)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return collect(rows, "list users", scanUser)
}

// collect reads rows to their end.
func collect[T any](rows *sql.Rows, what string, scan func(func(...any) error) (T, error)) ([]T, error) {
	defer rows.Close() //nolint:errcheck // Err tells
	var out []T
	for rows.Next() {
		v, err := scan(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return out, nil
}

const emailColumns = `address, verified, is_primary`

func scanEmail(scan func(...any) error) (e account.Email, err error) {
	var verified, primary int64
	err = scan(&e.Address, &verified, &primary)
	e.Verified, e.Primary = verified != 0, primary != 0
	return e, err
}

func (t *transaction) addEmail(ctx context.Context, user string, e account.Email) error {
	_, err := t.exec(ctx, `INSERT INTO emails (folded, owner, address, verified, is_primary) VALUES (?, ?, ?, ?, ?)`,
		account.Fold(e.Address), user, e.Address, number(e.Verified), number(e.Primary))
	return err
}

// EmailsOf lists a user's addresses, the primary one first.
func (s *Store) EmailsOf(ctx context.Context, user string) ([]account.Email, error) {
	what := fmt.Sprintf("list e-mail addresses of %q", user)
	rows, err := s.db.QueryContext(ctx, s.q(`SELECT `+emailColumns+` FROM emails WHERE owner = ? ORDER BY is_primary DESC, folded`), user)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return collect(rows, what, scanEmail)
}

// AddEmail keeps another address.
func (s *Store) AddEmail(ctx context.Context, user string, e account.Email) error {
	e.Primary = false
	err := s.in(ctx, func(t *transaction) error {
		var id int64
		if err := t.row(ctx, s.locked(`SELECT id FROM users WHERE name = ?`), user).Scan(&id); err != nil {
			return absent(err, fmt.Sprintf("user %q", user))
		}
		return t.addEmail(ctx, user, e)
	})
	if s.taken(err) {
		err = errdefs.ErrAlreadyExists
	}
	if err != nil {
		return fmt.Errorf("add e-mail address %q: %w", e.Address, err)
	}
	return nil
}

// VerifyEmail marks an address as verified.
func (s *Store) VerifyEmail(ctx context.Context, user, address string) (account.Email, error) {
	return s.changeEmail(ctx, user, address, func(t *transaction, e *account.Email) error {
		e.Verified = true
		_, err := t.exec(ctx, `UPDATE emails SET verified = 1 WHERE folded = ?`, account.Fold(address))
		return err
	})
}

// MakePrimary makes an address the primary one.
func (s *Store) MakePrimary(ctx context.Context, user, address string) (account.Email, error) {
	return s.changeEmail(ctx, user, address, func(t *transaction, e *account.Email) error {
		e.Primary = true
		_, err := t.exec(ctx, `UPDATE emails SET is_primary = CASE folded WHEN ? THEN 1 ELSE 0 END WHERE owner = ?`, account.Fold(address), user)
		return err
	})
}

// DeleteEmail forgets an address that is not the primary one.
func (s *Store) DeleteEmail(ctx context.Context, user, address string) error {
	_, err := s.changeEmail(ctx, user, address, func(t *transaction, e *account.Email) error {
		if e.Primary {
			return fmt.Errorf("the primary e-mail address: %w", errdefs.ErrFailedPrecondition)
		}
		_, err := t.exec(ctx, `DELETE FROM emails WHERE folded = ?`, account.Fold(address))
		return err
	})
	return err
}

// changeEmail finds a user's address and changes it while the user's row is locked, so that one address is primary.
func (s *Store) changeEmail(ctx context.Context, user, address string, change func(*transaction, *account.Email) error) (e account.Email, err error) {
	err = s.in(ctx, func(t *transaction) error {
		var id int64
		if err := t.row(ctx, s.locked(`SELECT id FROM users WHERE name = ?`), user).Scan(&id); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var err error
		e, err = scanEmail(t.row(ctx, `SELECT `+emailColumns+` FROM emails WHERE folded = ? AND owner = ?`, account.Fold(address), user).Scan)
		if err != nil {
			return absent(err, fmt.Sprintf("e-mail address %q", address))
		}
		return change(t, &e)
	})
	return e, err
}
