package sqlmeta

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
)

// PutManifest implements registryindex.Manifests.
func (x *Index) PutManifest(ctx context.Context, p registryindex.ManifestPut) error {
	annotations, err := encodeAnnotations(p.Manifest.Annotations)
	if err != nil {
		return err
	}
	err = x.change(ctx, func(t tx) error {
		repo, err := ensureRepo(t, p.Repo, p.Manifest.Pushed, p.MaxRepos)
		if err != nil {
			return err
		}
		id, err := putManifest(t, repo, p, annotations)
		if err != nil {
			return err
		}
		for _, tag := range p.Tags {
			_, err := t.exec(`INSERT INTO tags (repo, name, manifest, pushed) VALUES (?, ?, ?, ?)
				ON CONFLICT (repo, name) DO UPDATE SET manifest = excluded.manifest, pushed = excluded.pushed`,
				repo, string(tag), id, nanos(p.Manifest.Pushed))
			if err != nil {
				return err
			}
		}
		return nil
	})
	return wrap(err, "put manifest %s in %q", p.Manifest.Digest, p.Repo)
}

// putManifest adds the manifest's row with what it refers to, or gives the row that is there its new time and type. The
// same bytes always refer to the same blobs, and those are linked as long as the row is there.
func putManifest(t tx, repo int64, p registryindex.ManifestPut, annotations string) (id int64, err error) {
	m := p.Manifest
	err = t.row("SELECT id FROM manifests WHERE repo = ? AND digest = ?", []any{repo, m.Digest.String()}, &id)
	if err == nil {
		_, err = t.exec("UPDATE manifests SET pushed = ?, media_type = ? WHERE id = ?", nanos(m.Pushed), m.MediaType, id)
		return id, err
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	err = t.row(`INSERT INTO manifests (repo, digest, media_type, size, subject, artifact_type, annotations, pushed, payload)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
		[]any{repo, m.Digest.String(), m.MediaType, m.Size, m.Subject.String(), m.ArtifactType, annotations, nanos(m.Pushed), m.Payload}, &id)
	if err != nil {
		return 0, err
	}
	var missing []digest.Digest
	for i, d := range append(p.Blobs[:len(p.Blobs):len(p.Blobs)], p.OptionalBlobs...) {
		n, err := t.exec(`INSERT INTO manifest_blobs (repo, digest, manifest)
			SELECT repo, digest, CAST(? AS BIGINT) FROM links WHERE repo = ? AND digest = ? ON CONFLICT DO NOTHING`, id, repo, d.String())
		if err != nil {
			return 0, err
		}
		if n > 0 {
			continue
		}
		// A blob may stand in a manifest twice.
		there, err := exists(t, "SELECT 1 FROM links WHERE repo = ? AND digest = ?", repo, d.String())
		if err != nil {
			return 0, err
		}
		switch {
		case there:
		case i < len(p.Blobs):
			missing = append(missing, d)
		default: // noted, so that the manifest keeps it when it comes
			_, err := t.exec("INSERT INTO manifest_absent (repo, digest, manifest) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", repo, d.String(), id)
			if err != nil {
				return 0, err
			}
		}
	}
	if missing != nil {
		return 0, &registryindex.MissingError{Digests: missing}
	}
	for _, d := range p.Children {
		_, err := t.exec("INSERT INTO manifest_children (repo, digest, manifest) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", repo, d.String(), id)
		if err != nil {
			return 0, err
		}
	}
	return id, nil
}

// columns of a manifest without its payload, in scanManifest's order.
const columns = "m.digest, m.media_type, m.size, m.subject, m.artifact_type, m.annotations, m.pushed, m.pulled, m.pulls"

func scanManifest(scan func(...any) error, more ...any) (m registryindex.Manifest, err error) {
	var annotations string
	var pushed, pulled int64
	dest := []any{&m.Digest, &m.MediaType, &m.Size, &m.Subject, &m.ArtifactType, &annotations, &pushed, &pulled, &m.Pulls}
	if err := scan(append(dest, more...)...); err != nil {
		return m, err
	}
	m.Pushed, m.Pulled = moment(pushed), moment(pulled)
	if annotations != "" {
		err = json.Unmarshal([]byte(annotations), &m.Annotations)
	}
	return m, err
}

func encodeAnnotations(a map[string]string) (string, error) {
	if len(a) == 0 {
		return "", nil
	}
	b, err := json.Marshal(a)
	return string(b), err
}

// Queries of the hot paths have names, for the test of their plans.
const (
	manifestByTag = "SELECT " + columns + `, m.payload FROM repositories r
		JOIN tags t ON t.repo = r.id AND t.name = ? JOIN manifests m ON m.id = t.manifest WHERE r.name = ?`
	manifestByDigest = "SELECT " + columns + `, m.payload FROM repositories r
		JOIN manifests m ON m.repo = r.id AND m.digest = ? WHERE r.name = ?`
	referrersQuery = "SELECT " + columns + ` FROM repositories r
		JOIN manifests m ON m.repo = r.id AND m.subject >= ? AND m.subject < ? AND m.subject <> '' WHERE r.name = ?`
)

// Manifest implements registryindex.Manifests.
func (x *Index) Manifest(ctx context.Context, repo distribution.RepoName, ref distribution.Reference) (registryindex.Manifest, error) {
	t, q := x.read.in(ctx), manifestByTag
	if ref.Digest != "" {
		q = manifestByDigest
	}
	var payload []byte
	m, err := scanManifest(func(dest ...any) error {
		return t.row(q, []any{ref.String(), string(repo)}, dest...)
	}, &payload)
	m.Payload = payload
	return m, wrap(absent(err), "manifest %s in %q", ref, repo)
}

// DeleteManifest implements registryindex.Manifests.
func (x *Index) DeleteManifest(ctx context.Context, repo distribution.RepoName, d digest.Digest, now time.Time) error {
	err := x.change(ctx, func(t tx) error {
		id, err := repoID(t, repo)
		if err != nil {
			return err
		}
		var manifest int64
		err = t.row("SELECT id FROM manifests WHERE repo = ? AND digest = ?", []any{id, d.String()}, &manifest)
		if err != nil {
			return absent(err)
		}
		// The blobs' grace period begins now: whoever has just seen them may be about to push them again.
		_, err = t.exec(`UPDATE links SET added = ? WHERE repo = ? AND added < ?
			AND (digest IN (SELECT digest FROM manifest_blobs WHERE manifest = ?)
			OR digest IN (SELECT i.layer FROM v1_chains c JOIN v1_images i ON i.id = c.image WHERE c.manifest = ?))`,
			nanos(now), id, nanos(now), manifest, manifest)
		if err != nil {
			return err
		}
		for _, table := range []string{"tags", "manifest_blobs", "manifest_absent", "manifest_children", "v1_chains"} {
			if _, err := t.exec("DELETE FROM "+table+" WHERE manifest = ?", manifest); err != nil {
				return err
			}
		}
		_, err = t.exec("DELETE FROM manifests WHERE id = ?", manifest)
		return err
	})
	return wrap(err, "delete manifest %s in %q", d, repo)
}

// DeleteRepository implements registryindex.Manifests.
func (x *Index) DeleteRepository(ctx context.Context, repo distribution.RepoName, now time.Time) error {
	err := x.change(ctx, func(t tx) error {
		id, err := repoID(t, repo)
		if err != nil {
			return err
		}
		for _, q := range []string{
			"DELETE FROM tags WHERE repo = ?",
			"DELETE FROM v1_chains WHERE manifest IN (SELECT id FROM manifests WHERE repo = ?)",
			"DELETE FROM manifest_blobs WHERE repo = ?",
			"DELETE FROM manifest_absent WHERE repo = ?",
			"DELETE FROM manifest_children WHERE repo = ?",
			"DELETE FROM manifests WHERE repo = ?",
			"DELETE FROM v1_images WHERE repo = ?",
		} {
			if _, err := t.exec(q, id); err != nil {
				return err
			}
		}
		_, err = t.exec("UPDATE links SET added = ? WHERE repo = ? AND added < ?", nanos(now), id, nanos(now))
		return err
	})
	return wrap(err, "delete repository %q", repo)
}

// DeleteTag implements registryindex.Manifests.
func (x *Index) DeleteTag(ctx context.Context, repo distribution.RepoName, tag distribution.Tag) error {
	err := x.change(ctx, func(t tx) error {
		id, err := repoID(t, repo)
		if err != nil {
			return err
		}
		n, err := t.exec("DELETE FROM tags WHERE repo = ? AND name = ?", id, string(tag))
		if err == nil && n == 0 {
			return notFound("tag")
		}
		return err
	})
	return wrap(err, "delete tag %q in %q", tag, repo)
}

// Referrers implements registryindex.Manifests.
func (x *Index) Referrers(ctx context.Context, repo distribution.RepoName, d digest.Digest, artifactType string) ([]registryindex.Manifest, error) {
	// A whole digest is the only one that begins with it; "g" comes after all digits.
	q, args := referrersQuery, []any{d.String(), d.String() + "g", string(repo)}
	if artifactType != "" {
		q, args = q+" AND m.artifact_type = ?", append(args, artifactType)
	}
	list, err := manifests(x.read.in(ctx), q+" ORDER BY m.digest", args...)
	return list, wrap(err, "referrers of %s in %q", d, repo)
}

func manifests(t tx, q string, args ...any) ([]registryindex.Manifest, error) {
	var list []registryindex.Manifest
	err := t.rows(q, args, func(scan func(...any) error) error {
		m, err := scanManifest(scan)
		list = append(list, m)
		return err
	})
	return list, err
}

// Pulled implements registryindex.Manifests.
func (x *Index) Pulled(ctx context.Context, pulls []registryindex.Pull) error {
	err := x.change(ctx, func(t tx) error {
		for _, p := range pulls {
			last := nanos(p.Last)
			_, err := t.exec(`UPDATE manifests SET pulls = pulls + ?, pulled = CASE WHEN pulled > ? THEN pulled ELSE ? END
				WHERE repo = (SELECT id FROM repositories WHERE name = ?) AND digest = ?`, p.Count, last, last, string(p.Repo), p.Digest.String())
			if err != nil {
				return err
			}
			if p.Tag == "" {
				continue
			}
			_, err = t.exec(`UPDATE tags SET pulls = pulls + ?, pulled = CASE WHEN pulled > ? THEN pulled ELSE ? END
				WHERE repo = (SELECT id FROM repositories WHERE name = ?) AND name = ?`, p.Count, last, last, string(p.Repo), string(p.Tag))
			if err != nil {
				return err
			}
		}
		return nil
	})
	return wrap(err, "count pulls")
}
