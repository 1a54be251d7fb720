package registryboot

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"longshore/internal/boot/registryconfig"
	"longshore/internal/driver/keyring"
	"longshore/internal/server/accountsapi"
	"longshore/internal/server/registryapi"
	"longshore/internal/server/tokenapi"
	"longshore/internal/service/auth"
	"longshore/internal/service/auth/accounts"
	"longshore/internal/service/auth/oauth"
	"longshore/internal/service/auth/token"
)

// keysFolder holds the keys of the token server, beside the index.
const keysFolder = "token-keys"

// own is what we say ourselves about who somebody is; what is switched off is nil.
type own struct {
	ring     *keyring.Ring
	accounts *accounts.Service
	oauth    *oauth.Service
}

// openPeople builds all that is about who somebody is: the chain that authenticates, and what the configuration switches
// on of accounts, OAuth2 and tokens.
func (r *Registry) openPeople() (err error) {
	a := r.cfg.HTTP.Auth
	if a != nil && a.Token != nil {
		if r.own.ring, err = openRing(r.cfg, r.options.Now); err != nil {
			return err
		}
	}
	if r.auth, err = auth.New(r.shelves.accounts, r.authConfig(r.cfg.HTTP)); err != nil {
		return err
	}
	if r.own.ring != nil {
		r.mountTokens(a.Token)
	}
	if a != nil && a.Accounts != nil {
		r.openAccounts(a.Accounts)
		r.mountAccounts()
	}
	return nil
}

// openAccounts builds what looks after accounts and applications.
func (r *Registry) openAccounts(cfg *registryconfig.Accounts) {
	store, now := r.shelves.accounts, r.options.Now
	r.own.accounts = accounts.New(store, store, accounts.Config{Registration: cfg.Registration, Reserved: r.auth.Knows, Now: now})
	r.own.oauth = oauth.New(store, now)
}

func (r *Registry) mountAccounts() {
	h := r.cfg.HTTP
	r.mounts = append(r.mounts, registryapi.Mount{Path: accountsapi.Path, Handler: accountsapi.New(r.auth, r.own.accounts, r.own.oauth, accountsapi.Options{
		Logger: r.log, Subject: registryapi.NoteSubject, ExternalURL: strings.TrimSuffix(h.ExternalURL, "/"),
		SecureCookies: h.TLS != nil || strings.HasPrefix(h.ExternalURL, "https://") || on(h.Auth.SecureSession),
	})})
}

// openRing opens the keys of the token server.
func openRing(cfg *registryconfig.Config, now func() time.Time) (*keyring.Ring, error) {
	t, dir := cfg.HTTP.Auth.Token, cfg.HTTP.Auth.Token.KeysDirectory
	if dir == "" {
		dir = filepath.Join(cfg.Storage.RootDirectory, ours, keysFolder)
	}
	ring, err := keyring.Open(dir, keyring.Config{Every: t.RotateAfter, Overlap: t.Expiry + time.Minute, Now: now})
	if err != nil {
		return nil, fmt.Errorf("http.auth.token: %w", err)
	}
	return ring, nil
}

// signers gives the ring's keys to the service, which knows no drivers.
type signers struct{ ring *keyring.Ring }

// Signer is the key to sign with now.
func (s signers) Signer() (token.Key, error) {
	k, err := s.ring.Signer()
	if err != nil {
		return token.Key{}, err
	}
	return token.Key{ID: k.ID, Private: k.Private, Certificate: k.Certificate}, nil
}

func (r *Registry) mountTokens(t *registryconfig.Token) {
	service := token.New(r.auth, signers{r.own.ring}, r.shelves.accounts, token.Config{Service: t.Service, Issuer: t.Issuer, Life: t.Expiry, Now: r.options.Now})
	h := tokenapi.New(r.auth, service, tokenapi.Options{Logger: r.log, Subject: registryapi.NoteSubject, Realm: t.Service})
	for _, path := range tokenapi.Paths {
		r.mounts = append(r.mounts, registryapi.Mount{Path: path, Handler: h})
	}
}
