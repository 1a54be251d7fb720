package sqlmeta

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations are applied in order, each in a transaction; the database remembers how many it has seen. A migration that
// has been released never changes: what is wrong with it is put right by a new one.
var migrations = []string{migration1, migration2, migration3}

// Times are nanoseconds since 1970, 0 for never. The foreign keys are the promise that no link dangles: a link has its
// blob, a manifest its repository's links.
const migration1 = `
CREATE TABLE repositories (
	id {id},
	name {text} NOT NULL UNIQUE,
	created BIGINT NOT NULL
);
CREATE TABLE blobs (
	store {text} NOT NULL,
	digest {text} NOT NULL,
	size BIGINT NOT NULL,
	added BIGINT NOT NULL,
	PRIMARY KEY (store, digest)
) {clustered};
CREATE TABLE links (
	repo BIGINT NOT NULL REFERENCES repositories (id),
	digest {text} NOT NULL,
	store {text} NOT NULL,
	added BIGINT NOT NULL,
	PRIMARY KEY (repo, digest),
	FOREIGN KEY (store, digest) REFERENCES blobs (store, digest)
) {clustered};
CREATE INDEX links_blob ON links (store, digest);
CREATE TABLE manifests (
	id {id},
	repo BIGINT NOT NULL REFERENCES repositories (id),
	digest {text} NOT NULL,
	media_type {text} NOT NULL,
	size BIGINT NOT NULL,
	subject {text} NOT NULL,
	artifact_type {text} NOT NULL,
	annotations {text} NOT NULL,
	pushed BIGINT NOT NULL,
	pulled BIGINT NOT NULL DEFAULT 0,
	pulls BIGINT NOT NULL DEFAULT 0,
	payload {bytes} NOT NULL,
	UNIQUE (repo, digest)
);
CREATE INDEX manifests_subject ON manifests (repo, subject) WHERE subject <> '';
CREATE TABLE tags (
	repo BIGINT NOT NULL REFERENCES repositories (id),
	name {text} NOT NULL,
	manifest BIGINT NOT NULL REFERENCES manifests (id),
	pushed BIGINT NOT NULL,
	pulled BIGINT NOT NULL DEFAULT 0,
	pulls BIGINT NOT NULL DEFAULT 0,
	PRIMARY KEY (repo, name)
) {clustered};
CREATE INDEX tags_manifest ON tags (manifest);
CREATE TABLE manifest_blobs (
	repo BIGINT NOT NULL,
	digest {text} NOT NULL,
	manifest BIGINT NOT NULL REFERENCES manifests (id),
	PRIMARY KEY (repo, digest, manifest),
	FOREIGN KEY (repo, digest) REFERENCES links (repo, digest)
) {clustered};
CREATE INDEX manifest_blobs_manifest ON manifest_blobs (manifest);
CREATE TABLE manifest_children (
	repo BIGINT NOT NULL,
	digest {text} NOT NULL,
	manifest BIGINT NOT NULL REFERENCES manifests (id),
	PRIMARY KEY (repo, digest, manifest)
) {clustered};
CREATE INDEX manifest_children_manifest ON manifest_children (manifest);
`

// What a manifest refers to and its repository does not link (yet): the layers of a sparse image.
const migration2 = `
CREATE TABLE manifest_absent (
	repo BIGINT NOT NULL,
	digest {text} NOT NULL,
	manifest BIGINT NOT NULL REFERENCES manifests (id),
	PRIMARY KEY (repo, digest, manifest)
) {clustered};
CREATE INDEX manifest_absent_manifest ON manifest_absent (manifest);
`

// Images of registry API v1, what manifests stand for them, and what the index API knows of repositories. A layer of an
// image is held by its link as long as a manifest stands for the image; an image without a manifest goes with the link.
const migration3 = `
CREATE TABLE v1_images (
	id {id},
	repo BIGINT NOT NULL REFERENCES repositories (id),
	image {text} NOT NULL,
	parent {text} NOT NULL,
	json {bytes} NOT NULL,
	layer {text},
	diff {text} NOT NULL,
	encoding {text} NOT NULL,
	size BIGINT NOT NULL,
	empty BIGINT NOT NULL,
	payload {text} NOT NULL,
	announced {text} NOT NULL,
	state BIGINT NOT NULL,
	added BIGINT NOT NULL,
	UNIQUE (repo, image),
	FOREIGN KEY (repo, layer) REFERENCES links (repo, digest)
);
CREATE INDEX v1_images_image ON v1_images (image);
CREATE INDEX v1_images_layer ON v1_images (repo, layer);
CREATE INDEX v1_images_unsummed ON v1_images (id) WHERE payload = '' AND state = 2;
CREATE TABLE v1_chains (
	manifest BIGINT NOT NULL REFERENCES manifests (id),
	position BIGINT NOT NULL,
	image BIGINT NOT NULL REFERENCES v1_images (id),
	PRIMARY KEY (manifest, position)
) {clustered};
CREATE INDEX v1_chains_image ON v1_chains (image);
CREATE TABLE hub_repositories (
	name {text} PRIMARY KEY,
	description {text} NOT NULL,
	stars BIGINT NOT NULL,
	trusted BIGINT NOT NULL,
	private BIGINT NOT NULL,
	deleted BIGINT NOT NULL,
	images {text} NOT NULL,
	created BIGINT NOT NULL
) {clustered};
`

// migrate brings the schema up to date. It refuses a database that a newer version has written.
func migrate(ctx context.Context, db *sql.DB, d dialect) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	begin, end := "BEGIN IMMEDIATE", "COMMIT"
	if d.numbered {
		// Instances that start together migrate one after another: the lock goes with the transaction.
		begin = "BEGIN; SELECT pg_advisory_xact_lock(7017318)"
	}
	for {
		if _, err := conn.ExecContext(ctx, begin); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		done, err := migrateOne(ctx, conn, d)
		if err != nil {
			_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			return fmt.Errorf("migrate: %w", err)
		}
		if _, err := conn.ExecContext(ctx, end); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		if done {
			return nil
		}
	}
}

// migrateOne applies the next migration, within the caller's transaction.
func migrateOne(ctx context.Context, conn *sql.Conn, d dialect) (done bool, err error) {
	if _, err := conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)"); err != nil {
		return false, err
	}
	var version int
	if err := conn.QueryRowContext(ctx, "SELECT COALESCE(MAX(version), 0) FROM schema_version").Scan(&version); err != nil {
		return false, err
	}
	switch {
	case version > len(migrations):
		return false, fmt.Errorf("the index has schema version %d, this program knows %d: it was written by a newer one", version, len(migrations))
	case version == len(migrations):
		return true, nil
	}
	if _, err := conn.ExecContext(ctx, d.schema.Replace(migrations[version])); err != nil {
		return false, fmt.Errorf("to version %d: %w", version+1, err)
	}
	_, err = conn.ExecContext(ctx, d.query("INSERT INTO schema_version (version) VALUES (?)"), version+1)
	return false, err
}
