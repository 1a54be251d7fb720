package sqlauth

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/account"
)

const clientColumns = `id, secret, name, description, redirects, created`

func scanClient(scan func(...any) error) (c account.Client, err error) {
	var redirects string
	var created int64
	if err := scan(&c.ID, &c.SecretHash, &c.Name, &c.Description, &redirects, &created); err != nil {
		return c, err
	}
	c.Created = moment(created)
	return c, json.Unmarshal([]byte(redirects), &c.RedirectURIs)
}

// AddClient keeps an application.
func (s *Store) AddClient(ctx context.Context, c account.Client) error {
	redirects, err := json.Marshal(c.RedirectURIs)
	if err != nil {
		return fmt.Errorf("add client: %w", err)
	}
	_, err = s.exec(ctx, `INSERT INTO clients (`+clientColumns+`) VALUES (?, ?, ?, ?, ?, ?)`,
		c.ID, c.SecretHash, c.Name, c.Description, string(redirects), micros(c.Created))
	if s.taken(err) {
		err = errdefs.ErrAlreadyExists
	}
	if err != nil {
		return fmt.Errorf("add client %q: %w", c.ID, err)
	}
	return nil
}

// ClientByID finds an application.
func (s *Store) ClientByID(ctx context.Context, id string) (account.Client, error) {
	c, err := scanClient(s.db.QueryRowContext(ctx, s.q(`SELECT `+clientColumns+` FROM clients WHERE id = ?`), id).Scan)
	return c, absent(err, fmt.Sprintf("client %q", id))
}

// ListClients lists all applications.
func (s *Store) ListClients(ctx context.Context) ([]account.Client, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+clientColumns+` FROM clients ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list clients: %w", err)
	}
	return collect(rows, "list clients", scanClient)
}

// DeleteClient forgets an application and what it was given.
func (s *Store) DeleteClient(ctx context.Context, id string) error {
	err := s.in(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, `DELETE FROM clients WHERE id = ?`, id)
		if err == nil && n == 0 {
			err = errdefs.ErrNotFound
		}
		if err == nil {
			_, err = t.exec(ctx, `DELETE FROM tokens WHERE client = ? AND kind IN (?, ?, ?)`, id,
				string(account.Code), string(account.Access), string(account.Refresh))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete client %q: %w", id, err)
	}
	return nil
}

const tokenColumns = `hash, kind, owner, proof, client, grant_id, scope, audience, challenge, created, expires, used`

func scanToken(scan func(...any) error) (t account.Token, err error) {
	var created, expires, used int64
	err = scan(&t.Hash, &t.Kind, &t.User, &t.Proof, &t.Client, &t.Grant, &t.Scope, &t.Audience, &t.Challenge, &created, &expires, &used)
	t.Created, t.Expires, t.Used = moment(created), moment(expires), moment(used)
	return t, err
}

// AddToken keeps tokens in one transaction.
func (s *Store) AddToken(ctx context.Context, tokens ...account.Token) error {
	err := s.in(ctx, func(tx *transaction) error {
		for _, t := range tokens {
			_, err := tx.exec(ctx, `INSERT INTO tokens (`+tokenColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
				t.Hash, string(t.Kind), t.User, string(t.Proof), t.Client, t.Grant, t.Scope, t.Audience, t.Challenge,
				micros(t.Created), micros(t.Expires), micros(t.Used))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if s.taken(err) {
		err = errdefs.ErrAlreadyExists
	}
	if err != nil {
		return fmt.Errorf("add token: %w", err)
	}
	return nil
}

const tokenQuery = `SELECT ` + tokenColumns + ` FROM tokens WHERE hash = ? AND kind = ?`

// TokenByHash finds a token.
func (s *Store) TokenByHash(ctx context.Context, kind account.Kind, hash string) (account.Token, error) {
	t, err := scanToken(s.db.QueryRowContext(ctx, s.q(tokenQuery), hash, string(kind)).Scan)
	return t, absent(err, string(kind)+" token")
}

// UseToken marks a token as used under its row's lock.
func (s *Store) UseToken(ctx context.Context, kind account.Kind, hash string, at time.Time) (t account.Token, err error) {
	err = s.in(ctx, func(tx *transaction) error {
		var err error
		if t, err = scanToken(tx.row(ctx, s.locked(tokenQuery), hash, string(kind)).Scan); err != nil {
			return absent(err, string(kind)+" token")
		}
		if !t.Used.IsZero() {
			return fmt.Errorf("%s token is used already: %w", kind, errdefs.ErrFailedPrecondition)
		}
		_, err = tx.exec(ctx, `UPDATE tokens SET used = ? WHERE hash = ?`, micros(at), hash)
		return err
	})
	return t, err
}

// TokensOf lists a user's tokens.
func (s *Store) TokensOf(ctx context.Context, user string) ([]account.Token, error) {
	what := fmt.Sprintf("list tokens of %q", user)
	rows, err := s.db.QueryContext(ctx, s.q(`SELECT `+tokenColumns+` FROM tokens WHERE owner = ? ORDER BY created, hash`), user)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return collect(rows, what, scanToken)
}

// RevokeGrant forgets the tokens of a grant.
func (s *Store) RevokeGrant(ctx context.Context, grant string) error {
	if _, err := s.exec(ctx, `DELETE FROM tokens WHERE grant_id = ? AND grant_id <> ''`, grant); err != nil {
		return fmt.Errorf("revoke grant: %w", err)
	}
	return nil
}

// RevokeUser forgets the tokens of a user.
func (s *Store) RevokeUser(ctx context.Context, user string) error {
	if _, err := s.exec(ctx, `DELETE FROM tokens WHERE owner = ? AND owner <> ''`, user); err != nil {
		return fmt.Errorf("revoke tokens of %q: %w", user, err)
	}
	return nil
}

// SweepTokens forgets what expired or was used before.
func (s *Store) SweepTokens(ctx context.Context, kind account.Kind, before time.Time) error {
	for _, column := range []string{"expires", "used"} {
		_, err := s.exec(ctx, `DELETE FROM tokens WHERE kind = ? AND `+column+` > 0 AND `+column+` < ?`, string(kind), micros(before))
		if err != nil {
			return fmt.Errorf("sweep %s tokens: %w", kind, err)
		}
	}
	return nil
}
