package sqlmeta

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"longshore/internal/core/distribution"
	"longshore/internal/core/graph"
)

const (
	hubQuery    = "SELECT description, stars, trusted, private, deleted, images, created FROM hub_repositories WHERE name = ?"
	searchQuery = `SELECT r.name, COALESCE(h.description, ''), COALESCE(h.stars, 0) AS stars, COALESCE(h.trusted, 0)
		FROM repositories r LEFT JOIN hub_repositories h ON h.name = r.name
		WHERE EXISTS (SELECT 1 FROM tags t WHERE t.repo = r.id AND t.pushed > COALESCE(h.deleted, 0))
		AND (r.name LIKE ? ESCAPE '!' OR LOWER(COALESCE(h.description, '')) LIKE ? ESCAPE '!')
		ORDER BY stars DESC, r.name`
)

// Repository implements graph.Repositories.
func (g *Graph) Repository(ctx context.Context, name distribution.RepoName) (graph.Repository, error) {
	r, err := hubRepository(g.x.read.in(ctx), name)
	return r, wrap(absent(err), "repository %q of the index", name)
}

func hubRepository(t tx, name distribution.RepoName) (graph.Repository, error) {
	r := graph.Repository{Name: name}
	var trusted, private, deleted, created int64
	var images string
	err := t.row(hubQuery, []any{string(name)}, &r.Description, &r.Stars, &trusted, &private, &deleted, &images, &created)
	if err != nil {
		return r, err
	}
	r.Trusted, r.Private, r.Deleted, r.Created = trusted != 0, private != 0, moment(deleted), moment(created)
	return r, json.Unmarshal([]byte(images), &r.Images)
}

// ChangeRepository implements graph.Repositories.
func (g *Graph) ChangeRepository(ctx context.Context, name distribution.RepoName, now time.Time, change func(*graph.Repository) error) error {
	err := g.x.change(ctx, func(t tx) error {
		// The row is locked (PostgreSQL) before it is read, and for that made: those who come first at the same time would
		// otherwise all begin from nothing.
		_, err := t.exec(`INSERT INTO hub_repositories (name, description, stars, trusted, private, deleted, images, created)
			VALUES (?, '', 0, 0, 0, 0, '[]', 0) ON CONFLICT (name) DO UPDATE SET stars = hub_repositories.stars`, string(name))
		if err != nil {
			return err
		}
		r, err := hubRepository(t, name)
		if err != nil {
			return err
		}
		if err := change(&r); err != nil {
			return err
		}
		if r.Images == nil {
			r.Images = []graph.Record{}
		}
		images, err := json.Marshal(r.Images)
		if err != nil {
			return err
		}
		_, err = t.exec(`UPDATE hub_repositories SET description = ?, stars = ?, trusted = ?, private = ?, deleted = ?, images = ?, created = ?
			WHERE name = ?`,
			r.Description, r.Stars, flag(r.Trusted), flag(r.Private), nanos(r.Deleted), string(images), since(r.Created, now), string(name))
		return err
	})
	return wrap(err, "repository %q of the index", name)
}

// ForgetRepository implements graph.Repositories.
func (g *Graph) ForgetRepository(ctx context.Context, name distribution.RepoName) error {
	err := g.x.change(ctx, func(t tx) error {
		_, err := t.exec("DELETE FROM hub_repositories WHERE name = ?", string(name))
		return err
	})
	return wrap(err, "repository %q of the index", name)
}

// likeEscapes keeps a term's letters from being taken for LIKE's own.
var likeEscapes = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// Search implements graph.Repositories.
func (g *Graph) Search(ctx context.Context, term string, each func(graph.Found) error) error {
	pattern := "%" + likeEscapes.Replace(lowerASCII(term)) + "%"
	err := g.x.read.in(ctx).rows(searchQuery, []any{pattern, pattern}, func(scan func(...any) error) error {
		var f graph.Found
		var trusted int64
		if err := scan(&f.Name, &f.Description, &f.Stars, &trusted); err != nil {
			return err
		}
		f.Trusted = trusted != 0
		return each(f)
	})
	return wrap(err, "search for %q", term)
}

// lowerASCII is how both databases fold letters, with collation "C" and without.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}
