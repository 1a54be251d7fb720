package sqlmeta

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
)

const (
	unusedLinksQuery = `SELECT r.name, l.store, l.digest, l.added, b.size FROM links l
		JOIN repositories r ON r.id = l.repo JOIN blobs b ON b.store = l.store AND b.digest = l.digest
		WHERE (l.repo, l.digest) > (?, ?) AND l.added < ?
		AND NOT EXISTS (SELECT 1 FROM manifest_blobs m WHERE m.repo = l.repo AND m.digest = l.digest)
		AND NOT EXISTS (SELECT 1 FROM v1_images i JOIN v1_chains c ON c.image = i.id WHERE i.repo = l.repo AND i.layer = l.digest)
		ORDER BY l.repo, l.digest LIMIT ?`
	// dropLinkGuard finds a link that may go and locks it (PostgreSQL), so that nobody asserts it meanwhile.
	dropLinkGuard = `UPDATE links SET added = added WHERE repo = ? AND digest = ? AND added < ?
		AND NOT EXISTS (SELECT 1 FROM manifest_blobs m WHERE m.repo = links.repo AND m.digest = links.digest)
		AND NOT EXISTS (SELECT 1 FROM v1_images i JOIN v1_chains c ON c.image = i.id WHERE i.repo = links.repo AND i.layer = links.digest)`
	unlinkedBlobsQuery = `SELECT b.digest, b.size, b.added FROM blobs b WHERE b.store = ? AND b.digest > ? AND b.added < ?
		AND NOT EXISTS (SELECT 1 FROM links l WHERE l.store = b.store AND l.digest = b.digest)
		ORDER BY b.digest LIMIT ?`
)

// UnusedLinks implements registryindex.Collector.
func (x *Index) UnusedLinks(ctx context.Context, after registryindex.Candidate, before time.Time, n int) ([]registryindex.Candidate, error) {
	t := x.read.in(ctx)
	var from int64
	if after.Repo != "" {
		// Repositories are walked by row, so that one that was made meanwhile comes last. A forgotten one is found by
		// the next run.
		if err := t.row("SELECT COALESCE(MAX(id), 0) FROM repositories WHERE name = ?", []any{string(after.Repo)}, &from); err != nil {
			return nil, wrap(err, "unused links")
		}
	}
	var list []registryindex.Candidate
	err := t.rows(unusedLinksQuery, []any{from, after.Blob.Digest.String(), nanos(before), n}, func(scan func(...any) error) error {
		var c registryindex.Candidate
		var added int64
		err := scan(&c.Repo, &c.Blob.Store, &c.Blob.Digest, &added, &c.Blob.Size)
		c.Blob.Added = moment(added)
		list = append(list, c)
		return err
	})
	return list, wrap(err, "unused links")
}

// dropStep is how many rows one transaction deletes: a push waits for at most one of them, well below a millisecond.
const dropStep = 8

// DropLinks implements registryindex.Collector.
func (x *Index) DropLinks(ctx context.Context, links []registryindex.Candidate, before time.Time) (int, error) {
	dropped := 0
	for step := range slices.Chunk(links, dropStep) {
		var gone int64
		err := x.later(ctx, func(t tx) error {
			gone = 0
			for _, l := range step {
				n, err := dropLink(t, l, before)
				if err != nil {
					return err
				}
				gone += n
			}
			return nil
		})
		if err != nil {
			return dropped, wrap(err, "drop links")
		}
		dropped += int(gone)
	}
	return dropped, nil
}

// dropLink drops a link that is still unused, with the images that no manifest stands for.
func dropLink(t tx, l registryindex.Candidate, before time.Time) (int64, error) {
	repo, err := repoID(t, l.Repo)
	if errdefs.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	d := l.Blob.Digest.String()
	n, err := t.exec(dropLinkGuard, repo, d, nanos(before))
	if err != nil || n == 0 {
		return 0, err
	}
	if _, err := t.exec("DELETE FROM v1_images WHERE repo = ? AND layer = ?", repo, d); err != nil {
		return 0, err
	}
	return t.exec("DELETE FROM links WHERE repo = ? AND digest = ?", repo, d)
}

// UnlinkedBlobs implements registryindex.Collector.
func (x *Index) UnlinkedBlobs(ctx context.Context, store string, after digest.Digest, before time.Time, n int) ([]registryindex.Blob, error) {
	var list []registryindex.Blob
	err := x.read.in(ctx).rows(unlinkedBlobsQuery, []any{store, after.String(), nanos(before), n}, func(scan func(...any) error) error {
		b := registryindex.Blob{Store: store}
		var added int64
		err := scan(&b.Digest, &b.Size, &added)
		b.Added = moment(added)
		list = append(list, b)
		return err
	})
	return list, wrap(err, "unlinked blobs")
}

