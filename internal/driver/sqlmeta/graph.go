package sqlmeta

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
)

// Graph implements graph.Store over an index's database.
type Graph struct{ x *Index }

var _ graph.Store = (*Graph)(nil)

// Graph gives what is kept in the index's database for clients of registry API v1. It lives as long as the index.
func (x *Index) Graph() *Graph { return &Graph{x} }

// imageColumns in scanImage's order.
const imageColumns = `i.image, i.parent, i.json, COALESCE(i.layer, ''), i.diff, i.encoding, i.size, i.empty, i.payload, i.announced,
	i.state, i.added`

const (
	imageQuery = "SELECT " + imageColumns + ` FROM repositories r JOIN v1_images i ON i.repo = r.id AND i.image = ? WHERE r.name = ?`
	chainQuery = "SELECT " + imageColumns + ` FROM repositories r JOIN manifests m ON m.repo = r.id AND m.digest = ?
		JOIN v1_chains c ON c.manifest = m.id JOIN v1_images i ON i.id = c.image WHERE r.name = ? ORDER BY c.position`
	holdingQuery = `SELECT r.name FROM v1_images i JOIN repositories r ON r.id = i.repo WHERE i.image = ? ORDER BY r.name LIMIT ?`
	topsQuery    = `SELECT t.name, m.digest, m.media_type, t.pushed,
		COALESCE((SELECT i.image FROM v1_chains c JOIN v1_images i ON i.id = c.image WHERE c.manifest = m.id ORDER BY c.position DESC LIMIT 1), '')
		FROM tags t JOIN manifests m ON m.id = t.manifest WHERE t.repo = ? ORDER BY t.name`
	standingQuery = `SELECT m.digest FROM repositories r JOIN v1_images i ON i.repo = r.id AND i.image = ?
		JOIN v1_chains c ON c.image = i.id JOIN manifests m ON m.id = c.manifest
		WHERE r.name = ? AND c.position = (SELECT MAX(d.position) FROM v1_chains d WHERE d.manifest = c.manifest) ORDER BY m.id DESC LIMIT 1`
	unsummedQuery = `SELECT r.name, i.image FROM v1_images i JOIN repositories r ON r.id = i.repo
		WHERE i.payload = '' AND i.state = 2 ORDER BY i.id LIMIT ?`
)

func scanImage(scan func(...any) error) (i graph.Image, err error) {
	var empty, added int64
	err = scan(&i.ID, &i.Parent, &i.JSON, &i.Layer, &i.DiffID, &i.Encoding, &i.Size, &empty, &i.Payload, &i.Announced, &i.State, &added)
	i.Empty, i.Added = empty != 0, moment(added)
	return i, err
}

// BeginImage implements graph.Images.
func (g *Graph) BeginImage(ctx context.Context, repo distribution.RepoName, i graph.Image, maxRepos int) error {
	err := g.x.change(ctx, func(t tx) error {
		id, err := ensureRepo(t, repo, i.Added, maxRepos)
		if err != nil {
			return err
		}
		n, err := t.exec(`INSERT INTO v1_images (repo, image, parent, json, layer, diff, encoding, size, empty, payload, announced, state, added)
			VALUES (?, ?, ?, ?, NULL, '', '', 0, 0, '', ?, 0, ?)
			ON CONFLICT (repo, image) DO UPDATE SET parent = excluded.parent, json = excluded.json, layer = NULL, diff = '', encoding = '',
			size = 0, empty = 0, payload = '', announced = excluded.announced, state = 0, added = excluded.added WHERE v1_images.state <> 2`,
			id, string(i.ID), string(i.Parent), i.JSON, i.Announced, nanos(i.Added))
		if err == nil && n == 0 {
			return fmt.Errorf("it is complete: %w", errdefs.ErrAlreadyExists)
		}
		return err
	})
	return wrap(err, "image %s in %q", i.ID, repo)
}

