// Package accounttest is the suite that every account.Store passes.
package accounttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/account"
	"longshore/internal/core/credential"
)

// Run checks the contract. open gives an empty store.
func Run(t *testing.T, open func(t *testing.T) account.Store) {
	for _, c := range []struct {
		name string
		f    func(*testing.T, account.Store)
	}{
		{"users", users}, {"updates follow one another", updates}, {"names and addresses are given once", once},
		{"e-mails", emails}, {"clients", clients}, {"tokens", tokens}, {"a token is used once", usedOnce},
		{"revocation", revocation}, {"sweep", sweep},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, open(t)) })
	}
}

var moment = time.Date(2014, 2, 12, 17, 58, 1, 431312000, time.UTC)

func is(t *testing.T, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("error %v, want %v", err, class)
	}
}

func add(t *testing.T, s account.Store, name string) account.User {
	t.Helper()
	u, err := s.AddUser(t.Context(), account.User{Name: name, PasswordHash: "hash", Active: true, Joined: moment},
		account.Email{Address: name + "@example.com"})
	is(t, err, nil)
	return u
}

func users(t *testing.T, s account.Store) {
	ctx := t.Context()
	want := account.User{
		Name: "janedoe", PasswordHash: "$2a$", Active: true, Admin: true, Joined: moment,
		Profile: account.Profile{FullName: "Jane Doe", Location: "San Francisco, CA", Company: "Success, Inc.", URL: "https://docker.io/", GravatarEmail: "g@example.com"},
	}
	got, err := s.AddUser(ctx, want, account.Email{Address: "Jane@example.com"})
	is(t, err, nil)
	if got.ID == 0 {
		t.Error("no ID")
	}
	want.ID = got.ID
	if got != want {
		t.Errorf("added %+v, want %+v", got, want)
	}
	if got, err := s.UserByName(ctx, "janedoe"); err != nil || got != want {
		t.Errorf("found %+v %v", got, err)
	}
	_, err = s.UserByName(ctx, "nobody")
	is(t, err, errdefs.ErrNotFound)
	add(t, s, "adam")
	add(t, s, "zoe_")
	list, err := s.ListUsers(ctx, "adam", 1)
	if err != nil || len(list) != 1 || list[0] != want {
		t.Errorf("listed %+v %v", list, err)
	}
	is(t, s.DeleteUser(ctx, "janedoe"), nil)
	is(t, s.DeleteUser(ctx, "janedoe"), errdefs.ErrNotFound)
	_, err = s.UserByName(ctx, "janedoe")
	is(t, err, errdefs.ErrNotFound)
	if again, err := s.AddUser(ctx, want, account.Email{Address: "jane@example.com"}); err != nil || again.ID == want.ID {
		t.Errorf("the address of a user who has gone is free, its ID is not: %+v %v", again, err)
	}
}

