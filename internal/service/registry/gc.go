package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
	"longshore/internal/core/retention"
)

// How a collection goes: retention first, which makes manifests go; then links that no manifest needs; then blobs
// without a link; then resting uploads, empty repositories and, once a day, bytes that have no row (crashes leave them).
// Nothing is stopped meanwhile. Every step looks in a read, and deletes in short changes that look again. Whatever was
// pushed, mounted, or looked at with HEAD within the grace period stays, and an open reader keeps its bytes.

const (
	// scanBatch is how many rows one look finds, dropBatch how many are deleted before the collection rests.
	scanBatch, dropBatch = 512, 128
	// sweepEvery is how often bytes without a row are looked for; it reads the names of all blobs.
	sweepEvery = 24 * time.Hour
)

// collection is one run.
type collection struct {
	*Service
	retention *retention.Engine
	dry       bool
	now       time.Time
	before    time.Time // the grace period's beginning
	report    GCReport
}

// CollectGarbage applies retention, then drops unused links, unlinked blobs, resting uploads and empty repositories,
// while pushes and pulls go on. One runs at a time (class ErrConflict).
func (s *Service) CollectGarbage(ctx context.Context, o GCOptions) (GCReport, error) {
	if !s.collecting.TryLock() {
		return GCReport{}, fmt.Errorf("garbage is being collected already: %w", errdefs.ErrConflict)
	}
	defer s.collecting.Unlock()
	plan := s.plan.Load()
	delay := plan.Delay
	if o.Delay != nil {
		delay = *o.Delay
	}
	c := &collection{Service: s, retention: plan.retention, dry: o.DryRun, now: s.cfg.Now()}
	c.before = c.now.Add(-delay)
	steps := []struct {
		name string
		run  func(context.Context) error
	}{{"retention", c.retain}, {"links", c.dropLinks}, {"blobs", c.dropBlobs}, {"uploads", c.sweepUploads},
		{"repositories", c.dropRepositories}, {"bytes without a row", c.sweepBytes}}
	for _, step := range steps {
		if err := step.run(ctx); err != nil {
			return c.report, fmt.Errorf("collect garbage: %s: %w", step.name, err)
		}
	}
	s.activity.prune(c.now.Add(-s.cfg.UploadTTL))
	return c.report, nil
}

// spares keeps the links of a repository that is being pushed to: a push may take longer than the grace period.
func (c *collection) spares(l registryindex.Candidate) bool {
	return c.activity.since(l.Repo, c.before) && l.Blob.Added.After(c.now.Add(-c.cfg.UploadTTL))
}

func (c *collection) dropLinks(ctx context.Context) error {
	gone := map[digest.Digest]int{} // of a dry run
	var after registryindex.Candidate
	for {
		page, err := c.index.UnusedLinks(ctx, after, c.before, scanBatch)
		if err != nil {
			return err
		}
		var drop []registryindex.Candidate
		for _, l := range page {
			if !c.spares(l) {
				drop = append(drop, l)
			}
		}
		if c.dry {
			c.report.Links += len(drop)
			for _, l := range drop {
				c.line("unused link: %s in %s", l.Blob.Digest, l.Repo)
				if err := c.wouldGo(ctx, gone, l); err != nil {
					return err
				}
			}
		} else if err := c.dropLinkBatches(ctx, drop); err != nil {
			return err
		}
		if len(page) < scanBatch {
			return nil
		}
		after = page[len(page)-1]
	}
}

// wouldGo counts, in a dry run, a blob whose last link has been seen to go.
func (c *collection) wouldGo(ctx context.Context, gone map[digest.Digest]int, l registryindex.Candidate) error {
	d := l.Blob.Digest
	gone[d]++
	linking, err := c.index.Linking(ctx, l.Blob.Store, d, distribution.Page{N: gone[d] + 1})
	if err == nil && len(linking) == gone[d] {
		c.report.Blobs++
		c.report.Bytes += l.Blob.Size
		c.line("unlinked blob: %s, %d bytes", d, l.Blob.Size)
	}
	return err
}

func (c *collection) dropLinkBatches(ctx context.Context, drop []registryindex.Candidate) error {
	for len(drop) > 0 {
		started := time.Now()
		n := min(dropBatch, len(drop))
		dropped, err := c.index.DropLinks(ctx, drop[:n], c.before)
		for _, l := range drop[:n] {
			c.links.forget(l.Repo, l.Blob.Digest.String())
		}
		if err != nil {
			return err
		}
		c.report.Links += dropped
		drop = drop[n:]
		if err := rest(ctx, time.Since(started)); err != nil {
			return err
		}
	}
	return nil
}

