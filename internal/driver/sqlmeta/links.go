package sqlmeta

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
)

// Link implements registryindex.Links.
func (x *Index) Link(ctx context.Context, l registryindex.Link) error {
	err := x.change(ctx, func(t tx) error {
		repo, err := ensureRepo(t, l.Repo, l.Blob.Added, l.MaxRepos)
		if err != nil {
			return err
		}
		b := l.Blob
		_, err = t.exec(`INSERT INTO blobs (store, digest, size, added) VALUES (?, ?, ?, ?)
			ON CONFLICT (store, digest) DO UPDATE SET added = excluded.added`, b.Store, b.Digest.String(), b.Size, nanos(b.Added))
		if err != nil {
			return err
		}
		return link(t, repo, b)
	})
	return wrap(err, "link %s in %q", l.Blob.Digest, l.Repo)
}

// Touch implements registryindex.Links.
func (x *Index) Touch(ctx context.Context, repo distribution.RepoName, d digest.Digest, now time.Time) error {
	err := x.change(ctx, func(t tx) error {
		n, err := t.exec("UPDATE links SET added = ? WHERE repo = (SELECT id FROM repositories WHERE name = ?) AND digest = ?",
			nanos(now), string(repo), d.String())
		if err == nil && n == 0 {
			return notFound("link")
		}
		return err
	})
	return wrap(err, "touch %s in %q", d, repo)
}

// Mount implements registryindex.Links.
func (x *Index) Mount(ctx context.Context, l registryindex.Link, from distribution.RepoName) (registryindex.Blob, error) {
	b := l.Blob
	err := x.change(ctx, func(t tx) error {
		source, err := repoID(t, from)
		if err != nil {
			return err
		}
		// The row is locked (PostgreSQL) by giving it its time, so that the collector does not take it meanwhile.
		n, err := t.exec(`UPDATE blobs SET added = ? WHERE store = ? AND digest = ?
			AND EXISTS (SELECT 1 FROM links WHERE repo = ? AND links.digest = blobs.digest AND links.store = blobs.store)`,
			nanos(b.Added), b.Store, b.Digest.String(), source)
		if err != nil {
			return err
		}
		if n == 0 {
			return notFound("blob %s", b.Digest)
		}
		err = t.row("SELECT size FROM blobs WHERE store = ? AND digest = ?", []any{b.Store, b.Digest.String()}, &b.Size)
		if err != nil {
			return err
		}
		repo, err := ensureRepo(t, l.Repo, b.Added, l.MaxRepos)
		if err != nil {
			return err
		}
		return link(t, repo, b)
	})
	return b, wrap(err, "mount %s from %q in %q", b.Digest, from, l.Repo)
}

// link adds the link or gives it its new time.
func link(t tx, repo int64, b registryindex.Blob) error {
	_, err := t.exec(`INSERT INTO links (repo, digest, store, added) VALUES (?, ?, ?, ?)
		ON CONFLICT (repo, digest) DO UPDATE SET added = excluded.added, store = excluded.store`,
		repo, b.Digest.String(), b.Store, nanos(b.Added))
	if err != nil {
		return err
	}
	return awaited(t, repo, b.Digest.String())
}

// awaited gives a blob that has come to the manifests that were pushed before it.
func awaited(t tx, repo int64, d string) error {
	there, err := exists(t, "SELECT 1 FROM manifest_absent WHERE repo = ? AND digest = ? LIMIT 1", repo, d)
	if err != nil || !there {
		return err
	}
	_, err = t.exec(`INSERT INTO manifest_blobs (repo, digest, manifest)
		SELECT repo, digest, manifest FROM manifest_absent WHERE repo = ? AND digest = ? ON CONFLICT DO NOTHING`, repo, d)
	if err != nil {
		return err
	}
	_, err = t.exec("DELETE FROM manifest_absent WHERE repo = ? AND digest = ?", repo, d)
	return err
}