// Image implements graph.Images.
func (g *Graph) Image(ctx context.Context, repo distribution.RepoName, id imagev1.ID) (graph.Image, error) {
	t := g.x.read.in(ctx)
	i, err := scanImage(func(dest ...any) error { return t.row(imageQuery, []any{string(id), string(repo)}, dest...) })
	return i, wrap(absent(err), "image %s in %q", id, repo)
}

// ChangeImage implements graph.Images.
func (g *Graph) ChangeImage(ctx context.Context, repo distribution.RepoName, id imagev1.ID, change func(*graph.Image) error) error {
	err := g.x.change(ctx, func(t tx) error {
		r, err := repoID(t, repo)
		if err != nil {
			return err
		}
		// The row is locked (PostgreSQL) before it is read.
		n, err := t.exec("UPDATE v1_images SET state = state WHERE repo = ? AND image = ?", r, string(id))
		if err != nil {
			return err
		}
		if n == 0 {
			return notFound("image")
		}
		i, err := scanImage(func(dest ...any) error { return t.row(imageQuery, []any{string(id), string(repo)}, dest...) })
		if err != nil {
			return err
		}
		if err := change(&i); err != nil {
			return err
		}
		if err := mustLink(t, r, i.Layer); err != nil {
			return err
		}
		return updateImage(t, r, i)
	})
	return wrap(err, "image %s in %q", id, repo)
}

func updateImage(t tx, repo int64, i graph.Image) error {
	_, err := t.exec(`UPDATE v1_images SET parent = ?, json = ?, layer = ?, diff = ?, encoding = ?, size = ?, empty = ?, payload = ?, announced = ?,
		state = ?, added = ? WHERE repo = ? AND image = ?`,
		string(i.Parent), i.JSON, nullable(i.Layer), i.DiffID.String(), string(i.Encoding), i.Size, flag(i.Empty), i.Payload, i.Announced,
		int64(i.State), nanos(i.Added), repo, string(i.ID))
	return err
}

// mustLink is ErrNotFound when the repository does not link a layer.
func mustLink(t tx, repo int64, layer digest.Digest) error {
	if layer == "" {
		return nil
	}
	there, err := exists(t, "SELECT 1 FROM links WHERE repo = ? AND digest = ?", repo, layer.String())
	if err == nil && !there {
		return notFound("layer %s", layer)
	}
	return err
}

// Holding implements graph.Images.
func (g *Graph) Holding(ctx context.Context, id imagev1.ID, n int) ([]distribution.RepoName, error) {
	list, err := names[distribution.RepoName](g.x.read.in(ctx), holdingQuery, string(id), limit(n))
	return list, wrap(err, "repositories that have image %s", id)
}

// PutChain implements graph.Chains.
func (g *Graph) PutChain(ctx context.Context, repo distribution.RepoName, manifest digest.Digest, images []graph.Image) error {
	err := g.x.change(ctx, func(t tx) error {
		r, err := repoID(t, repo)
		if err != nil {
			return err
		}
		var m int64
		if err := t.row("SELECT id FROM manifests WHERE repo = ? AND digest = ?", []any{r, manifest.String()}, &m); err != nil {
			return absent(err)
		}
		if _, err := t.exec("DELETE FROM v1_chains WHERE manifest = ?", m); err != nil {
			return err
		}
		for position, i := range images {
			id, err := keepImage(t, r, i)
			if err != nil {
				return err
			}
			if _, err := t.exec("INSERT INTO v1_chains (manifest, position, image) VALUES (?, ?, ?)", m, position, id); err != nil {
				return err
			}
		}
		return nil
	})
	return wrap(err, "images of manifest %s in %q", manifest, repo)
}

