// Package graph is the contract of what the registry keeps beside its index for clients of registry API v1 and of the
// index API v1: images with their parents, which images a manifest stands for, and what the index knows of
// repositories. Implementation: driver/sqlmeta, in the index's own database; the suite is in graphtest.
//
// What a method changed is durable when it returns, in one transaction. Errors carry errdefs classes: ErrNotFound,
// ErrAlreadyExists, ErrResourceExhausted (too many repositories).
package graph

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/imagev1"
)

// State says how far the push of an image has come.
type State int

// The states. Only complete images can be had.
const (
	// Pending images have a document and no layer.
	Pending State = iota
	// Uploaded images have a layer that nobody has confirmed.
	Uploaded
	// Complete images are confirmed by a checksum or a tag, and never change.
	Complete
)

// Encoding says how a layer's tar is packed.
type Encoding string

// The encodings.
const (
	Plain Encoding = "tar"
	Gzip  Encoding = "gzip"
	Zstd  Encoding = "zstd"
	Bzip2 Encoding = "bzip2"
	Xz    Encoding = "xz"
)

// Image is an image in a repository. Without a layer Layer, DiffID and Encoding are empty.
type Image struct {
	ID imagev1.ID
	// Parent is empty for a base image.
	Parent imagev1.ID
	JSON   []byte
	// Layer is the blob that the repository links, DiffID its digest when unpacked, Size the blob's bytes.
	Layer, DiffID digest.Digest
	Encoding      Encoding
	Size          int64
	// Empty layers have no entries: no manifest lists them.
	Empty bool
	// Payload is the checksum of document and layer, as the client sent them; empty when nobody has computed it yet.
	Payload string
	// Announced is the checksum that the client told before it sent the layer; empty for none.
	Announced string
	State     State
	// Added is when the image was last asserted by a push.
	Added time.Time
}

// Images keeps images. An image lives as long as a manifest stands for it, and else as long as the link of its layer, which
// garbage collection drops after the grace period.
type Images interface {
	// BeginImage keeps a document (State is Pending), instead of what an unfinished push has left. ErrAlreadyExists when
	// the repository has the image complete. maxRepos is as in registryindex.Link.
	BeginImage(ctx context.Context, repo distribution.RepoName, i Image, maxRepos int) error
	// Image finds one in a repository.
	Image(ctx context.Context, repo distribution.RepoName, id imagev1.ID) (Image, error)
	// ChangeImage changes an image in one transaction; concurrent changes follow one another. The layer must be linked.
	// change must not call the store; its error leaves everything as it was and is returned. ID, Parent and JSON stay.
	ChangeImage(ctx context.Context, repo distribution.RepoName, id imagev1.ID, change func(*Image) error) error
	// Holding lists the repositories that have an image, in ASCII order; at most n.
	Holding(ctx context.Context, id imagev1.ID, n int) ([]distribution.RepoName, error)
}

// TagTop is a tag and the image that it stands for; Top is empty when no chain is kept for its manifest.
type TagTop struct {
	Tag       distribution.Tag
	Digest    digest.Digest
	MediaType string
	Top       imagev1.ID
	Pushed    time.Time
}

// Chains keeps which images a manifest stands for.
type Chains interface {
	// PutChain says that a manifest of the repository stands for images, base first, instead of what was said before. Images
	// that the repository has, complete and with the same layer or the same DiffID, stay as they are; the others are
	// kept as given. ErrNotFound when the manifest, or a layer's link, is not there. ErrAlreadyExists when the repository
	// has another image of that name.
	PutChain(ctx context.Context, repo distribution.RepoName, manifest digest.Digest, images []Image) error
	// Chain lists a manifest's images, base first; ErrNotFound when nothing was said.
	Chain(ctx context.Context, repo distribution.RepoName, manifest digest.Digest) ([]Image, error)
	// Standing finds a manifest of which an image is the top; ErrNotFound.
	Standing(ctx context.Context, repo distribution.RepoName, top imagev1.ID) (digest.Digest, error)
	// Tops lists a repository's tags in ASCII order; ErrNotFound when there is no such repository.
	Tops(ctx context.Context, repo distribution.RepoName) ([]TagTop, error)
	// Unsummed lists up to n complete images whose Payload nobody has computed.
	Unsummed(ctx context.Context, n int) ([]Place, error)
}

// Place is where an image lies.
type Place struct {
	Repo distribution.RepoName
	ID   imagev1.ID
}

// Repository is what the index knows of a repository besides its images.
type Repository struct {
	Name distribution.RepoName
	// Description is shown by searches, Stars counts who likes it, Trusted says that it is built automatically.
	Description string
	Stars       int64
	Trusted     bool
	// Private repositories say so in their properties; who may read is a matter of the access policies.
	Private bool
	// Deleted is when a deletion began that waits for its confirmation; zero for none. What is pushed later is not meant.
	Deleted time.Time
	// Images is what clients have told, oldest first.
	Images  []Record
	Created time.Time
}

// Record is an image as clients tell the index of it.
type Record struct {
	ID       imagev1.ID
	Checksum string
	Tag      string
}

// Found is a result of a search.
type Found struct {
	Name        distribution.RepoName
	Description string
	Stars       int64
	Trusted     bool
}

// Repositories keeps what the index knows.
type Repositories interface {
	// Repository finds one.
	Repository(ctx context.Context, name distribution.RepoName) (Repository, error)
	// ChangeRepository makes or changes one, in one transaction. change must not call the store; its error leaves
	// everything as it was and is returned.
	ChangeRepository(ctx context.Context, name distribution.RepoName, now time.Time, change func(*Repository) error) error
	// ForgetRepository is idempotent.
	ForgetRepository(ctx context.Context, name distribution.RepoName) error
	// Search calls each for every repository with a tag (one that is newer than Deleted) whose name or description holds the term, whatever the case of its
	// ASCII letters, the most stars first, then by name. each must not call the store.
	Search(ctx context.Context, term string, each func(Found) error) error
}

// Store is everything.
type Store interface {
	Images
	Chains
	Repositories
}