const (
	linkedQuery = `SELECT l.store, b.size, l.added FROM repositories r
		JOIN links l ON l.repo = r.id AND l.digest = ?
		JOIN blobs b ON b.store = l.store AND b.digest = l.digest
		WHERE r.name = ?`
	linkingQuery = `SELECT r.name FROM links l JOIN repositories r ON r.id = l.repo
		WHERE l.store = ? AND l.digest = ? AND r.name > ? ORDER BY r.name LIMIT ?`
)

// Linked implements registryindex.Links.
func (x *Index) Linked(ctx context.Context, repo distribution.RepoName, d digest.Digest) (registryindex.Blob, error) {
	b := registryindex.Blob{Digest: d}
	var added int64
	err := x.read.in(ctx).row(linkedQuery, []any{d.String(), string(repo)}, &b.Store, &b.Size, &added)
	if err != nil {
		return b, wrap(absent(err), "blob %s in %q", d, repo)
	}
	b.Added = moment(added)
	return b, nil
}

// Unlink implements registryindex.Links.
func (x *Index) Unlink(ctx context.Context, repo distribution.RepoName, d digest.Digest) error {
	err := x.change(ctx, func(t tx) error {
		id, err := repoID(t, repo)
		if err != nil {
			return err
		}
		used, err := exists(t, "SELECT 1 FROM manifest_blobs WHERE repo = ? AND digest = ? LIMIT 1", id, d.String())
		if err != nil {
			return err
		}
		if used {
			return fmt.Errorf("a manifest refers to it: %w", errdefs.ErrFailedPrecondition)
		}
		if err := dropImages(t, id, d); err != nil {
			return err
		}
		n, err := t.exec("DELETE FROM links WHERE repo = ? AND digest = ?", id, d.String())
		if err == nil && n == 0 {
			return notFound("link")
		}
		return err
	})
	return wrap(err, "unlink %s in %q", d, repo)
}

// Linking implements registryindex.Links.
func (x *Index) Linking(ctx context.Context, store string, d digest.Digest, page distribution.Page) ([]distribution.RepoName, error) {
	names, err := names[distribution.RepoName](x.read.in(ctx), linkingQuery, store, d.String(), page.Last, limit(page.N))
	return names, wrap(err, "repositories that link %s", d)
}

// repoID finds a repository's row: ErrNotFound.
func repoID(t tx, repo distribution.RepoName) (id int64, err error) {
	err = t.row("SELECT id FROM repositories WHERE name = ?", []any{string(repo)}, &id)
	return id, wrap(absent(err), "repository %q", repo)
}

// ensureRepo finds a repository's row or makes it, unless there are max already.
func ensureRepo(t tx, repo distribution.RepoName, now time.Time, maxRepos int) (int64, error) {
	id, err := repoID(t, repo)
	if !errdefs.IsNotFound(err) {
		return id, err
	}
	if maxRepos > 0 {
		var n int
		if err := t.row("SELECT COUNT(*) FROM repositories", nil, &n); err != nil {
			return 0, err
		}
		if n >= maxRepos {
			return 0, fmt.Errorf("there are %d repositories: %w", n, errdefs.ErrResourceExhausted)
		}
	}
	_, err = t.exec("INSERT INTO repositories (name, created) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", string(repo), nanos(now))
	if err != nil {
		return 0, err
	}
	return repoID(t, repo)
}

func exists(t tx, q string, args ...any) (bool, error) {
	var one int
	err := t.row(q, args, &one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// names collects a column of names.
func names[N ~string](t tx, q string, args ...any) ([]N, error) {
	var list []N
	err := t.rows(q, args, func(scan func(...any) error) error {
		var s string
		if err := scan(&s); err != nil {
			return err
		}
		list = append(list, N(s))
		return nil
	})
	return list, err
}

// limit is the LIMIT of a page; SQLite and PostgreSQL have no common word for "all".
func limit(n int) int64 {
	if n < 0 {
		return 1 << 62
	}
	return int64(n)
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// absent turns "no rows" into ErrNotFound.
func absent(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return errdefs.ErrNotFound
	}
	return err
}

func wrap(err error, format string, a ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(a, err)...)
}
