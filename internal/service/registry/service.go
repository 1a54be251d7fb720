package registry

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
)

// Service is the registry. Make it with New, run its background with Run, end with Close.
type Service struct {
	index registryindex.Index
	blobs blob.Store
	cfg   Config
}

// New settles defaults; it starts nothing. blobs is the default store. The service owns neither index nor stores.
func New(index registryindex.Index, blobs blob.Store, cfg Config) (*Service, error) {
	return &Service{index: index, blobs: blobs, cfg: cfg}, nil
}

var errLater = errors.ErrUnsupported

// Run writes statistics every second, sweeps resting uploads and collects garbage as configured, until ctx ends; then it
// writes the last statistics.
func (s *Service) Run(ctx context.Context) error { return errLater }

// StatBlob finds a blob that the repository links: BLOB_UNKNOWN else. A manifest's digest is found as well.
func (s *Service) StatBlob(ctx context.Context, repo distribution.RepoName, d digest.Digest) (blob.Info, error) {
	return blob.Info{}, errLater
}

// OpenBlob opens a blob for reading; the caller closes it. Content.File is set when sendfile can be used.
func (s *Service) OpenBlob(ctx context.Context, repo distribution.RepoName, d digest.Digest) (blob.Content, error) {
	return blob.Content{}, errLater
}

// BlobURL is an address to redirect a GET to (307); "" when the content is to be served here.
func (s *Service) BlobURL(ctx context.Context, repo distribution.RepoName, d digest.Digest) (string, error) {
	return "", errLater
}

// DeleteBlob removes the link. BLOB_UNKNOWN; DENIED of class ErrMethod while a manifest refers to it.
func (s *Service) DeleteBlob(ctx context.Context, repo distribution.RepoName, d digest.Digest) error {
	return errLater
}

// MountBlob links a blob of another repository. ok is false, without an error, when that cannot be: start an upload then.
func (s *Service) MountBlob(ctx context.Context, m Mount) (info blob.Info, ok bool, err error) {
	return blob.Info{}, false, errLater
}

// PutBlob is the upload in one request (POST with digest).
func (s *Service) PutBlob(ctx context.Context, repo distribution.RepoName, d digest.Digest, c Chunk) (blob.Info, error) {
	return blob.Info{}, errLater
}

// StartUpload opens an upload; alg "" is sha256.
func (s *Service) StartUpload(ctx context.Context, repo distribution.RepoName, alg digest.Algorithm) (Upload, error) {
	return Upload{}, errLater
}

// Upload finds an open upload: BLOB_UPLOAD_UNKNOWN else.
func (s *Service) Upload(ctx context.Context, repo distribution.RepoName, id string) (Upload, error) {
	return Upload{}, errLater
}

// AppendUpload adds a chunk (PATCH). Out of order is BLOB_UPLOAD_INVALID of class ErrRange (416).
func (s *Service) AppendUpload(ctx context.Context, repo distribution.RepoName, id string, c Chunk) (Upload, error) {
	return Upload{}, errLater
}

// FinishUpload adds the last chunk (Body may be nil or empty), verifies the digest and links the blob (PUT). Everything
// is durable on return.
func (s *Service) FinishUpload(ctx context.Context, repo distribution.RepoName, id string, d digest.Digest, c Chunk) (blob.Info, error) {
	return blob.Info{}, errLater
}

// CancelUpload drops an upload (DELETE).
func (s *Service) CancelUpload(ctx context.Context, repo distribution.RepoName, id string) error {
	return errLater
}

// Manifest finds a manifest: MANIFEST_UNKNOWN, or NAME_UNKNOWN when there is no such repository.
func (s *Service) Manifest(ctx context.Context, repo distribution.RepoName, ref distribution.Reference, o ManifestOptions) (Manifest, error) {
	return Manifest{}, errLater
}

// PutManifest stores a manifest and points tags at it: MANIFEST_INVALID, MANIFEST_BLOB_UNKNOWN, DIGEST_INVALID, ErrTooLarge.
func (s *Service) PutManifest(ctx context.Context, p ManifestPut) (ManifestPushed, error) {
	return ManifestPushed{}, errLater
}

// DeleteManifest deletes a tag, or a manifest with all its tags.
func (s *Service) DeleteManifest(ctx context.Context, repo distribution.RepoName, ref distribution.Reference) error {
	return errLater
}

// Tags lists a repository's tags: NAME_UNKNOWN when there is no such repository.
func (s *Service) Tags(ctx context.Context, repo distribution.RepoName, page distribution.Page) (List, error) {
	return List{}, errLater
}

// TagInfos lists tags with statistics, for management and search.
func (s *Service) TagInfos(ctx context.Context, repo distribution.RepoName, page distribution.Page) ([]registryindex.TagInfo, error) {
	return nil, errLater
}

// Repositories is the catalogue: repositories that have a tag and that may (nil: all) accepts.
func (s *Service) Repositories(ctx context.Context, page distribution.Page, may func(distribution.RepoName) bool) (List, error) {
	return List{}, errLater
}

// Repository tells a repository's figures (for metrics): NAME_UNKNOWN.
func (s *Service) Repository(ctx context.Context, repo distribution.RepoName) (registryindex.Repository, error) {
	return registryindex.Repository{}, errLater
}

// Referrers lists the manifests whose subject is d; an empty list when there are none or no such repository.
func (s *Service) Referrers(ctx context.Context, repo distribution.RepoName, d digest.Digest, artifactType string) (Referrers, error) {
	return Referrers{}, errLater
}

// CollectGarbage applies retention, then drops unused links, unlinked blobs, resting uploads and empty repositories,
// while pushes and pulls go on.
func (s *Service) CollectGarbage(ctx context.Context, o GCOptions) (GCReport, error) {
	return GCReport{}, errLater
}

// Import takes over another registry's folder by hard links. Idempotent: what is there already is skipped quickly.
func (s *Service) Import(ctx context.Context, o ImportOptions) (ImportProgress, error) {
	return ImportProgress{}, errLater
}

// LinkIn takes a file whose digest the caller vouches for as a blob of the repository: by hard link on the same file
// system, else by copy. Used by the engine when it pushes to its own registry.
func (s *Service) LinkIn(ctx context.Context, repo distribution.RepoName, d digest.Digest, path string) (blob.Info, error) {
	return blob.Info{}, errLater
}

// PathOf is the file of a blob that the repository links, to be hard-linked by the engine when it pulls from its own
// registry; BLOB_UNKNOWN, or class ErrNotImplemented when the store has no files.
func (s *Service) PathOf(ctx context.Context, repo distribution.RepoName, d digest.Digest) (string, error) {
	return "", errLater
}
