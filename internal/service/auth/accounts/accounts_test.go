package accounts

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/crypto/bcrypt"

	"longshore/internal/core/account"
	"longshore/internal/core/credential"
	"longshore/internal/driver/sqlauth"
)

func open(t *testing.T, cfg Config) (*Service, *sqlauth.Store) {
	t.Helper()
	store, err := sqlauth.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "auth.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	cfg.Cost = bcrypt.MinCost
	return New(store, store, cfg), store
}

func jane(t *testing.T, s *Service) {
	t.Helper()
	if _, err := s.Add(t.Context(), Registration{"janedoe", "toto42", "jane@example.com"}, account.User{}); err != nil {
		t.Fatal(err)
	}
}

func TestRegister(t *testing.T) {
	s, _ := open(t, Config{Registration: true, Reserved: func(name string) bool { return name == "taken" }})
	jane(t, s)
	for _, c := range []struct {
		r     Registration
		class error
	}{
		{Registration{"johndoe", "toto42", "john@example.com"}, nil},
		{Registration{"janedoe", "toto42", "other@example.com"}, errdefs.ErrAlreadyExists},
		{Registration{"otherone", "toto42", "JANE@example.com"}, errdefs.ErrAlreadyExists},
		{Registration{"taken", "toto42", "taken@example.com"}, errdefs.ErrAlreadyExists},
		{Registration{"abc", "toto42", "a@example.com"}, errdefs.ErrInvalidArgument},
		{Registration{"abcd", "toto", "a@example.com"}, errdefs.ErrInvalidArgument},
		{Registration{"abcd", "toto42", "nowhere"}, errdefs.ErrInvalidArgument},
	} {
		u, err := s.Register(t.Context(), c.r)
		if !errors.Is(err, c.class) {
			t.Errorf("%+v: %v", c.r, err)
		}
		if err == nil && (!u.Active || u.Admin || bcrypt.CompareHashAndPassword([]byte(u.PasswordHash), []byte(c.r.Password)) != nil) {
			t.Errorf("%+v", u)
		}
	}
	closed, _ := open(t, Config{})
	if _, err := closed.Register(t.Context(), Registration{"janedoe", "toto42", "jane@example.com"}); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("%v", err)
	}
}

func TestUpdate(t *testing.T) {
	s, store := open(t, Config{})
	jane(t, s)
	hash := func() string {
		u, err := store.UserByName(t.Context(), "janedoe")
		if err != nil {
			t.Fatal(err)
		}
		return u.PasswordHash
	}
	before := hash()
	for _, c := range []struct {
		name   string
		change Change
		class  error
	}{
		{"janedoe", Change{}, errdefs.ErrInvalidArgument}, {"janedoe", Change{Password: "x"}, errdefs.ErrInvalidArgument},
		{"janedoe", Change{Password: "goodone", Email: "x"}, errdefs.ErrInvalidArgument}, // and the password stays
		{"nobody", Change{Email: "n@example.com"}, errdefs.ErrNotFound}, {"nobody", Change{Password: "goodone"}, errdefs.ErrNotFound},
		{"janedoe", Change{Email: "JANE@example.com"}, nil}, {"janedoe", Change{Email: "second@example.com"}, nil},
	} {
		if err := s.Update(t.Context(), c.name, c.change); !errors.Is(err, c.class) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if hash() != before {
		t.Error("the password has changed")
	}
	if err := s.Update(t.Context(), "janedoe", Change{Password: "goodone"}); err != nil || hash() == before {
		t.Error(err)
	}
	emails, err := s.Emails(t.Context(), "janedoe")
	if err != nil || len(emails) != 2 || emails[0].Address != "jane@example.com" {
		t.Errorf("%+v %v", emails, err)
	}
	for i := range maxEmails {
		err = s.AddEmail(t.Context(), "janedoe", fmt.Sprintf("n%d@example.com", i))
	}
	if !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("addresses without end: %v", err)
	}
}

// TestPasswordEndsAll: what was got with the old password ends.
func TestPasswordEndsAll(t *testing.T) {
	s, store := open(t, Config{})
	for name, end := range map[string]func() error{
		"password": func() error { return s.SetPassword(t.Context(), "janedoe", "another") },
		"inactive": func() error { return s.SetActive(t.Context(), "janedoe", false) },
		"revoked":  func() error { return s.Revoke(t.Context(), "janedoe") },
		"removed":  func() error { return s.Remove(t.Context(), "janedoe") },
	} {
		t.Run(name, func(t *testing.T) {
			jane(t, s)
			defer s.Remove(t.Context(), "janedoe") //nolint:errcheck // removed already in one case
			ctx := t.Context()
			if err := errors.Join(
				store.AddToken(ctx, account.Token{Hash: "t", Kind: account.Access, User: "janedoe", Grant: "g"}, account.Token{Hash: "o", Kind: account.Access, User: "other"}),
				store.AddSession(ctx, credential.Session{Hash: "s", User: "janedoe", Expires: time.Now().Add(time.Hour)}),
				store.AddKey(ctx, credential.Key{ID: "k", User: "janedoe", Hash: "k"}),
			); err != nil {
				t.Fatal(err)
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			_, token := store.TokenByHash(ctx, account.Access, "t")
			_, session := store.SessionByHash(ctx, "s")
			_, key := store.KeyByHash(ctx, "k")
			for _, err := range []error{token, session, key} {
				if !errors.Is(err, errdefs.ErrNotFound) {
					t.Errorf("something is left: %v", err)
				}
			}
			if _, err := store.TokenByHash(ctx, account.Access, "o"); err != nil {
				t.Errorf("somebody else's: %v", err)
			}
			if err := store.RevokeUser(ctx, "other"); err != nil {
				t.Fatal(err)
			}
		})
	}
}
