package sqlmeta

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations are applied in order, each in a transaction; the database remembers how many it has seen. A migration that
// has been released never changes: what is wrong with it is put right by a new one.
var migrations = []string{migration1, migration2}

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
