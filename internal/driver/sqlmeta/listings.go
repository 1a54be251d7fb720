package sqlmeta

import (
	"context"

	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
)

// Repositories implements registryindex.Listings: a range of the names' index with a look into the tags' for each.
func (x *Index) Repositories(ctx context.Context, page distribution.Page) ([]distribution.RepoName, error) {
	list, err := names[distribution.RepoName](x.read.in(ctx), repositoriesQuery, page.Last, limit(page.N))
	return list, wrap(err, "list repositories")
}

// AllRepositories implements registryindex.Listings.
func (x *Index) AllRepositories(ctx context.Context, page distribution.Page) ([]distribution.RepoName, error) {
	list, err := names[distribution.RepoName](x.read.in(ctx),
		"SELECT name FROM repositories WHERE name > ? ORDER BY name LIMIT ?", page.Last, limit(page.N))
	return list, wrap(err, "list repositories")
}

// Tags implements registryindex.Listings.
func (x *Index) Tags(ctx context.Context, repo distribution.RepoName, page distribution.Page) ([]distribution.Tag, error) {
	t := x.read.in(ctx)
	id, err := repoID(t, repo)
	if err != nil {
		return nil, err
	}
	list, err := names[distribution.Tag](t, tagsQuery, id, page.Last, limit(page.N))
	return list, wrap(err, "list tags of %q", repo)
}

// TagInfos implements registryindex.Listings.
func (x *Index) TagInfos(ctx context.Context, repo distribution.RepoName, page distribution.Page) ([]registryindex.TagInfo, error) {
	t := x.read.in(ctx)
	id, err := repoID(t, repo)
	if err != nil {
		return nil, err
	}
	var list []registryindex.TagInfo
	err = t.rows(`SELECT t.name, m.digest, m.media_type, t.pushed, t.pulled, t.pulls FROM tags t JOIN manifests m ON m.id = t.manifest
		WHERE t.repo = ? AND t.name > ? ORDER BY t.name LIMIT ?`, []any{id, page.Last, limit(page.N)}, func(scan func(...any) error) error {
		var i registryindex.TagInfo
		var pushed, pulled int64
		err := scan(&i.Tag, &i.Digest, &i.MediaType, &pushed, &pulled, &i.Pulls)
		i.Pushed, i.Pulled = moment(pushed), moment(pulled)
		list = append(list, i)
		return err
	})
	return list, wrap(err, "list tags of %q", repo)
}

const (
	repositoriesQuery = `SELECT r.name FROM repositories r
		WHERE r.name > ? AND EXISTS (SELECT 1 FROM tags t WHERE t.repo = r.id) ORDER BY r.name LIMIT ?`
	tagsQuery = "SELECT name FROM tags WHERE repo = ? AND name > ? ORDER BY name LIMIT ?"
	// untagged is the common part of Untagged and Orphans.
	untagged = "SELECT " + columns + ` FROM repositories r JOIN manifests m ON m.repo = r.id
	WHERE r.name = ? AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest = m.id)
	AND NOT EXISTS (SELECT 1 FROM manifest_children c WHERE c.repo = m.repo AND c.digest = m.digest)`
	orphansQuery = untagged + ` AND m.subject <> ''
		AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repo = m.repo AND s.digest = m.subject) ORDER BY m.digest`
)

// Untagged implements registryindex.Listings.
func (x *Index) Untagged(ctx context.Context, repo distribution.RepoName) ([]registryindex.Manifest, error) {
	list, err := manifests(x.read.in(ctx), untagged+" AND m.subject = '' ORDER BY m.digest", string(repo))
	return list, wrap(err, "untagged manifests of %q", repo)
}

// Orphans implements registryindex.Listings.
func (x *Index) Orphans(ctx context.Context, repo distribution.RepoName) ([]registryindex.Manifest, error) {
	list, err := manifests(x.read.in(ctx), orphansQuery, string(repo))
	return list, wrap(err, "orphaned referrers of %q", repo)
}

// Repository implements registryindex.Listings.
func (x *Index) Repository(ctx context.Context, repo distribution.RepoName) (registryindex.Repository, error) {
	t := x.read.in(ctx)
	id, err := repoID(t, repo)
	if err != nil {
		return registryindex.Repository{}, err
	}
	r := registryindex.Repository{Name: repo}
	var pushed, layers int64
	err = t.row("SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT), COALESCE(MAX(pushed), 0) FROM manifests WHERE repo = ?", []any{id}, &r.Manifests, &r.Bytes, &pushed)
	if err == nil {
		err = t.row("SELECT COUNT(*) FROM tags WHERE repo = ?", []any{id}, &r.Tags)
	}
	if err == nil {
		err = t.row(`SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM links l JOIN blobs b ON b.store = l.store AND b.digest = l.digest
			WHERE l.repo = ?`, []any{id}, &layers)
	}
	r.Bytes, r.Updated = r.Bytes+layers, moment(pushed)
	return r, wrap(err, "repository %q", repo)
}