// DropBlobs implements registryindex.Collector.
func (x *Index) DropBlobs(ctx context.Context, blobs []registryindex.Blob, before time.Time) ([]registryindex.Blob, error) {
	var dropped []registryindex.Blob
	for from := 0; from < len(blobs); from += dropStep {
		to := min(from+dropStep, len(blobs))
		change := x.later
		if to == len(blobs) {
			change = x.change // the steps before become durable with it
		}
		var gone []registryindex.Blob
		err := change(ctx, func(t tx) (err error) {
			gone, err = dropBlobs(t, blobs[from:to], before)
			return err
		})
		if err != nil {
			return nil, wrap(err, "drop blobs")
		}
		dropped = append(dropped, gone...)
	}
	return dropped, nil
}

func dropBlobs(t tx, blobs []registryindex.Blob, before time.Time) (gone []registryindex.Blob, err error) {
	for _, b := range blobs {
		n, err := t.exec(`DELETE FROM blobs WHERE store = ? AND digest = ? AND added < ?
			AND NOT EXISTS (SELECT 1 FROM links l WHERE l.store = blobs.store AND l.digest = blobs.digest)`,
			b.Store, b.Digest.String(), nanos(before))
		if err != nil {
			return nil, err
		}
		if n > 0 {
			gone = append(gone, b)
		}
	}
	return gone, nil
}

// Known implements registryindex.Collector.
func (x *Index) Known(ctx context.Context, store string, ds []digest.Digest) (map[digest.Digest]bool, error) {
	known := make(map[digest.Digest]bool, len(ds))
	t := x.read.in(ctx)
	for _, d := range ds {
		ok, err := exists(t, "SELECT 1 FROM blobs WHERE store = ? AND digest = ?", store, d.String())
		if err != nil {
			return nil, wrap(err, "known blobs")
		}
		if ok {
			known[d] = true
		}
	}
	return known, nil
}

// unfinished is how long a document without a layer waits for one beyond the grace period: it holds no bytes, and a layer
// may take long to send.
const unfinished = 24 * time.Hour

// dropUnfinished forgets images without a layer that no manifest stands for.
func (x *Index) dropUnfinished(ctx context.Context, before time.Time) error {
	stale := nanos(before.Add(-unfinished))
	there, err := exists(x.read.in(ctx), "SELECT 1 FROM v1_images WHERE layer IS NULL AND added < ? LIMIT 1", stale)
	if err != nil || !there {
		return err
	}
	return x.change(ctx, func(t tx) error {
		_, err := t.exec(`DELETE FROM v1_images WHERE layer IS NULL AND added < ?
			AND NOT EXISTS (SELECT 1 FROM v1_chains c WHERE c.image = v1_images.id)`, stale)
		return err
	})
}

// DropEmptyRepositories implements registryindex.Collector.
func (x *Index) DropEmptyRepositories(ctx context.Context, before time.Time) (int, error) {
	if err := x.dropUnfinished(ctx, before); err != nil {
		return 0, wrap(err, "drop unfinished images")
	}
	empty := ` NOT EXISTS (SELECT 1 FROM links WHERE links.repo = repositories.id)
		AND NOT EXISTS (SELECT 1 FROM v1_images WHERE v1_images.repo = repositories.id)
		AND NOT EXISTS (SELECT 1 FROM manifests WHERE manifests.repo = repositories.id) AND created < ?`
	list, err := names[distribution.RepoName](x.read.in(ctx), "SELECT name FROM repositories WHERE"+empty, nanos(before))
	if err != nil {
		return 0, wrap(err, "empty repositories")
	}
	var dropped int
	var errs []error
	for _, name := range list {
		// One by one: a push that comes between makes PostgreSQL refuse that one only.
		var n int64
		err := x.change(ctx, func(t tx) (err error) {
			n, err = t.exec("DELETE FROM repositories WHERE name = ? AND"+empty, string(name), nanos(before))
			return err
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		dropped += int(n)
	}
	return dropped, wrap(errors.Join(errs...), "drop empty repositories")
}

// Total implements registryindex.Collector.
func (x *Index) Total(ctx context.Context) (blobs, bytes int64, err error) {
	err = x.read.in(ctx).row("SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blobs", nil, &blobs, &bytes)
	return blobs, bytes, wrap(err, "count blobs")
}
