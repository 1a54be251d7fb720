// Package accounts looks after the people who registered: who they are, how they are reached, and their passwords. Who
// may ask is decided before, by package auth; HTTP is not known here.
//
//	s := accounts.New(store, sessions, accounts.Config{Registration: true})
//	user, err := s.Register(ctx, accounts.Registration{Name: "janedoe", Password: "secret", Email: "jane@example.com"})
//
// A changed password, a switched-off account and a deleted user end everything that was got with the password: login
// sessions, API keys, identity tokens, and the grants of applications.
package accounts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/crypto/bcrypt"

	"longshore/internal/core/account"
	"longshore/internal/core/credential"
	"longshore/internal/core/fault"
)

// Config is what an administrator decides.
type Config struct {
	// Registration lets everybody make an account.
	Registration bool
	// Reserved tells names that are not free though no account has them; nil for none.
	Reserved func(name string) bool
	// Cost is bcrypt's; 0 means its default.
	Cost int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Credentials ends what a user logged in with. credential.Store is one.
type Credentials interface {
	KeysOf(ctx context.Context, user string) ([]credential.Key, error)
	DeleteKey(ctx context.Context, user, id string) error
	DeleteSessionsOf(ctx context.Context, user string) error
}

// Service decides. Make it with New.
type Service struct {
	store       account.Store
	credentials Credentials
	cfg         Config
}

// New makes a service.
func New(store account.Store, credentials Credentials, cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Cost == 0 {
		cfg.Cost = bcrypt.DefaultCost
	}
	if cfg.Reserved == nil {
		cfg.Reserved = func(string) bool { return false }
	}
	return &Service{store: store, credentials: credentials, cfg: cfg}
}

// Registration is what somebody tells who wants an account.
type Registration struct{ Name, Password, Email string }

// ErrTaken is what Register answers for names and addresses that somebody has, in the words that docker looks for.
var ErrTaken = fault.New(errdefs.ErrAlreadyExists, "Username or email already exists")

// ErrClosed is what Register answers where accounts are made by administrators.
var ErrClosed = fault.Forbidden("registration is not open")

// Register makes an account where everybody may.
func (s *Service) Register(ctx context.Context, r Registration) (account.User, error) {
	if !s.cfg.Registration {
		return account.User{}, ErrClosed
	}
	return s.Add(ctx, r, account.User{})
}

// Open says whether everybody may make an account.
func (s *Service) Open() bool { return s.cfg.Registration }

// Add makes an account. Admin and the profile are taken from like.
func (s *Service) Add(ctx context.Context, r Registration, like account.User) (account.User, error) {
	for _, err := range []error{account.CheckName(r.Name), account.CheckPassword(r.Password), account.CheckEmail(r.Email), like.Profile.Check()} {
		if err != nil {
			return account.User{}, err
		}
	}
	if s.cfg.Reserved(r.Name) {
		return account.User{}, ErrTaken
	}
	hash, err := s.hash(r.Password)
	if err != nil {
		return account.User{}, err
	}
	u, err := s.store.AddUser(ctx, account.User{
		Name: r.Name, PasswordHash: hash, Profile: like.Profile, Active: true, Admin: like.Admin, Joined: s.cfg.Now(),
	}, account.Email{Address: r.Email})
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		return account.User{}, ErrTaken
	}
	return u, err
}

func (s *Service) hash(password string) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), s.cfg.Cost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(hash), nil
}

// User finds a user, with its primary address.
func (s *Service) User(ctx context.Context, name string) (account.User, account.Email, error) {
	u, err := s.store.UserByName(ctx, name)
	if err != nil {
		return u, account.Email{}, err
	}
	emails, err := s.store.EmailsOf(ctx, name)
	if err != nil || len(emails) == 0 {
		return u, account.Email{}, err
	}
	return u, emails[0], nil
}

// List lists at most n users with names after a name.
func (s *Service) List(ctx context.Context, after string, n int) ([]account.User, error) {
	return s.store.ListUsers(ctx, after, n)
}

// Change is what the index API's "Update User" changes; empty fields change nothing.
type Change struct{ Password, Email string }

