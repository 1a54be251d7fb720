// Package buildkit carries out builds: BuildKit in process, on the engine's own content store, snapshots, leases and
// image names. There is no second daemon and no second copy of a layer.
//
// Life cycle: New starts nothing; Sweep, at the engine's start, removes what a killed engine's builds left; the solver,
// its databases and the control API are made at first use; Close takes them down. What is kept on disk lies below
// Config.Root: the cache's records, the solver's keys, the history of builds.
package buildkit

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/snapshots"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"longshore/internal/core/network"
	"longshore/internal/driver/buildkit/remap"
)

// Store is the engine's store, as far as builds need it.
type Store interface {
	Content() content.Store
	Snapshotter() snapshots.Snapshotter
	Leases() leases.Manager
	// Metadata is the database below them, for BuildKit's second namespace (its history).
	Metadata() *metadata.DB
	GarbageCollect(ctx context.Context) error
	// Adopt makes the committed snapshot of that name, with those below it, the unpacked form of an image's layers: config
	// is the image's configuration, chains are the layers' chain IDs, the lowest first.
	Adopt(ctx context.Context, config digest.Digest, chains []digest.Digest, snapshot string) error
	// SnapshotName is the snapshot that stands for a chain ID.
	SnapshotName(ctx context.Context, name string) string
}

// Images is the engine's images, as far as builds need it.
type Images interface {
	images.Store
	// Built names a new image, durably and at once. Without names it is kept as one without a name. What had a name
	// before loses it.
	Built(ctx context.Context, target ocispec.Descriptor, names []string) error
}

// Networks gives steps their network.
type Networks interface {
	Open(ctx context.Context, r network.Request) (network.Sandbox, error)
	Close(ctx context.Context, id string) error
}

// Config holds the builder's settings.
type Config struct {
	// Root is where the builder keeps its own state, ExecRoot where steps run (lost at reboot), Temp the process's own
	// directory for temporary files (TMPDIR).
	Root, ExecRoot, Temp string
	// Runtime is the OCI runtime's path; it must know runc's command line.
	Runtime      string
	CgroupParent string
	DNS          DNS
	GC           GC
	// Entitlements are what builds may ask for: "network.host", "security.insecure", "device".
	Entitlements []string
	Registries   Registries
	// HostGateways are the addresses that "host-gateway" stands for.
	HostGateways func() []netip.Addr
	Log          *slog.Logger

	idle  func()               // told when no step runs any more
	hosts docker.RegistryHosts // by the registries that are in force
}

// DNS is what steps find in /etc/resolv.conf; without servers it is made of the host's.
type DNS struct{ Servers, Options, Search []string }

// Deps are what the builder works on.
type Deps struct {
	Store    Store
	Images   Images
	Networks Networks
	Remap    remap.Remap // nil: steps' root is the host's
	AppArmor AppArmor    // nil: the host has none
	// Devices gives the devices that vendors describe; nil: there are none.
	Devices func() (*cdi.Cache, error)
}

// AppArmor loads a profile that the engine brings. Implemented by driver/apparmor.
type AppArmor interface {
	Ensure(name string) error
}

// Builder implements build.Builder and build.Wire. It is safe for concurrent use.
type Builder struct {
	cfg  Config
	deps Deps

	mu     sync.Mutex
	core   *core // nil until first used
	closed bool

	idle chan struct{} // no step runs any more; capacity 1

	running running

	registries atomic.Pointer[Registries]
}

var errClosed = errors.New("the builder is shutting down")

// New checks nothing and starts nothing.
func New(cfg Config, deps Deps) *Builder {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Builder{cfg: cfg, deps: deps, idle: make(chan struct{}, 1), running: running{builds: map[string]context.CancelFunc{}}}
	b.SetRegistries(cfg.Registries)
	b.cfg.hosts = func(host string) ([]docker.RegistryHost, error) { return b.registries.Load().hosts(host) }
	b.cfg.idle = func() {
		select {
		case b.idle <- struct{}{}:
		default:
		}
	}
	return b
}

// SetRegistries changes how registries are reached, for every request from now on.
func (b *Builder) SetRegistries(r Registries) { b.registries.Store(&r) }

// open makes the solver at first use.
func (b *Builder) open(ctx context.Context) (*core, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errClosed
	}
	if b.core == nil {
		c, err := newCore(context.WithoutCancel(ctx), b.cfg, b.deps)
		if err != nil {
			return nil, err
		}
		b.core = c
	}
	return b.core, nil
}

// opened is the solver when there is one already.
func (b *Builder) opened() *core {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.core
}

// Close cancels what runs and closes the databases. Nothing may use the builder afterwards.
func (b *Builder) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	b.running.cancelAll()
	b.running.wait.Wait()
	if b.core == nil {
		return nil
	}
	return b.core.close()
}
