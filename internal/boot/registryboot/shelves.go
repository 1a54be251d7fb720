package registryboot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"longshore/internal/boot/registryconfig"
	"longshore/internal/core/account"
	"longshore/internal/core/blob"
	"longshore/internal/core/credential"
	"longshore/internal/core/graph"
	"longshore/internal/core/registryindex"
	"longshore/internal/driver/blobdisk"
	"longshore/internal/driver/blobs3"
	"longshore/internal/driver/rootlock"
	"longshore/internal/driver/sqlauth"
	"longshore/internal/driver/sqlmeta"
	"longshore/internal/service/registry"
)

// shelves are the stores, the index and the accounts of a configuration.
type shelves struct {
	blobs      blob.Store
	placements []registry.Placement
	index      registryindex.Index
	graph      graph.Store
	accounts   people
	// shared says that other processes may use the same index.
	shared  bool
	closers []io.Closer // closed last first
}

// people is the store of all that proves who somebody is.
type people interface {
	credential.Store
	account.Store
}

// ours is the folder below storage.rootDirectory.
const ours = "_longshore"

// use says how the storage is opened.
type use int

const (
	// exclusively: one process at a time, unless the index is shared.
	exclusively use = iota
	// reading: beside the process that has it.
	reading
)

type closer func() error

func (c closer) Close() error { return c() }

func openShelves(ctx context.Context, cfg registryconfig.Global, how use) (*shelves, error) {
	s := &shelves{shared: cfg.CacheDriver.Postgres()}
	if err := s.open(ctx, cfg, how); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *shelves) open(ctx context.Context, cfg registryconfig.Global, how use) (err error) {
	root := filepath.Join(cfg.RootDirectory, ours)
	if cfg.RootDirectory != "" {
		if err := os.MkdirAll(root, 0o700); err != nil {
			return fmt.Errorf("storage.rootDirectory: %w", err)
		}
		if !s.shared && how == exclusively {
			lock, err := rootlock.Acquire(root)
			if err != nil {
				return fmt.Errorf("storage.rootDirectory: %w", err)
			}
			s.closers = append(s.closers, closer(lock.Release))
		}
	}
	if err := s.openIndex(ctx, cfg, root); err != nil {
		return err
	}
	if s.blobs, err = openStore(ctx, &cfg.Storage); err != nil {
		return err
	}
	for _, route := range slices.Sorted(maps.Keys(cfg.SubPaths)) {
		store, err := openStore(ctx, cfg.SubPaths[route])
		if err != nil {
			return fmt.Errorf("storage.subPaths.%s: %w", route, err)
		}
		name := strings.Trim(route, "/")
		s.placements = append(s.placements, registry.Placement{Prefix: name, Name: name, Store: store})
	}
	return nil
}

func (s *shelves) openIndex(ctx context.Context, cfg registryconfig.Global, root string) error {
	var index *sqlmeta.Index
	var err error
	if s.shared {
		index, err = sqlmeta.OpenPostgres(ctx, cfg.CacheDriver.URL)
	} else {
		index, err = sqlmeta.OpenSQLite(ctx, filepath.Join(root, "index.db"))
	}
	if err != nil {
		return err
	}
	s.index, s.graph, s.closers = index, index.Graph(), append(s.closers, index)
	return s.openAccounts(ctx, cfg, root)
}

// openAccounts opens the store of people, which several processes may have at once.
func (s *shelves) openAccounts(ctx context.Context, cfg registryconfig.Global, root string) (err error) {
	var accounts *sqlauth.Store
	if s.shared {
		accounts, err = sqlauth.OpenPostgres(ctx, cfg.CacheDriver.URL)
	} else {
		accounts, err = sqlauth.OpenSQLite(ctx, filepath.Join(root, "auth.db"))
	}
	if err != nil {
		return err
	}
	s.accounts, s.closers = accounts, append(s.closers, accounts)
	return nil
}

// openStore opens the blobs of one store.
func openStore(ctx context.Context, cfg *registryconfig.Storage) (blob.Store, error) {
	if cfg.StorageDriver != nil {
		return blobs3.New(ctx, bucket(*cfg.StorageDriver))
	}
	return blobdisk.New(filepath.Join(cfg.RootDirectory, ours))
}

// bucket is a storageDriver section in the driver's words.
func bucket(d registryconfig.S3) blobs3.Config {
	c := blobs3.Config{
		Region: d.Region, Bucket: d.Bucket, Prefix: d.RootDirectory, PathStyle: on(d.ForcePathStyle),
		AccessKey: d.AccessKey, SecretKey: d.SecretKey, SessionToken: d.SessionToken, Insecure: d.Secure != nil && !*d.Secure,
	}
	c.Endpoint = d.RegionEndpoint
	if rest, ok := strings.CutPrefix(c.Endpoint, "http://"); ok {
		c.Endpoint, c.Insecure = rest, true
	}
	c.Endpoint = strings.TrimSuffix(strings.TrimPrefix(c.Endpoint, "https://"), "/")
	if d.SkipVerify {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // that is what skipverify asks for
		c.Transport = transport
	}
	return c
}

// Close closes everything, the last first.
func (s *shelves) Close() error {
	if s == nil {
		return nil
	}
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i].Close())
	}
	s.closers = nil
	return errors.Join(errs...)
}