// Update changes a password and adds an address. The address that the user has already is no error; one that somebody
// else has is ErrTaken. Everything is checked before anything changes.
func (s *Service) Update(ctx context.Context, name string, c Change) error {
	if c.Password == "" && c.Email == "" {
		return fault.Invalid("nothing to change: give a password or an email")
	}
	if c.Password != "" {
		if err := account.CheckPassword(c.Password); err != nil {
			return err
		}
	}
	if c.Email != "" {
		err := s.AddEmail(ctx, name, c.Email)
		if errors.Is(err, errdefs.ErrAlreadyExists) && s.has(ctx, name, c.Email) {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	if c.Password == "" {
		return nil
	}
	return s.SetPassword(ctx, name, c.Password)
}

func (s *Service) has(ctx context.Context, name, address string) bool {
	emails, err := s.store.EmailsOf(ctx, name)
	if err != nil {
		return false
	}
	for _, e := range emails {
		if account.Fold(e.Address) == account.Fold(address) {
			return true
		}
	}
	return false
}

// SetPassword changes a password, and ends what was got with the old one.
func (s *Service) SetPassword(ctx context.Context, name, password string) error {
	if err := account.CheckPassword(password); err != nil {
		return err
	}
	hash, err := s.hash(password)
	if err != nil {
		return err
	}
	return s.ending(ctx, name, func(u *account.User) { u.PasswordHash = hash })
}

// SetActive switches an account on or off.
func (s *Service) SetActive(ctx context.Context, name string, active bool) error {
	if !active {
		return s.ending(ctx, name, func(u *account.User) { u.Active = false })
	}
	_, err := s.store.UpdateUser(ctx, name, func(u *account.User) error { u.Active = true; return nil })
	return err
}

// ending makes a change that ends what was got before it. A crash in the midst leaves too little, never too much; what
// somebody got between the two ends goes with the second.
func (s *Service) ending(ctx context.Context, name string, change func(*account.User)) error {
	if _, err := s.store.UserByName(ctx, name); err != nil {
		return err
	}
	if err := s.Revoke(ctx, name); err != nil {
		return err
	}
	if _, err := s.store.UpdateUser(ctx, name, func(u *account.User) error { change(u); return nil }); err != nil {
		return err
	}
	return s.Revoke(ctx, name)
}

// SetAdmin makes somebody an administrator, or no longer one.
func (s *Service) SetAdmin(ctx context.Context, name string, admin bool) error {
	_, err := s.store.UpdateUser(ctx, name, func(u *account.User) error { u.Admin = admin; return nil })
	return err
}

// Remove deletes a user and everything of its.
func (s *Service) Remove(ctx context.Context, name string) error {
	return s.store.DeleteUser(ctx, name)
}

// Revoke ends a user's sessions, API keys and tokens of all kinds. It works for users of the password file too.
func (s *Service) Revoke(ctx context.Context, name string) error {
	if err := s.store.RevokeUser(ctx, name); err != nil {
		return err
	}
	if err := s.credentials.DeleteSessionsOf(ctx, name); err != nil {
		return err
	}
	keys, err := s.credentials.KeysOf(ctx, name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := s.credentials.DeleteKey(ctx, name, k.ID); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
	}
	return nil
}

// ProfileChange holds what changes; nil leaves a field as it is.
type ProfileChange struct{ FullName, Location, Company, URL, GravatarEmail *string }

// UpdateProfile changes a profile.
func (s *Service) UpdateProfile(ctx context.Context, name string, c ProfileChange) (account.User, error) {
	return s.store.UpdateUser(ctx, name, func(u *account.User) error {
		for _, f := range []struct{ from, to *string }{
			{c.FullName, &u.FullName}, {c.Location, &u.Location}, {c.Company, &u.Company}, {c.URL, &u.URL}, {c.GravatarEmail, &u.GravatarEmail},
		} {
			if f.from != nil {
				*f.to = *f.from
			}
		}
		return u.Profile.Check()
	})
}

// Emails lists a user's addresses, the primary one first.
func (s *Service) Emails(ctx context.Context, name string) ([]account.Email, error) {
	return s.store.EmailsOf(ctx, name)
}

// maxEmails bounds the addresses of a user.
const maxEmails = 50

// AddEmail adds an address, not verified and not primary. One that somebody has is ErrTaken's class.
func (s *Service) AddEmail(ctx context.Context, name, address string) error {
	if err := account.CheckEmail(address); err != nil {
		return err
	}
	have, err := s.store.EmailsOf(ctx, name)
	if err != nil {
		return err
	}
	if len(have) >= maxEmails {
		return fault.Invalid("there are %d e-mail addresses already", len(have))
	}
	err = s.store.AddEmail(ctx, name, account.Email{Address: address})
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		return fault.New(errdefs.ErrAlreadyExists, "This e-mail address is already in use.")
	}
	return err
}

// EmailChange is what may change about an address; both only become true.
type EmailChange struct{ Verify, Primary bool }

// ChangeEmail marks an address as verified or makes it the primary one.
func (s *Service) ChangeEmail(ctx context.Context, name, address string, c EmailChange) (e account.Email, err error) {
	if c.Verify {
		if e, err = s.store.VerifyEmail(ctx, name, address); err != nil {
			return e, err
		}
	}
	if c.Primary {
		return s.store.MakePrimary(ctx, name, address)
	}
	return e, err
}

// DeleteEmail deletes an address that is not the primary one.
func (s *Service) DeleteEmail(ctx context.Context, name, address string) error {
	err := s.store.DeleteEmail(ctx, name, address)
	if errors.Is(err, errdefs.ErrFailedPrecondition) {
		return fault.Invalid("You cannot delete your primary e-mail address.")
	}
	return err
}
