package buildkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/cache/remotecache/inline"
	"github.com/moby/buildkit/cache/remotecache/local"
	"github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/worker"
	"go.etcd.io/bbolt"
	"google.golang.org/grpc"
)

// stopLimit bounds how long the end of the engine waits for builds of clients to end.
const stopLimit = 5 * time.Second

// core is the opened builder: BuildKit's controller with one worker.
type core struct {
	worker     *localWorker
	controller *control.Controller
	sessions   *session.Manager
	server     *grpc.Server
	stop       chan struct{} // closed when the builder goes
}

func newCore(ctx context.Context, cfg Config, deps Deps) (*core, error) {
	if err := os.MkdirAll(cfg.Root, 0o700); err != nil {
		return nil, fmt.Errorf("make the builder's root: %w", err)
	}
	w, err := newWorker(cfg, deps)
	if err != nil {
		return nil, err
	}
	sessions, err := session.NewManager()
	if err != nil {
		return nil, fmt.Errorf("make session manager: %w", err)
	}
	c := &core{worker: w, sessions: sessions, stop: make(chan struct{})}
	if c.controller, err = newController(ctx, cfg, c); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	c.server = newServer(c.controller, cfg.idle)
	return c, nil
}

func newController(ctx context.Context, cfg Config, c *core) (*control.Controller, error) {
	workers := &worker.Controller{}
	if err := workers.Add(c.worker); err != nil {
		return nil, fmt.Errorf("add worker: %w", err)
	}
	external, err := gateway.NewGatewayFrontend(workers.Infos(), nil)
	if err != nil {
		return nil, fmt.Errorf("make gateway frontend: %w", err)
	}
	builtIn := forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build)
	keys, err := bboltcachestorage.NewStore(filepath.Join(cfg.Root, "cache.db"))
	if err != nil {
		return nil, fmt.Errorf("open the solver's keys: %w", err)
	}
	// Lost in a power cut, history is begun anew: no build waits for the disk because of it.
	history, err := boltutil.SafeOpen(filepath.Join(cfg.Root, "history.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoSync: true})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open build history: %w", err), keys.Close())
	}
	w, kept := c.worker, int64(50)
	return control.NewController(control.Opt{
		SessionManager: c.sessions, WorkerController: workers,
		Frontends: map[string]frontend.Frontend{
			"dockerfile.v0": builtIn,
			"gateway.v0":    withFallback(external, builtIn, cfg.Log),
		},
		CacheManager: solver.NewCacheManager(ctx, "local", keys, worker.NewCacheResultStorage(workers)),
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"registry": registry.ResolveCacheExporterFunc(c.sessions, cfg.hosts),
			"local":    local.ResolveCacheExporterFunc(c.sessions),
			"inline":   inline.ResolveCacheExporterFunc(),
		},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			"registry": registry.ResolveCacheImporterFunc(c.sessions, w.ContentStore(), cfg.hosts),
			"local":    local.ResolveCacheImporterFunc(c.sessions),
		},
		Entitlements: cfg.Entitlements,
		HistoryDB:    history, CacheStore: keys, LeaseManager: w.LeaseManager(), ContentStore: w.ContentStore(),
		HistoryConfig:  &config.HistoryConfig{MaxAge: config.Duration{Duration: 48 * time.Hour}, MaxEntries: &kept},
		GarbageCollect: w.GarbageCollect, GracefulStop: c.stop,
	})
}

// close ends what clients have running, takes everything down, and leaves the databases to the controller, which closes
// them and the worker.
func (c *core) close() error {
	close(c.stop)
	stopped := make(chan struct{})
	go func() {
		c.server.Stop() // waits for its handlers, and they for their steps
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(stopLimit):
	}
	c.worker.steps.wait(stopLimit)
	return c.controller.Close()
}
