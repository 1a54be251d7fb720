// Package registryindex is the contract of the registry's index: repositories, the links that make blobs visible in
// them, manifests, tags, referrers and statistics, all as rows. One implementation over two databases (driver/sqlmeta);
// the suite is in registryindextest.
//
// What a method changed is durable when it returns. Every change is one transaction: no reader sees half of it. Errors
// carry errdefs classes: ErrNotFound, ErrFailedPrecondition (the object is in use), ErrResourceExhausted (too many
// repositories), and MissingError.
package registryindex

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
)

// Index is everything.
type Index interface {
	Links
	Manifests
	Listings
	Collector
	Guards
	io.Closer
}

// Blob is a blob's row: which store holds it ("" is the default store), its size and since when.
type Blob struct {
	Store  string
	Digest digest.Digest
	Size   int64
	// Added is when the blob, or the link, was last asserted by a push.
	Added time.Time
}

// Link makes a stored blob visible in a repository, which comes to be with its first link.
type Link struct {
	Repo distribution.RepoName
	Blob Blob
	// MaxRepos refuses (ErrResourceExhausted) to make a repository beyond this number; 0 is no limit.
	MaxRepos int
}

// Links says which blobs are visible where.
type Links interface {
	// Link is idempotent; an existing link gets the new time. The bytes must be durable before.
	Link(ctx context.Context, l Link) error
	// Touch gives a link that is there the new time; ErrNotFound else.
	Touch(ctx context.Context, repo distribution.RepoName, d digest.Digest, now time.Time) error
	// Mount links a blob that from links already; ErrNotFound when it does not.
	Mount(ctx context.Context, l Link, from distribution.RepoName) (Blob, error)
	// Linked finds a blob that the repository links.
	Linked(ctx context.Context, repo distribution.RepoName, d digest.Digest) (Blob, error)
	// Unlink hides a blob; ErrFailedPrecondition while a manifest of the repository refers to it.
	Unlink(ctx context.Context, repo distribution.RepoName, d digest.Digest) error
	// Linking lists repositories (ASCII order) that link the blob in the store.
	Linking(ctx context.Context, store string, d digest.Digest, page distribution.Page) ([]distribution.RepoName, error)
}

// Manifest is a manifest in a repository.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Size      int64
	// Payload is set by Manifest only, not by lists.
	Payload []byte
	// Subject, ArtifactType and Annotations are the manifest's own (ArtifactType falls back to the config's media
	// type for image manifests), as the referrers API shows them.
	Subject      digest.Digest
	ArtifactType string
	Annotations  map[string]string
	Pushed       time.Time
	Pulled       time.Time // zero: never
	Pulls        int64
}

// ManifestPut is one push of a manifest.
type ManifestPut struct {
	Repo     distribution.RepoName
	Manifest Manifest
	// Tags point at the manifest afterwards.
	Tags []distribution.Tag
	// Blobs must all be linked, else MissingError. OptionalBlobs (layers that live elsewhere) keep a link alive if it
	// exists. Children are manifests that an index lists; they may be absent.
	Blobs, OptionalBlobs, Children []digest.Digest
	MaxRepos                       int
}

// MissingError lists what a manifest refers to and its repository does not link.
type MissingError struct{ Digests []digest.Digest }

func (e *MissingError) Error() string { return fmt.Sprintf("%d blobs are not linked", len(e.Digests)) }

// Manifests keeps manifests and the tags that point at them.
type Manifests interface {
	PutManifest(ctx context.Context, p ManifestPut) error
	// Manifest finds by tag or digest. ErrNotFound.
	Manifest(ctx context.Context, repo distribution.RepoName, ref distribution.Reference) (Manifest, error)
	// DeleteManifest deletes a manifest and every tag that points at it; its blobs' links are asserted now, so that they
	// outlive it by the grace period. ErrNotFound.
	DeleteManifest(ctx context.Context, repo distribution.RepoName, d digest.Digest, now time.Time) error
	// DeleteRepository deletes all tags and manifests; the links are asserted now. ErrNotFound.
	DeleteRepository(ctx context.Context, repo distribution.RepoName, now time.Time) error
	// DeleteTag deletes the tag only. ErrNotFound.
	DeleteTag(ctx context.Context, repo distribution.RepoName, tag distribution.Tag) error
	// Referrers lists the manifests whose subject is d, by digest; artifactType "" is all. d may be cut short, as the
	// referrers tag schema does: subjects that begin with it are meant then.
	Referrers(ctx context.Context, repo distribution.RepoName, d digest.Digest, artifactType string) ([]Manifest, error)
	// Pulled adds to the statistics in one transaction. Unknown names are ignored.
	Pulled(ctx context.Context, pulls []Pull) error
}

