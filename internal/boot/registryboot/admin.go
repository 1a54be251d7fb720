package registryboot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"longshore/internal/boot/registryconfig"
	"longshore/internal/driver/keyring"
	"longshore/internal/service/auth"
	"longshore/internal/service/auth/accounts"
	"longshore/internal/service/auth/oauth"
)

// People is what administrators do with accounts and applications.
type People struct {
	Accounts *accounts.Service
	OAuth    *oauth.Service
}

// Administer opens the accounts of a configuration, or of the embedded registry in a folder, for a command. A registry
// that runs with them may go on.
func Administer(ctx context.Context, path string, f func(*People) error) (err error) {
	cfg, err := named(path)
	if err != nil {
		return err
	}
	if cfg.HTTP.Auth == nil || cfg.HTTP.Auth.Accounts == nil {
		return errors.New("http.auth.accounts is not switched on in the configuration")
	}
	s := &shelves{shared: cfg.Storage.CacheDriver.Postgres()}
	defer func() { err = errors.Join(err, s.Close()) }()
	root := filepath.Join(cfg.Storage.RootDirectory, ours)
	if cfg.Storage.RootDirectory != "" {
		if err := os.MkdirAll(root, 0o700); err != nil {
			return fmt.Errorf("storage.rootDirectory: %w", err)
		}
	}
	if err := s.openAccounts(ctx, cfg.Storage, root); err != nil {
		return err
	}
	r := &Registry{cfg: cfg, shelves: s, log: discard()}
	if r.auth, err = auth.New(s.accounts, r.authConfig(cfg.HTTP)); err != nil {
		return err
	}
	r.openAccounts(cfg.HTTP.Auth.Accounts)
	return f(&People{r.own.accounts, r.own.oauth})
}

// named is the configuration of a file, or of the embedded registry whose content is in a folder.
func named(path string) (*registryconfig.Config, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return Embedded(path, "0"), nil
	}
	cfg, _, err := registryconfig.Load(path)
	return cfg, err
}

// RotateKeys makes the token server sign with another key from now on, and returns its ID. forget makes tokens of the
// keys before worthless at once.
func RotateKeys(path string, forget bool) (string, error) {
	cfg, err := named(path)
	if err != nil {
		return "", err
	}
	if cfg.HTTP.Auth == nil || cfg.HTTP.Auth.Token == nil {
		return "", errors.New("http.auth.token is not switched on in the configuration")
	}
	ring, err := openRing(cfg, nil)
	if err != nil {
		return "", err
	}
	var k *keyring.Key
	if k, err = ring.Rotate(forget); err != nil {
		return "", err
	}
	return k.ID, nil
}
