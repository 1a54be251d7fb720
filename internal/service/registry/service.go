package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
)

// Service is the registry. Make it with New, run its background with Run. It owns neither index nor stores.
type Service struct {
	index     registryindex.Index
	stores    []Placement // longest prefix first; the last is the default store with prefix ""
	cfg       Config
	plan      atomic.Pointer[plan]
	replanned chan struct{} // one slot: Run is to look at the plan

	manifests *shelf[Manifest]
	links     *shelf[registryindex.Blob]
	made      *made
	pulls     *pulls
	activity  activity
	// collecting is held by the one collection that runs.
	collecting sync.Mutex
	swept      time.Time // last sweep of bytes without a row, guarded by collecting
}

// New settles defaults and contradictions; it starts nothing. blobs is the default store.
func New(index registryindex.Index, blobs blob.Store, cfg Config) (*Service, error) {
	if err := cfg.settle(); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	s := &Service{
		index: index, stores: arrange(cfg.Placements, blobs), cfg: cfg, replanned: make(chan struct{}, 1),
		made: newMade(), pulls: newPulls(),
	}
	if err := s.Reschedule(cfg.GC); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if !cfg.Shared {
		s.manifests = newShelf(manifestShelf, func(m Manifest) int { return len(m.Payload) + 300 })
		s.links = newShelf(linkShelf, func(registryindex.Blob) int { return 200 })
	}
	return s, nil
}

// Bounds of what is remembered, in bytes.
const (
	manifestShelf = 16 << 20
	linkShelf     = 8 << 20
)

func (c *Config) settle() error {
	if c.UploadTTL <= 0 {
		c.UploadTTL = 24 * time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	seen := map[string]bool{"": true}
	for _, p := range c.Placements {
		if seen[p.Name] {
			return fmt.Errorf("two stores are named %q", p.Name)
		}
		if _, err := distribution.ParseRepoName(p.Prefix); err != nil || p.Store == nil {
			return fmt.Errorf("placement %q: needs a prefix like a repository name, and a store", p.Prefix)
		}
		seen[p.Name] = true
	}
	return nil
}

// storeOf is the store of a repository.
func (s *Service) storeOf(repo distribution.RepoName) Placement {
	for _, p := range s.stores {
		if p.Prefix == "" || string(repo) == p.Prefix || strings.HasPrefix(string(repo), p.Prefix+"/") {
			return p
		}
	}
	return s.stores[len(s.stores)-1]
}

// storeNamed is the store that an index row names.
func (s *Service) storeNamed(name string) (blob.Store, error) {
	for _, p := range s.stores {
		if p.Name == name {
			return p.Store, nil
		}
	}
	return nil, fmt.Errorf("the index names the blob store %q, which is not configured: %w", name, errdefs.ErrInternal)
}

// arrange puts the longest prefix first and the default store last. A placement whose store lies where another's does
// (zot allows subPaths of one rootDirectory) shares its name: under two names, the sweep of bytes without a row would
// take for the one's garbage what the other's rows keep.
func arrange(placements []Placement, blobs blob.Store) []Placement {
	list := append([]Placement(nil), placements...)
	names := map[string]string{placeOf(blobs): ""}
	for i, p := range list {
		place := placeOf(p.Store)
		if name, ok := names[place]; ok && place != "" {
			list[i].Name = name
			continue
		}
		names[place] = p.Name
	}
	for i := 1; i < len(list); i++ {
		for j := i; j > 0 && len(list[j].Prefix) > len(list[j-1].Prefix); j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
	return append(list, Placement{Store: blobs})
}

func placeOf(s blob.Store) string {
	if p, ok := s.(blob.Placed); ok {
		return p.Place()
	}
	return ""
}

// distinct lists every store once.
func (s *Service) distinct() []Placement {
	var list []Placement
	seen := map[string]bool{}
	for _, p := range s.stores {
		if !seen[p.Name] {
			list = append(list, p)
		}
		seen[p.Name] = true
	}
	return list
}

// Run writes statistics and settles stores every second, sweeps resting uploads and collects garbage as configured, until ctx ends; then it
// writes the last statistics.
func (s *Service) Run(ctx context.Context) error {
	flush := time.NewTicker(time.Second)
	defer flush.Stop()
	collect := time.NewTicker(s.plan.Load().Interval)
	defer collect.Stop()
	var background sync.WaitGroup
	defer background.Wait()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			s.settle(last, 0)
			return s.writePulls(last)
		case <-flush.C:
			background.Go(func() { s.settle(ctx, settleAfter) })
			if err := s.writePulls(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Logger.Warn("pull statistics are not written", "error", err)
			}
		case <-s.replanned:
			collect.Reset(s.plan.Load().Interval)
		case <-collect.C:
			background.Go(func() { s.scheduled(ctx) })
		}
	}
}

// settleAfter is how long a store's log rests before it is emptied though it is not full.
const settleAfter = 5 * time.Second

// settle shortens the stores' logs. What cannot be settled now stays in the log and is durable there.
func (s *Service) settle(ctx context.Context, rested time.Duration) {
	for _, p := range s.distinct() {
		if store, ok := p.Store.(blob.Settler); ok {
			if err := store.Settle(ctx, rested); err != nil {
				s.cfg.Logger.Warn("the blob store's log is not settled", "error", err)
			}
		}
	}
}

// fault turns an error of index or store into one for the client; notFound is the answer for that class.
func (s *Service) fault(err error, notFound error) error {
	var known *distribution.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errdefs.IsNotFound(err) && notFound != nil:
		return notFound
	case errdefs.IsResourceExhausted(err):
		return distribution.TooMany("the registry's limit of repositories is reached")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return &distribution.Error{Code: distribution.CodeUnknown, Class: internalError{err}, Message: "the registry failed; its log says why"}
}

// internalError keeps the cause for the log behind the class that the client is told.
type internalError struct{ cause error }

func (e internalError) Error() string   { return e.cause.Error() }
func (e internalError) Unwrap() []error { return []error{errdefs.ErrInternal, e.cause} }

// uploadKey binds an upload to its repository: an ID is worth nothing in another.
func uploadKey(repo distribution.RepoName, id string) string {
	sum := sha256.Sum256([]byte(repo))
	return id + "-" + hex.EncodeToString(sum[:8])
}

// validID accepts a UUID in lower case.
func validID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f':
		default:
			return false
		}
	}
	return true
}

// manifestAsBlob finds a manifest by digest, for clients that ask for one at the blobs' address.
func (s *Service) manifestAsBlob(ctx context.Context, repo distribution.RepoName, d digest.Digest) (Manifest, error) {
	return s.find(ctx, repo, distribution.Reference{Digest: d})
}
