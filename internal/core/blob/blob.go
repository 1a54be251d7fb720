// Package blob is the contract of the registry's content store: immutable bytes by digest, and uploads that become
// blobs. It knows neither repositories nor permission: that a blob lies here makes it visible to nobody, only a link in
// the index does. Implementations: driver/blobdisk, driver/blobs3; both run the suite in blobtest.
package blob

import (
	"context"
	_ "crypto/sha256" // digest.SHA256
	_ "crypto/sha512" // digest.SHA512
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Info is a blob's size in bytes and when it was stored.
type Info struct {
	Digest   digest.Digest
	Size     int64
	Modified time.Time
}

// Content is an open blob. The caller closes it. It stays readable to its end even when the blob is deleted meanwhile
// (a file), or at least through the collector's grace period (S3).
type Content struct {
	io.ReadSeekCloser
	Size int64
	// File is the same bytes as a local file for sendfile, or nil. Its offset is that of the reader.
	File *os.File
}

// Store keeps blobs. Every method is safe for concurrent use. Errors: ErrNotFound for a blob or upload that is not
// there, ErrInvalidArgument for bytes that do not have the digest, ErrOutOfRange for a chunk that does not fit.
type Store interface {
	Stat(ctx context.Context, d digest.Digest) (Info, error)
	Open(ctx context.Context, d digest.Digest) (Content, error)
	// Put stores a blob whose digest is known before its bytes: it verifies while streaming and is durable on return.
	// size -1 means unknown; another size than promised is ErrOutOfRange. After an error nothing is left.
	Put(ctx context.Context, d digest.Digest, size int64, r io.Reader) (Info, error)
	// Delete is idempotent. Open contents stay readable.
	Delete(ctx context.Context, d digest.Digest) error
	// Walk calls fn for every blob in no order, until fn errs. Blobs stored or deleted meanwhile may be seen or not.
	Walk(ctx context.Context, fn func(Info) error) error
	Uploads
}

// Uploads are open writes, found again by key after a restart. A key is up to 100 bytes of [a-z0-9-], unique, chosen by
// the caller.
type Uploads interface {
	// Begin opens an upload whose bytes are hashed with alg as they come.
	Begin(ctx context.Context, key string, alg digest.Algorithm) error
	// Offset is the number of bytes that the upload holds.
	Offset(ctx context.Context, key string) (int64, error)
	// Append writes r at the end. at is the offset that the writer believes in, -1 for "the end": another is
	// ErrOutOfRange, as is an upload that another request is writing. When r fails, what came before stays, and the
	// returned offset says how much the upload holds.
	Append(ctx context.Context, key string, at int64, r io.Reader) (int64, error)
	// Commit verifies the digest, makes the bytes durable and a blob. A wrong digest is ErrInvalidArgument and removes
	// the upload.
	Commit(ctx context.Context, key string, d digest.Digest) (Info, error)
	// Cancel drops an upload; ErrNotFound when there is none.
	Cancel(ctx context.Context, key string) error
	// Sweep drops uploads that nobody has written to since before, and what crashes left; it says how many.
	Sweep(ctx context.Context, before time.Time) (int, error)
}

// CheckKey refuses keys that are none: those could leave an upload's place, or meet a store's own names ("put-…").
func CheckKey(key string) error {
	ok := key != "" && len(key) <= 100 && !strings.HasPrefix(key, "put-")
	for _, c := range key {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("upload key %.200q: %w", key, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Placed is what a store can tell besides: where its bytes lie. Two stores in one place are one store.
type Placed interface {
	// Place is the same text for the same place, whatever way leads there.
	Place() string
}

// Linker is what a store on a local file system can do besides: give and take blobs as hard links.
type Linker interface {
	// LinkIn takes the file at path into the store as blob d, by hard link, or by copy when that cannot be. The caller
	// vouches for the digest and never writes to the file again. Durable on return, idempotent.
	LinkIn(ctx context.Context, d digest.Digest, path string) (Info, error)
	// PathOf is the blob's file, to be read or hard-linked, never written.
	PathOf(ctx context.Context, d digest.Digest) (string, error)
}

// Settler is what a store with a log can do besides: its owner has it called about every second, and at the end.
type Settler interface {
	// Settle brings what rests in the log for that long, or fills it, durably to its place. It costs nothing when there is
	// nothing to do. Blobs are durable without it: it keeps the log short, and with it the next start.
	Settle(ctx context.Context, rested time.Duration) error
}

// Redirector is what a store with its own HTTP server can do besides.
type Redirector interface {
	// URL is an address from which anyone may GET the blob for the given time.
	URL(ctx context.Context, d digest.Digest, valid time.Duration) (string, error)
}
