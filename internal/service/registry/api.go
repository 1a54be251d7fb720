// Package registry is the registry without HTTP: repositories, blobs, uploads, manifests, tags, referrers, catalogue,
// garbage collection, retention, import, and the exchange of blobs with the engine's content store by hard link.
// It decides; core/blob stores keep bytes and a core/registryindex.Index keeps rows. It knows no users: the caller
// authorises, and passes a predicate where a list or a mount spans repositories.
//
//	s, err := registry.New(index, blobdisk, registry.Config{})
//	go s.Run(ctx)            // statistics, sweeping, scheduled collection
//	m, err := s.Manifest(ctx, "team/app", ref, registry.ManifestOptions{Pull: true})
//
// Every error that a client may see is a *distribution.Error.
package registry

import (
	"io"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/retention"
)

// MaxManifest is the largest manifest in bytes that is accepted; a larger one is 413.
const MaxManifest = 4 << 20

// Config is what an administrator decides.
type Config struct {
	// Placements put repositories below a prefix (zot's subPaths: "/a" holds "a/…") into a store of their own.
	Placements []Placement
	// MaxRepos refuses pushes that would make more repositories (429); 0 is no limit.
	MaxRepos int
	// Shared says that other processes write to the same index: nothing that a push may move is cached then.
	Shared bool
	// Redirect makes BlobURL answer for stores that can.
	Redirect bool
	// Sparse takes image manifests whose layers are not in the repository (yet); their config must be.
	Sparse bool
	// UploadTTL is how long an upload may rest before it is swept; default 24 h.
	UploadTTL time.Duration
	GC        GCConfig
	// Logger gets one line per background event; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// GCConfig schedules garbage collection (zot's gc, gcDelay, gcInterval, gcTimeWindow, retention).
type GCConfig struct {
	Enabled bool
	// Delay is the grace period: nothing that was pushed or looked at within it is taken; default 1 h.
	Delay time.Duration
	// Interval between collections; default 1 h.
	Interval time.Duration
	// Window is "HH:MM-HH:MM" in UTC within which a collection may begin; "" is always.
	Window string
	// Retention is applied before each collection.
	Retention retention.Config
}

// Placement is a store for repositories whose name is Prefix or lies below it.
type Placement struct {
	// Prefix without slashes at its ends, such as "a" or "a/b".
	Prefix string
	// Name is the store's name in the index; it must never change.
	Name  string
	Store blob.Store
}

// Upload is an open upload: Offset bytes are there (the Range header is 0-(Offset-1)).
type Upload struct {
	ID     string // UUID
	Offset int64
}

// Chunk is the body of a request. First is the offset it begins at and Size its length; -1 when the client did not say.
type Chunk struct {
	First, Size int64
	Body        io.Reader
}

// Mount asks for a blob of another repository. From may be empty: then any repository will do that May accepts.
// May (nil: all) says whether the client may read a repository; it is asked for From as well.
type Mount struct {
	Repo, From distribution.RepoName
	Digest     digest.Digest
	May        func(distribution.RepoName) bool
}

// ManifestOptions of a GET or HEAD.
type ManifestOptions struct {
	// Accept is the client's media types without parameters, in order; empty is anything. An old client that asks by
	// tag, knows no index and finds one is answered with its linux/amd64 manifest, as the reference implementation does.
	Accept []string
	// Pull counts as a pull in the statistics (GET, not HEAD).
	Pull bool
}

// Manifest is what the client gets: never changed by the receiver, Payload is shared.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Payload   []byte
}

// ManifestPut is a push. Size -1 when unknown; Tags are those of ?tag= beside Reference.
type ManifestPut struct {
	Repo      distribution.RepoName
	Reference distribution.Reference
	Tags      []distribution.Tag
	MediaType string // Content-Type, parameters allowed
	Size      int64
	Body      io.Reader
}

// ManifestPushed is the outcome: Subject (OCI-Subject) may be empty, Tags are those of ?tag= that were set (OCI-Tag).
type ManifestPushed struct {
	Digest    digest.Digest
	MediaType string
	Subject   digest.Digest
	Tags      []distribution.Tag
}

// List is a page of names; More says that a Link header is due, with the last name as "last".
type List struct {
	Names []string
	More  bool
}

// Referrers is an image index document as the referrers API answers it.
type Referrers struct {
	Descriptors []ocispec.Descriptor
	// Payload is the document's JSON, MediaType application/vnd.oci.image.index.v1+json.
	Payload []byte
	// Filtered says that artifactType was applied (OCI-Filters-Applied).
	Filtered bool
}

// GCOptions of one collection.
type GCOptions struct {
	// DryRun reports and changes nothing.
	DryRun bool
	// Delay overrides the configured grace period when not nil.
	Delay *time.Duration
}

// GCReport is what a collection took (or would take).
type GCReport struct {
	Tags, Manifests, Links, Blobs, Repositories, Uploads int
	Bytes                                                int64
	// Lines say what and why, one per tag, manifest and blob; filled by a dry run only.
	Lines []string
}

// ImportOptions of Import.
type ImportOptions struct {
	// Dir is a zot storage folder (OCI layouts) or a distribution one (docker/registry/v2).
	Dir string
	// Verify hashes every blob instead of trusting the other registry's file names.
	Verify bool
	// Progress is called after each repository; may be nil.
	Progress func(ImportProgress)
}

// ImportProgress counts what is done. Skipped lists what could not be taken and why.
type ImportProgress struct {
	Repo                                       distribution.RepoName // the one just done
	Repositories, Manifests, Tags, Blobs, Done int
	Bytes                                      int64
	Skipped                                    []string
}