// keepImage gives the row of an image, which it makes, completes, or finds as it should be.
func keepImage(t tx, repo int64, i graph.Image) (id int64, err error) {
	if err := mustLink(t, repo, i.Layer); err != nil {
		return 0, err
	}
	_, err = t.exec(`INSERT INTO v1_images (repo, image, parent, json, layer, diff, encoding, size, empty, payload, announced, state, added)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (repo, image) DO NOTHING`,
		repo, string(i.ID), string(i.Parent), i.JSON, nullable(i.Layer), i.DiffID.String(), string(i.Encoding), i.Size, flag(i.Empty),
		i.Payload, i.Announced, int64(i.State), nanos(i.Added))
	if err != nil {
		return 0, err
	}
	var state graph.State
	var layer, diff digest.Digest
	err = t.row("SELECT id, state, COALESCE(layer, ''), diff FROM v1_images WHERE repo = ? AND image = ?", []any{repo, string(i.ID)},
		&id, &state, &layer, &diff)
	switch {
	case err != nil:
		return 0, err
	case state != graph.Complete:
		return id, updateImage(t, repo, i)
	case layer != i.Layer && diff != i.DiffID:
		return 0, fmt.Errorf("another image %s: %w", i.ID, errdefs.ErrAlreadyExists)
	}
	return id, nil
}

// Chain implements graph.Chains.
func (g *Graph) Chain(ctx context.Context, repo distribution.RepoName, manifest digest.Digest) ([]graph.Image, error) {
	var list []graph.Image
	err := g.x.read.in(ctx).rows(chainQuery, []any{manifest.String(), string(repo)}, func(scan func(...any) error) error {
		i, err := scanImage(scan)
		list = append(list, i)
		return err
	})
	if err == nil && len(list) == 0 {
		err = errdefs.ErrNotFound
	}
	return list, wrap(err, "images of manifest %s in %q", manifest, repo)
}

// Standing implements graph.Chains.
func (g *Graph) Standing(ctx context.Context, repo distribution.RepoName, top imagev1.ID) (digest.Digest, error) {
	var d digest.Digest
	err := g.x.read.in(ctx).row(standingQuery, []any{string(top), string(repo)}, &d)
	return d, wrap(absent(err), "manifest of image %s in %q", top, repo)
}

// Tops implements graph.Chains.
func (g *Graph) Tops(ctx context.Context, repo distribution.RepoName) ([]graph.TagTop, error) {
	t := g.x.read.in(ctx)
	id, err := repoID(t, repo)
	if err != nil {
		return nil, err
	}
	var list []graph.TagTop
	err = t.rows(topsQuery, []any{id}, func(scan func(...any) error) error {
		var top graph.TagTop
		var pushed int64
		err := scan(&top.Tag, &top.Digest, &top.MediaType, &pushed, &top.Top)
		top.Pushed = moment(pushed)
		list = append(list, top)
		return err
	})
	return list, wrap(err, "tags of %q", repo)
}

// Unsummed implements graph.Chains.
func (g *Graph) Unsummed(ctx context.Context, n int) ([]graph.Place, error) {
	var list []graph.Place
	err := g.x.read.in(ctx).rows(unsummedQuery, []any{n}, func(scan func(...any) error) error {
		var p graph.Place
		err := scan(&p.Repo, &p.ID)
		list = append(list, p)
		return err
	})
	return list, wrap(err, "images without a checksum")
}

// dropImages forgets the images of a layer that is about to lose its link; ErrFailedPrecondition while a manifest stands
// for one.
func dropImages(t tx, repo int64, layer digest.Digest) error {
	used, err := exists(t, `SELECT 1 FROM v1_images i JOIN v1_chains c ON c.image = i.id WHERE i.repo = ? AND i.layer = ? LIMIT 1`,
		repo, layer.String())
	if err != nil {
		return err
	}
	if used {
		return fmt.Errorf("a manifest stands for an image with it: %w", errdefs.ErrFailedPrecondition)
	}
	_, err = t.exec("DELETE FROM v1_images WHERE repo = ? AND layer = ?", repo, layer.String())
	return err
}

func nullable(d digest.Digest) any {
	if d == "" {
		return nil
	}
	return d.String()
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// since is nanos of a time that must not be zero.
func since(t, otherwise time.Time) int64 {
	if t.IsZero() {
		t = otherwise
	}
	return nanos(t)
}
