// Package image is the contract between containers and images: what a container needs of an image and of its root
// filesystem. Implemented by service/engine/images over driver/ctdstore.
package image

import (
	"context"
	"io"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one platform's image, resolved from a name.
type Image struct {
	// ID is the digest that docker shows: of the index when there is one, else of the manifest.
	ID digest.Digest
	// Manifest is the platform's manifest.
	Manifest ocispec.Descriptor
	// Names are familiar references that point at ID, sorted.
	Names []string
	// Config is the image configuration, docker's extensions included.
	Config dockerspec.DockerOCIImage
	// ChainID names the top committed snapshot; empty for an image without layers.
	ChainID digest.Digest
	Created time.Time
}

// Images finds images and makes root filesystems from them.
type Images interface {
	// Resolve finds by name, tag, name@digest, ID or unambiguous short ID; platform nil means the host's.
	// ErrNotFound carries docker's words ("No such image: x:y").
	Resolve(ctx context.Context, ref string, platform *ocispec.Platform) (Image, error)
	// Use registers that container id uses the image (removal conflicts, prune, list counts); Drop undoes it.
	Use(ctx context.Context, id string, img digest.Digest) error
	Drop(ctx context.Context, id string) error
	// Settle gives the writable snapshot of key, just prepared, its options.
	Settle(ctx context.Context, key string, o RootOptions) error
	RootFS
}

// RootOptions are what a root filesystem may have besides its image.
type RootOptions struct {
	// Size bounds the writable layer in bytes, where the file system can; 0 does not.
	Size uint64
	// Shifted has it mounted through the mapping of the daemon's user namespaces (--userns-remap).
	Shifted bool
}

// RootFS manages writable root filesystems, keyed by container ID.
type RootFS interface {
	// Prepare unpacks the image if needed and makes the writable snapshot of key. Idempotent.
	Prepare(ctx context.Context, key string, img Image) error
	// Mount mounts the writable snapshot at target (an existing directory). Idempotent.
	Mount(ctx context.Context, key, target string) error
	// Unmount is idempotent.
	Unmount(ctx context.Context, target string) error
	// Remove deletes the writable snapshot; no error when it is gone.
	Remove(ctx context.Context, key string) error
	// Changes lists what the writable layer changed, sorted by path.
	Changes(ctx context.Context, key string) ([]container.FilesystemChange, error)
	// Usage is the size of the writable layer in bytes (SizeRw) and of the whole root filesystem (SizeRootFs).
	Usage(ctx context.Context, key string) (rw, rootfs int64, err error)
}

// Committer makes images out of containers.
type Committer interface {
	// Commit makes an image from key's writable layer on top of its parent. ref may be empty.
	Commit(ctx context.Context, o CommitOptions) (digest.Digest, error)
}

// CommitOptions describes a commit.
type CommitOptions struct {
	Key             string // snapshot key = container ID
	Parent          digest.Digest
	ParentManifest  ocispec.Descriptor
	Ref             string // "repo:tag" or empty
	Author, Comment string
	Config          *container.Config // merged by the caller, "changes" applied
	ContainerConfig *container.Config
	Container       string
	Platform        ocispec.Platform
}

// Export writes a plain tar of a directory tree to w (docker export).
type Export func(ctx context.Context, root string, w io.Writer) error