func updates(t *testing.T, s account.Store) {
	ctx := t.Context()
	before := add(t, s, "janedoe")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := s.UpdateUser(ctx, "janedoe", func(u *account.User) error {
				u.Company += "x"
				u.ID, u.Name, u.Joined = 99, "other", time.Time{}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after, err := s.UserByName(ctx, "janedoe")
	is(t, err, nil)
	before.Company = "xxxxxxxxxxxxxxxxxxxx"
	if after != before {
		t.Errorf("%+v, want %+v", after, before)
	}
	stop := errors.New("stop")
	_, err = s.UpdateUser(ctx, "janedoe", func(u *account.User) error { u.Company = "y"; return stop })
	is(t, err, stop)
	if u, err := s.UserByName(ctx, "janedoe"); err != nil || u != before {
		t.Errorf("a change that erred was kept: %+v %v", u, err)
	}
	_, err = s.UpdateUser(ctx, "nobody", func(*account.User) error { return nil })
	is(t, err, errdefs.ErrNotFound)
	got, err := s.UpdateUser(ctx, "janedoe", func(u *account.User) error { u.Active, u.PasswordHash = false, "new"; return nil })
	if err != nil || got.Active || got.PasswordHash != "new" {
		t.Errorf("%+v %v", got, err)
	}
}

func once(t *testing.T, s account.Store) {
	ctx := t.Context()
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := "janedoe"
			if i%2 == 1 {
				name = fmt.Sprintf("jane%d", i)
			}
			_, err := s.AddUser(ctx, account.User{Name: name}, account.Email{Address: "jane@example.com"})
			switch {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, errdefs.ErrAlreadyExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d users with one address", made.Load())
	}
	if list, err := s.ListUsers(ctx, "", 10); err != nil || len(list) != 1 {
		t.Errorf("half-made users: %+v %v", list, err)
	}
	_, err := s.AddUser(ctx, account.User{Name: "other"}, account.Email{Address: "JANE@example.com"})
	is(t, err, errdefs.ErrAlreadyExists)
}

func emails(t *testing.T, s account.Store) {
	ctx := t.Context()
	add(t, s, "janedoe")
	add(t, s, "adam")
	is(t, s.AddEmail(ctx, "janedoe", account.Email{Address: "b@example.com", Primary: true}), nil)
	is(t, s.AddEmail(ctx, "janedoe", account.Email{Address: "A@example.com", Verified: true}), nil)
	is(t, s.AddEmail(ctx, "adam", account.Email{Address: "B@example.com"}), errdefs.ErrAlreadyExists)
	is(t, s.AddEmail(ctx, "nobody", account.Email{Address: "c@example.com"}), errdefs.ErrNotFound)
	check := func(want ...account.Email) {
		t.Helper()
		if got, err := s.EmailsOf(ctx, "janedoe"); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v %v, want %+v", got, err, want)
		}
	}
	check(account.Email{Address: "janedoe@example.com", Primary: true},
		account.Email{Address: "A@example.com", Verified: true}, account.Email{Address: "b@example.com"})
	if e, err := s.VerifyEmail(ctx, "janedoe", "B@EXAMPLE.com"); err != nil || e != (account.Email{Address: "b@example.com", Verified: true}) {
		t.Errorf("%+v %v", e, err)
	}
	if e, err := s.MakePrimary(ctx, "janedoe", "b@example.com"); err != nil || e != (account.Email{Address: "b@example.com", Verified: true, Primary: true}) {
		t.Errorf("%+v %v", e, err)
	}
	check(account.Email{Address: "b@example.com", Verified: true, Primary: true},
		account.Email{Address: "A@example.com", Verified: true}, account.Email{Address: "janedoe@example.com"})
	is(t, s.DeleteEmail(ctx, "janedoe", "B@example.com"), errdefs.ErrFailedPrecondition)
	is(t, s.DeleteEmail(ctx, "adam", "a@example.com"), errdefs.ErrNotFound)
	is(t, s.DeleteEmail(ctx, "janedoe", "a@example.com"), nil)
	is(t, s.DeleteEmail(ctx, "janedoe", "a@example.com"), errdefs.ErrNotFound)
	for _, f := range []func(context.Context, string, string) (account.Email, error){s.VerifyEmail, s.MakePrimary} {
		_, err := f(ctx, "janedoe", "adam@example.com")
		is(t, err, errdefs.ErrNotFound)
	}
	check(account.Email{Address: "b@example.com", Verified: true, Primary: true}, account.Email{Address: "janedoe@example.com"})
	if got, err := s.EmailsOf(ctx, "nobody"); err != nil || len(got) != 0 {
		t.Errorf("%+v %v", got, err)
	}
}

func clients(t *testing.T, s account.Store) {
	ctx := t.Context()
	want := account.Client{ID: "b", SecretHash: "h", Name: "App", Description: "does", RedirectURIs: []string{"https://my.app/done", "http://x/?a=b"}, Created: moment}
	is(t, s.AddClient(ctx, want), nil)
	is(t, s.AddClient(ctx, want), errdefs.ErrAlreadyExists)
	is(t, s.AddClient(ctx, account.Client{ID: "a", Created: moment}), nil)
	got, err := s.ClientByID(ctx, "b")
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || got.Public() {
		t.Errorf("%+v %v", got, err)
	}
	_, err = s.ClientByID(ctx, "c")
	is(t, err, errdefs.ErrNotFound)
	list, err := s.ListClients(ctx)
	if err != nil || len(list) != 2 || list[0].ID != "a" || !list[0].Public() || list[1].ID != "b" {
		t.Errorf("%+v %v", list, err)
	}
	is(t, s.AddToken(ctx, account.Token{Hash: "1", Kind: account.Access, Client: "b"}, account.Token{Hash: "2", Kind: account.Access, Client: "a"}), nil)
	is(t, s.DeleteClient(ctx, "b"), nil)
	is(t, s.DeleteClient(ctx, "b"), errdefs.ErrNotFound)
	_, err = s.TokenByHash(ctx, account.Access, "1")
	is(t, err, errdefs.ErrNotFound)
	_, err = s.TokenByHash(ctx, account.Access, "2")
	is(t, err, nil)
}

func tokens(t *testing.T, s account.Store) {
	ctx := t.Context()
	want := account.Token{
		Hash: "1", Kind: account.Code, User: "janedoe", Proof: credential.Password, Client: "app", Grant: "g", Scope: "profile_read email_read",
		Audience: "https://my.app/", Challenge: "c", Created: moment, Expires: moment.Add(time.Minute),
	}
	is(t, s.AddToken(ctx, want, account.Token{Hash: "2", Kind: account.Refresh, User: "janedoe", Created: moment.Add(time.Second)}), nil)
	is(t, s.AddToken(ctx, account.Token{Hash: "3", Kind: account.Hub}, want), errdefs.ErrAlreadyExists)
	_, err := s.TokenByHash(ctx, account.Hub, "3")
	is(t, err, errdefs.ErrNotFound) // all or none
	if got, err := s.TokenByHash(ctx, account.Code, "1"); err != nil || got != want {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
	_, err = s.TokenByHash(ctx, account.Access, "1")
	is(t, err, errdefs.ErrNotFound)
	list, err := s.TokensOf(ctx, "janedoe")
	if err != nil || len(list) != 2 || list[0] != want || list[1].Hash != "2" {
		t.Errorf("%+v %v", list, err)
	}
}

func usedOnce(t *testing.T, s account.Store) {
	ctx := t.Context()
	want := account.Token{Hash: "1", Kind: account.Hub, Grant: "g", Audience: "foo/bar", Created: moment}
	is(t, s.AddToken(ctx, want), nil)
	var good atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := s.UseToken(ctx, account.Hub, "1", moment.Add(time.Second))
			if err == nil {
				good.Add(1)
				if !got.Used.IsZero() {
					t.Errorf("the first use is told a use: %+v", got)
				}
			} else if !errors.Is(err, errdefs.ErrFailedPrecondition) || got.Grant != "g" || got.Used.IsZero() {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
	wg.Wait()
	if good.Load() != 1 {
		t.Errorf("used %d times", good.Load())
	}
	want.Used = moment.Add(time.Second)
	if got, err := s.TokenByHash(ctx, account.Hub, "1"); err != nil || got != want {
		t.Errorf("%+v %v", got, err)
	}
	_, err := s.UseToken(ctx, account.Code, "1", moment)
	is(t, err, errdefs.ErrNotFound)
}

func revocation(t *testing.T, s account.Store) {
	ctx := t.Context()
	add(t, s, "janedoe")
	add(t, s, "adam")
	all := []account.Token{
		{Hash: "1", Kind: account.Code, User: "janedoe", Grant: "g"}, {Hash: "2", Kind: account.Access, User: "janedoe", Grant: "g"},
		{Hash: "3", Kind: account.Access, User: "janedoe", Grant: "h"}, {Hash: "4", Kind: account.Access, User: "adam", Grant: "i"},
		{Hash: "5", Kind: account.Identity, User: "adam"},
	}
	is(t, s.AddToken(ctx, all...), nil)
	left := func(want string) {
		t.Helper()
		got := ""
		for _, tok := range all {
			if _, err := s.TokenByHash(ctx, tok.Kind, tok.Hash); err == nil {
				got += tok.Hash
			}
		}
		if got != want {
			t.Errorf("left %q, want %q", got, want)
		}
	}
	is(t, s.RevokeGrant(ctx, "g"), nil)
	left("345")
	is(t, s.RevokeGrant(ctx, ""), nil) // names no grant
	left("345")
	is(t, s.RevokeUser(ctx, "janedoe"), nil)
	left("45")
	is(t, s.RevokeUser(ctx, ""), nil)
	is(t, s.DeleteUser(ctx, "adam"), nil)
	left("")
}

func sweep(t *testing.T, s account.Store) {
	ctx := t.Context()
	is(t, s.AddToken(ctx,
		account.Token{Hash: "1", Kind: account.Code, Expires: moment}, account.Token{Hash: "2", Kind: account.Code, Expires: moment.Add(time.Hour)},
		account.Token{Hash: "3", Kind: account.Code}, account.Token{Hash: "4", Kind: account.Hub, Expires: moment}), nil)
	_, err := s.UseToken(ctx, account.Code, "3", moment)
	is(t, err, nil)
	is(t, s.SweepTokens(ctx, account.Code, moment), nil)
	_, err = s.TokenByHash(ctx, account.Code, "1")
	is(t, err, nil)
	is(t, s.SweepTokens(ctx, account.Code, moment.Add(time.Second)), nil)
	for hash, class := range map[string]error{"1": errdefs.ErrNotFound, "2": nil, "3": errdefs.ErrNotFound} {
		_, err := s.TokenByHash(ctx, account.Code, hash)
		is(t, err, class)
	}
	_, err = s.TokenByHash(ctx, account.Hub, "4")
	is(t, err, nil)
}
