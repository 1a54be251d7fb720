package ctdstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

const (
	// gcQuiet is how long the store must be free of deletions before a collection starts, so that a burst of them
	// costs one collection and the answer to the request that caused it is long out.
	gcQuiet = 500 * time.Millisecond
	// gcLatest bounds how long a steady stream of deletions can put a collection off.
	gcLatest = 5 * time.Second
)

// Collect asks for a garbage collection soon. It never blocks.
func (s *Store) Collect() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// Run collects garbage after deletions, and once at start, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	if err := s.suspectSnapshots(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("snapshots of a dead engine may stay", "error", err)
	}
	s.Collect()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.dirty:
		}
		if !s.settle(ctx) {
			return nil
		}
		start := time.Now()
		if err := s.GarbageCollect(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			s.log.Error("garbage collection failed", "error", err)
			continue
		}
		s.log.Debug("garbage collected", "took", time.Since(start))
	}
}

// suspectSnapshots has the first collection look through the snapshotter. The database knows only in memory that a snapshot
// was removed from it and is still to be removed there; a removal since the start makes it look.
func (s *Store) suspectSnapshots(ctx context.Context) error {
	const key = "suspect"
	if _, err := s.snaps.Prepare(ctx, key, ""); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("prepare snapshot: %w", err)
	}
	if err := s.snaps.Remove(ctx, key); err != nil {
		return fmt.Errorf("remove snapshot: %w", err)
	}
	return nil
}

// settle waits for a pause between deletions.
func (s *Store) settle(ctx context.Context) bool {
	latest := time.NewTimer(gcLatest)
	defer latest.Stop()
	quiet := time.NewTimer(gcQuiet)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-latest.C:
			return true
		case <-quiet.C:
			return true
		case <-s.dirty:
			quiet.Reset(gcQuiet)
		}
	}
}

// GarbageCollect removes what no image, lease or root label reaches, now.
func (s *Store) GarbageCollect(ctx context.Context) error {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	if _, err := s.db.GarbageCollect(inNamespace(ctx)); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return nil
}

// sweep removes what a killed process left: operation leases and half-written blobs. Directories of removed snapshots
// go with the first collection.
func (s *Store) sweep(ctx context.Context) error {
	stale, err := s.leases.List(ctx, `labels."`+leaseLabel+`"`)
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for _, l := range stale {
		if err := s.leases.Delete(ctx, l); err != nil {
			return fmt.Errorf("delete stale lease %s: %w", l.ID, err)
		}
	}
	ingests, err := s.content.ListStatuses(ctx)
	if err != nil {
		return fmt.Errorf("list ingests: %w", err)
	}
	for _, st := range ingests {
		if err := s.content.Abort(ctx, st.Ref); err != nil {
			return fmt.Errorf("abort stale ingest %s: %w", st.Ref, err)
		}
	}
	// A half-written blob that the database does not name would be gone on with by the next writer that gets its name.
	if err := errors.Join(empty(filepath.Join(s.root, "content", "ingest")), empty(s.incomingDir())); err != nil {
		return fmt.Errorf("remove half-written blobs: %w", err)
	}
	if c, ok := s.backend.(snapshots.Cleaner); ok {
		if err := c.Cleanup(inNamespace(ctx)); err != nil && !errdefs.IsNotFound(err) { // a new store has nothing at all
			s.log.Warn("snapshot directories not cleaned", "error", err)
		}
	}
	if len(stale)+len(ingests) > 0 {
		s.log.Info("swept what a dead engine left", "leases", len(stale), "ingests", len(ingests))
	}
	return nil
}

// empty removes everything in a directory.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
