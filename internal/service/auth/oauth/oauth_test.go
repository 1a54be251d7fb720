package oauth

import (
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"longshore/internal/core/account"
	"longshore/internal/driver/sqlauth"
)

func open(t *testing.T) (*Service, account.Store) {
	t.Helper()
	store, err := sqlauth.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "auth.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if _, err := store.AddUser(t.Context(), account.User{Name: "janedoe", Active: true}, account.Email{Address: "j@example.com"}); err != nil {
		t.Fatal(err)
	}
	return New(store, nil), store
}

func TestRedirectURIs(t *testing.T) {
	for uri, ok := range map[string]bool{
		"https://my.app/auth_complete/": true, "https://my.app/?a=b": true, "https://my.app": true, "http://localhost:8000/cb": true,
		"http://127.0.0.1/cb": true, "http://[::1]:99/cb": true, "com.example.app:/cb": true, "com.example.app://cb/": true,
		"http://my.app/": false, "//my.app/": false, "/cb": false, "": false, "javascript:alert(1)": false, "data:text/html,x": false,
		"https://my.app/#x": false, "https://my.app/#": false, "https://user@my.app/": false, "https:///cb": false, "https:my.app": false,
		"https://my.app/a b": false, "https://my.app/;script-src": false, "https://my.app\\@evil/": false, "app:/cb": false, "file:///etc": false,
		"http://localhost.evil.example/": false, "https://my.app/\r\nx": false,
	} {
		if err := checkRedirect(uri); (err == nil) != ok {
			t.Errorf("%q: %v", uri, err)
		}
	}
}

func FuzzRedirectURI(f *testing.F) {
	for _, s := range []string{"https://my.app/a?b=c", "com.example.app:/cb", "http://localhost/", "https://a;b/", "x:y"} {
		f.Add(s, "state", "code")
	}
	f.Fuzz(func(t *testing.T, uri, state, code string) {
		if checkRedirect(uri) != nil {
			return
		}
		a := Authorization{RedirectURI: uri, State: state}
		before, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		after, err := url.Parse(a.Agreed(code))
		if err != nil {
			t.Fatalf("%q leads to %q: %v", uri, a.Agreed(code), err)
		}
		if after.Scheme != before.Scheme || after.Host != before.Host || after.Path != before.Path || strings.ContainsAny(a.Agreed(code), "\r\n \"'<>") {
			t.Fatalf("%q leads to %q", uri, after)
		}
		if before.RawQuery == "" && (after.Query().Get("code") != code || after.Query().Get("state") != state) {
			t.Fatalf("%q does not carry %q and %q", after, code, state)
		}
	})
}

// TestOneOfManyExchanges: of all who come with a code or a refresh token at once one gets something, and in the end nobody
// has it: it was a replay.
func TestOneOfManyExchanges(t *testing.T) {
	s, _ := open(t)
	c, secret, err := s.AddClient(t.Context(), NewClient{Name: "App", RedirectURIs: []string{"https://my.app/"}})
	if err != nil {
		t.Fatal(err)
	}
	who := ClientCredentials{c.ID, secret}
	agree := func() string {
		t.Helper()
		a, err := s.Check(t.Context(), Request{ClientID: c.ID, ResponseType: "code"})
		if err != nil {
			t.Fatal(err)
		}
		code, err := s.Agree(t.Context(), a, "janedoe")
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	race := func(f func() (Tokens, error)) {
		t.Helper()
		var wg sync.WaitGroup
		var got atomic.Int32
		access := make([]string, 8)
		for i := range access {
			wg.Go(func() {
				tokens, err := f()
				var wrong *Error
				switch {
				case err == nil:
					got.Add(1)
					access[i] = tokens.Access
				case !errors.As(err, &wrong) || wrong.Code != "invalid_grant":
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got.Load() > 1 {
			t.Errorf("%d got tokens", got.Load())
		}
		for _, a := range access {
			if _, err := s.Access(t.Context(), a); !errors.Is(err, ErrAccess) {
				t.Errorf("a replay leaves an access token: %v", err)
			}
		}
	}
	code := agree()
	race(func() (Tokens, error) { return s.Exchange(t.Context(), who, Exchange{Code: code}) })
	tokens, err := s.Exchange(t.Context(), who, Exchange{Code: agree()})
	if err != nil {
		t.Fatal(err)
	}
	race(func() (Tokens, error) { return s.Refresh(t.Context(), who, Refresh{Token: tokens.Refresh}) })
}

func TestClients(t *testing.T) {
	s, _ := open(t)
	for _, n := range []NewClient{{}, {Name: "x"}, {Name: "x", RedirectURIs: []string{"nowhere"}}, {Name: strings.Repeat("x", 201), RedirectURIs: []string{"https://a/"}}} {
		if _, _, err := s.AddClient(t.Context(), n); err == nil {
			t.Errorf("%+v is registered", n)
		}
	}
	c, secret, err := s.AddClient(t.Context(), NewClient{Name: "x", RedirectURIs: []string{"https://a/"}, Public: true})
	if err != nil || secret != "" || !c.Public() {
		t.Errorf("%+v %q %v", c, secret, err)
	}
	if list, err := s.Clients(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%+v %v", list, err)
	}
}