func (c *collection) dropBlobs(ctx context.Context) error {
	for _, place := range c.distinct() {
		var after digest.Digest
		for {
			page, err := c.index.UnlinkedBlobs(ctx, place.Name, after, c.before, scanBatch)
			if err != nil {
				return err
			}
			for from := 0; from < len(page); from += dropBatch {
				started := time.Now()
				if err := c.dropBlobBatch(ctx, place, page[from:min(from+dropBatch, len(page))]); err != nil {
					return err
				}
				if err := rest(ctx, time.Since(started)); err != nil {
					return err
				}
			}
			if len(page) < scanBatch {
				break
			}
			after = page[len(page)-1].Digest
		}
	}
	return nil
}

// dropBlobBatch deletes rows, then bytes, while it holds the digests against pushes. A crash in between leaves bytes
// without a row, for the sweep.
func (c *collection) dropBlobBatch(ctx context.Context, place Placement, blobs []registryindex.Blob) error {
	if c.dry {
		c.report.Blobs += len(blobs)
		for _, b := range blobs {
			c.report.Bytes += b.Size
			c.line("unlinked blob: %s, %d bytes", b.Digest, b.Size)
		}
		return nil
	}
	ds := make([]digest.Digest, len(blobs))
	bySum := make(map[digest.Digest]registryindex.Blob, len(blobs))
	for i, b := range blobs {
		ds[i], bySum[b.Digest] = b.Digest, b
	}
	held, release, err := c.index.TryExclude(ctx, place.Name, ds)
	if err != nil {
		return err
	}
	defer release()
	mine := make([]registryindex.Blob, len(held))
	for i, d := range held {
		mine[i] = bySum[d]
	}
	dropped, err := c.index.DropBlobs(ctx, mine, c.before)
	if err != nil {
		return err
	}
	for _, b := range dropped {
		if err := place.Store.Delete(context.WithoutCancel(ctx), b.Digest); err != nil {
			return err
		}
		c.report.Blobs++
		c.report.Bytes += b.Size
	}
	return nil
}

func (c *collection) sweepUploads(ctx context.Context) error {
	if c.dry {
		return nil
	}
	var errs []error
	for _, place := range c.distinct() {
		n, err := place.Store.Sweep(ctx, c.now.Add(-c.cfg.UploadTTL))
		c.report.Uploads += n
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *collection) dropRepositories(ctx context.Context) error {
	if c.dry {
		return nil
	}
	n, err := c.index.DropEmptyRepositories(ctx, c.before)
	c.report.Repositories = n
	return err
}

// sweepBytes deletes bytes that no row knows and that are older than any push that could still be about to link them.
func (c *collection) sweepBytes(ctx context.Context) error {
	if c.now.Sub(c.swept) < sweepEvery {
		return nil
	}
	for _, place := range c.distinct() {
		var batch []digest.Digest
		sizes := map[digest.Digest]int64{}
		err := place.Store.Walk(ctx, func(i blob.Info) error {
			if !i.Modified.Before(c.before) {
				return nil
			}
			batch, sizes[i.Digest] = append(batch, i.Digest), i.Size
			if len(batch) < scanBatch {
				return nil
			}
			started := time.Now()
			err := c.sweepBatch(ctx, place, batch, sizes)
			batch = batch[:0]
			clear(sizes)
			return errors.Join(err, rest(ctx, time.Since(started)))
		})
		if err == nil {
			err = c.sweepBatch(ctx, place, batch, sizes)
		}
		if err != nil {
			return err
		}
	}
	if !c.dry {
		c.swept = c.now
	}
	return nil
}

func (c *collection) sweepBatch(ctx context.Context, place Placement, ds []digest.Digest, sizes map[digest.Digest]int64) error {
	held, release, err := c.index.TryExclude(ctx, place.Name, ds)
	if err != nil {
		return err
	}
	defer release()
	known, err := c.index.Known(ctx, place.Name, held)
	if err != nil {
		return err
	}
	for _, d := range held {
		if known[d] {
			continue
		}
		c.report.Blobs++
		c.report.Bytes += sizes[d]
		c.line("bytes without a row: %s, %d bytes", d, sizes[d])
		if c.dry {
			continue
		}
		if err := place.Store.Delete(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// line notes a decision of a dry run.
func (c *collection) line(format string, a ...any) {
	if c.dry {
		c.report.Lines = append(c.report.Lines, fmt.Sprintf(format, a...))
	}
}

// rest leaves the machine to pushes and pulls for as long as the last batch took.
func rest(ctx context.Context, took time.Duration) error {
	t := time.NewTimer(min(took, time.Second))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
