// Package containers runs containers: it owns their records and decides what happens to them.
//
// One goroutine (the actor, see handle) owns each container. It runs the pure step function of core/container, stores
// the record and then performs the effects. Whoever only looks (ps, inspect, stats, events) reads an immutable snapshot
// and never waits for a container, not even for one that hangs.
//
//	svc, err := containers.New(cfg, deps)
//	err = svc.Restore(ctx)      // records, live shims, sweeping
//	err = svc.Run(ctx)          // owns all goroutines until ctx is done
//	err = svc.Shutdown(ctx)     // before ctx of Run ends: stops containers unless live-restore is on
package containers

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	core "longshore/internal/core/container"
	"longshore/internal/core/image"
	"longshore/internal/core/state"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/containers/mounts"
	"longshore/internal/service/engine/containers/names"
	"longshore/internal/service/engine/containers/notice"
	"longshore/internal/service/engine/containers/request"
	"longshore/internal/service/engine/containers/streams"
)

// Config are the daemon's settings for containers.
type Config struct {
	launch.Config
	Live
	// StorageDriver is what inspect tells; StorageSize bounds writable layers without a bound of their own, 0: none.
	StorageDriver string
	StorageSize   uint64
	// DataRoot is the daemon's own directory, which containers may not keep private copies of.
	DataRoot string
}

// Live are the settings that may change while the daemon runs.
type Live struct {
	// LiveRestore leaves containers running when the daemon goes; otherwise ShutdownTimeout bounds their stop.
	LiveRestore     bool
	ShutdownTimeout time.Duration
	// Of containers that ask for none: "private", the host's habit and 64 MiB when empty.
	DefaultIpcMode      container.IpcMode
	DefaultCgroupnsMode container.CgroupnsMode
	DefaultShmSize      int64 // bytes
}

// Disk is where containers' files are. Implemented by driver/containerfs.
type Disk interface {
	Make(id string) error
	Delete(id string) error
	Found() ([]string, error)
	launchDisk
}

type launchDisk = launch.Disk

// Processes looks at processes from the host. Implemented by driver/processes.
type Processes interface {
	Top(ctx context.Context, psArgs string, pids []int) (*container.TopResponse, error)
	NetStats(pid int) (map[string]container.NetworkStats, error)
}

// Validator checks what a client asks for at create and update; it answers warnings and docker's refusals.
type Validator interface {
	Validate(cfg *container.Config, hc *container.HostConfig) (warnings []string, err error)
	ValidateUpdate(r *container.Resources) (warnings []string, err error)
}

// Publisher takes events: core/event.Publisher.
type Publisher interface {
	Publish(ctx context.Context, m events.Message)
}

// Deps are what containers are made of.
type Deps struct {
	Launch    launch.Deps
	Images    image.Images
	Events    Publisher
	Store     state.Store
	Logs      streams.LogReader
	Disk      Disk
	Files     mounts.Files
	Processes Processes
	Validator Validator
	// NetworkName gives the name of a network that a client calls by its ID or name.
	NetworkName request.NetworkNamer
	Log         *slog.Logger
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// Service owns the containers. Safe for concurrent use.
type Service struct {
	cfg      Config
	deps     Deps
	log      *slog.Logger
	launcher *launch.Launcher
	mounts   *mounts.Resolver
	index    *names.Index[*handle]
	execs    execTable
	probes   probeCount
	live     atomic.Pointer[Live]
	births   *notice.Queue[*handle]
	damaged  sync.Map // IDs whose records cannot be read -> true
	closing  sync.Once
	down     chan struct{} // closed when the daemon goes down
}

// New settles the configuration; nothing runs yet.
func New(cfg Config, deps Deps) *Service {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if cfg.ShutdownTimeout == 0 {
		cfg.ShutdownTimeout = 15 * time.Second
	}
	if cfg.StorageDriver == "" {
		cfg.StorageDriver = "overlayfs"
	}
	s := &Service{
		cfg: cfg, deps: deps, log: deps.Log, launcher: launch.New(cfg.Config, deps.Launch), mounts: deps.Launch.Mounts,
		index: names.NewIndex[*handle](), births: notice.NewQueue[*handle](),
		down: make(chan struct{}),
	}
	s.SetLive(cfg.Live, launch.Runtimes{Default: cfg.DefaultRuntime, All: cfg.Runtimes})
	return s
}

// SetLive changes the settings that may change.
func (s *Service) SetLive(l Live, r launch.Runtimes) {
	l.DefaultIpcMode = cmp.Or(l.DefaultIpcMode, container.IPCModePrivate)
	l.DefaultShmSize = cmp.Or(l.DefaultShmSize, s.launcher.ShmSize())
	s.live.Store(&l)
	s.launcher.SetRuntimes(r)
}

// Run owns the goroutines of all containers until ctx is done; it returns when they have ended.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	sweep := time.NewTicker(time.Minute)
	defer sweep.Stop()
	for {
		for _, h := range s.births.Take() {
			wg.Go(func() { s.own(ctx, h) })
		}
		select {
		case <-s.births.More():
		case <-sweep.C:
			s.execs.sweep(s.deps.Now())
		case <-ctx.Done():
			return nil
		}
	}
}

// find looks a container up by ID, name or prefix.
func (s *Service) find(ref string) (*handle, error) { return s.index.Find(ref) }

// Lookup resolves a reference to the full ID and the name without slash.
func (s *Service) Lookup(ref string) (id, name string, err error) {
	h, err := s.find(ref)
	if err != nil {
		return "", "", err
	}
	rec := h.record()
	return rec.ID, rec.Name, nil
}

// ImageUse tells which image reference a container was made from and whether it runs. For "<ID>/<n>", the use of an
// image by a mount, the reference is the mount's.
func (s *Service) ImageUse(id string) (ref string, running, ok bool) {
	id, n, mounted := strings.Cut(id, "/")
	h, ok := s.index.Get(id)
	if !ok {
		_, damaged := s.damaged.Load(id)
		return "", false, damaged
	}
	rec := h.record()
	if mounted {
		return mounts.ImageAt(rec.Mounts, n), rec.State.Active(), true
	}
	return rec.Config.Image, rec.State.Active(), true
}

// Counts tells how many containers run, are paused and are neither.
func (s *Service) Counts() (running, paused, stopped int) {
	for _, h := range s.index.All() {
		switch h.record().State.Status() {
		case container.StateRunning, container.StateRestarting:
			running++
		case container.StatePaused:
			paused++
		default:
			stopped++
		}
	}
	return running, paused, stopped
}

// emit publishes an event about a container.
func (s *Service) emit(ctx context.Context, rec *core.Record, action events.Action, extra map[string]string) {
	attrs := make(map[string]string, len(rec.Config.Labels)+len(extra)+2)
	for k, v := range rec.Config.Labels {
		attrs[k] = v
	}
	for k, v := range extra {
		attrs[k] = v
	}
	attrs["image"], attrs["name"] = rec.Config.Image, rec.Name
	s.deps.Events.Publish(ctx, events.Message{
		Type: events.ContainerEventType, Action: action, Scope: "local",
		Actor: events.Actor{ID: rec.ID, Attributes: attrs},
	})
}
