// Package build is the contract between what asks for a build (the classic POST /build, BuildKit's own clients) and what
// carries it out. Progress is told in BuildKit's words: client.SolveStatus is the field's own contract for it, and what
// both kinds of clients are answered with is made of it.
package build

import (
	"context"
	"net"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/registry"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
)

// Request is one build of a Dockerfile.
type Request struct {
	// ID is the client's name for the build, by which it is cancelled; empty: one is made up.
	ID string
	// Session is the session of a client that serves its own sources, secrets and credentials (version=2). Empty: the
	// sources below are the build's, and Auth its credentials.
	Session string
	Source  Source
	// Dockerfile is the path of the Dockerfile in its source; empty means "Dockerfile".
	Dockerfile string
	// Target is the stage to build; empty: the last one.
	Target string
	// Args are build arguments; nil as a value takes nothing (the Dockerfile's default counts).
	Args   map[string]*string
	Labels map[string]string
	// Platforms are what to build for, such as "linux/arm64/v8"; none: the engine's own.
	Platforms []string
	Cache     Cache
	Run       Run
	Output    Output
	// Auth are the registry credentials by host name, as X-Registry-Config brings them.
	Auth map[string]registry.AuthConfig
	// Attrs are further attributes for the frontend, such as "attest:provenance" or "context:base". They win.
	Attrs map[string]string
}

// Source says where the files come from.
type Source struct {
	// Context are the files that COPY and ADD see, already without what .dockerignore names.
	Context fsutil.FS
	// Dockerfile holds the Dockerfile when it is not in Context; nil: it is.
	Dockerfile fsutil.FS
	// Key names the context from one build to the next: with the same key only files whose metadata changed (mode, owner,
	// size, time to the nanosecond) are read again. Empty: all are read anew.
	Key string
	// Remote is a git or HTTP address that the builder fetches itself; Context and Dockerfile are nil then. Empty or
	// "client-session" with a Session: the client serves the files.
	Remote string
}

// Cache says which earlier results may serve.
type Cache struct {
	// None: no step's earlier result is used.
	None bool
	// Pull asks the registry for base images even when they are here.
	Pull bool
	// From are images, or caches of other kinds, to take results from.
	From []CacheSource
	// To are where results are written to, besides the engine's own cache.
	To []CacheSource
}

// CacheSource is a place for results, as BuildKit names it: Type "registry", "inline" or "local" (from a session).
type CacheSource struct {
	Type  string
	Attrs map[string]string
}

// Run says how steps run.
type Run struct {
	// Network is "", "default" or "bridge" (the engine's default network), "host", "none", or the name of a network.
	Network    string
	ExtraHosts []string // "name:address", "name:host-gateway"
	Ulimits    []*units.Ulimit
	// ShmSize is the size of /dev/shm in bytes; 0: the engine's default.
	ShmSize      int64
	CgroupParent string
	// Memory and MemorySwap (with memory; -1: no limit) are in bytes, 0: none.
	Memory, MemorySwap     int64
	CPUShares              int64
	CPUPeriod, CPUQuota    int64 // microseconds
	CPUSetCPUs, CPUSetMems string
}

// Output says what becomes of the result.
type Output struct {
	// Names are the references that the image gets; none leaves it without a name.
	Names []string
	// Exporters replace the default, the engine's image store.
	Exporters []Exporter
	// Squash joins the layers that the build added into one.
	Squash bool
}

// Exporter is a way out, as BuildKit names it: "image", "moby", "docker", "oci", "local", "tar", "registry", "cacheonly".
// Those that
// give files need a session.
type Exporter struct {
	Type  string
	Attrs map[string]string
}

// Result is what a build made.
type Result struct {
	// ID is the image's: the digest of its index or manifest. Empty when no image went to the engine's store.
	ID digest.Digest
	// Target describes what ID names.
	Target ocispec.Descriptor
	// Response is what the exporters answered, by BuildKit's keys ("containerimage.digest" and others).
	Response map[string]string
}

// StepError is a failed build, with the place in the Dockerfile. Error gives the whole text.
type StepError struct {
	// Vertex is the failed step as the progress names it; empty for an error in the Dockerfile itself.
	Vertex digest.Digest
	// ExitCode is that of the step's process; 0 when none ran.
	ExitCode int
	// Command is the step's command line, shell included; empty when none ran.
	Command []string
	// File, Line, Column and EndLine say where; lines count from 1, columns from 1, 0 means unknown.
	File         string
	Line, Column int
	EndLine      int
	// Source is the Dockerfile's text; nil when unknown.
	Source []byte
	Err    error
}

// Error implements error.
func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap gives the builder's own error.
func (e *StepError) Unwrap() error { return e.Err }

// PruneOptions selects cache records to remove.
type PruneOptions struct {
	// All removes internal records and those of frontends too.
	All bool
	// ReservedSpace, MaxUsedSpace and MinFreeSpace are in bytes: what always stays, what may be used, what must be free on
	// the disk. All 0: whatever the filters match goes.
	ReservedSpace, MaxUsedSpace, MinFreeSpace int64
	// KeepDuration keeps what was used so recently.
	KeepDuration time.Duration
	// Filters are BuildKit's filter expressions, one of which must match.
	Filters []string
}

// PruneReport tells what went.
type PruneReport struct {
	IDs []string
	// Space is in bytes.
	Space int64
}

// CacheRecord is one record of the build cache.
type CacheRecord struct {
	ID          string
	Parents     []string
	Type        string // "regular", "source.local", "exec.cachemount", ...
	Description string
	InUse       bool
	// Shared: an image of the engine uses the same layers.
	Shared     bool
	Size       int64 // bytes
	CreatedAt  time.Time
	LastUsedAt *time.Time
	UsageCount int
}

// Builder carries out builds. All methods may be called at any time from any goroutine.
type Builder interface {
	// Solve builds and answers when all is stored. Progress, unless nil, gets what happens and is closed before Solve
	// returns; it must be read until then. The context's end cancels the build. Errors in the Dockerfile and failed steps
	// are a *StepError.
	Solve(ctx context.Context, r Request, progress chan<- *client.SolveStatus) (Result, error)
	// Cancel ends a running build; a NotFound when there is none of that ID.
	Cancel(ctx context.Context, id string) error
	// Prune removes cache records that nothing uses.
	Prune(ctx context.Context, o PruneOptions) (PruneReport, error)
	// DiskUsage lists the cache records.
	DiskUsage(ctx context.Context) ([]CacheRecord, error)
}

// Wire is the builder as BuildKit's own clients see it. Both methods own conn and return when it is closed or ctx ends.
type Wire interface {
	// Session serves a client's session: the builder calls, the client answers. meta are the request's headers.
	Session(ctx context.Context, conn net.Conn, meta map[string][]string) error
	// Control serves BuildKit's control API (HTTP/2 without TLS).
	Control(ctx context.Context, conn net.Conn) error
}