// Pull is a number of pulls of one manifest, by tag or by digest (Tag empty).
type Pull struct {
	Repo   distribution.RepoName
	Digest digest.Digest
	Tag    distribution.Tag
	Count  int64
	Last   time.Time
}

// TagInfo is a tag with its statistics.
type TagInfo struct {
	Tag       distribution.Tag
	Digest    digest.Digest
	MediaType string
	Pushed    time.Time
	Pulled    time.Time // zero: never
	Pulls     int64
}

// Repository is a repository's figures.
type Repository struct {
	Name      distribution.RepoName
	Tags      int64
	Manifests int64
	// Bytes is the size of the blobs that it links and of its manifests.
	Bytes   int64
	Updated time.Time
}

// Listings are queries over names.
type Listings interface {
	// Repositories lists the names of repositories that have a tag, in ASCII order.
	Repositories(ctx context.Context, page distribution.Page) ([]distribution.RepoName, error)
	// Tags lists a repository's tags in ASCII order; ErrNotFound when there is no such repository.
	Tags(ctx context.Context, repo distribution.RepoName, page distribution.Page) ([]distribution.Tag, error)
	// TagInfos is Tags with statistics.
	TagInfos(ctx context.Context, repo distribution.RepoName, page distribution.Page) ([]TagInfo, error)
	// Untagged lists manifests without a tag, not listed by an index of the repository and without a subject.
	Untagged(ctx context.Context, repo distribution.RepoName) ([]Manifest, error)
	// Orphans lists manifests whose subject is not in the repository (Subject set) and which no tag points at.
	Orphans(ctx context.Context, repo distribution.RepoName) ([]Manifest, error)
	Repository(ctx context.Context, repo distribution.RepoName) (Repository, error)
	// AllRepositories lists every repository, tagged or not.
	AllRepositories(ctx context.Context, page distribution.Page) ([]distribution.RepoName, error)
}

// Candidate is a link that no manifest needs.
type Candidate struct {
	Repo distribution.RepoName
	Blob Blob
}

// Collector is what garbage collection asks. Candidates may be stale; the Drop methods check again in a transaction.
type Collector interface {
	// UnusedLinks lists up to n links, after the given one, that no manifest refers to and that were asserted before.
	UnusedLinks(ctx context.Context, after Candidate, before time.Time, n int) ([]Candidate, error)
	// DropLinks deletes those of the links that are still unused and still asserted before; it says how many. A power cut
	// may bring them back.
	DropLinks(ctx context.Context, links []Candidate, before time.Time) (int, error)
	// UnlinkedBlobs lists up to n blobs of a store, after the given digest, without links and asserted before.
	UnlinkedBlobs(ctx context.Context, store string, after digest.Digest, before time.Time, n int) ([]Blob, error)
	// DropBlobs deletes the rows of those blobs that still have no link and were asserted before; it returns which. The
	// caller holds their guards exclusively and deletes the bytes after: that the rows are gone is durable. Both may take
	// many at once: changes of others are done in between.
	DropBlobs(ctx context.Context, blobs []Blob, before time.Time) ([]Blob, error)
	// Known says which of the digests have a row in the store (for the sweep of bytes without a row).
	Known(ctx context.Context, store string, ds []digest.Digest) (map[digest.Digest]bool, error)
	// DropEmptyRepositories forgets repositories without links and manifests; it says how many.
	DropEmptyRepositories(ctx context.Context, before time.Time) (int, error)
	// Total is the number of blobs in the index and their bytes.
	Total(ctx context.Context) (blobs, bytes int64, err error)
}

// Guards keep the collector and a push of the same digest apart: a push holds the digest shared from before it places
// the bytes until its link is committed, the collector exclusively from the row's deletion until the bytes are gone.
type Guards interface {
	// Share waits.
	Share(ctx context.Context, store string, d digest.Digest) (release func(), err error)
	// TryExclude does not wait: it holds those of the digests that nobody else holds, and says which. release is never
	// nil when err is nil.
	TryExclude(ctx context.Context, store string, ds []digest.Digest) (held []digest.Digest, release func(), err error)
}
