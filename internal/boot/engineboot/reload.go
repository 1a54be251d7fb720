package engineboot

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"
	api "github.com/moby/moby/api/types/system"

	"longshore/internal/service/engine/containers"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/system"
)

// watchReload reads the configuration file again at each SIGHUP, until ctx is done.
func (e *engine) watchReload(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			if err := e.reload(ctx); err != nil {
				e.log.Error("configuration not reloaded, the old one stays in force", "error", err)
			}
		}
	}
}

// reload puts into force what the file says of the keys that can change. All of it was checked before any of it counts.
func (e *engine) reload(ctx context.Context) error {
	next, err := e.cfg.Reread()
	if err != nil {
		return err
	}
	runtimes, err := findRuntimes(ctx, next, e.log)
	if err != nil {
		return err
	}
	if err := e.gate.load(ctx, next.AuthorizationPlugins); err != nil {
		return err
	}
	client := e.registries.Config()
	client.Insecure, client.Mirrors = next.InsecureRegistry, next.RegistryMirrors
	if err := e.registries.Reconfigure(client); err != nil {
		return err
	}
	e.builder.SetRegistries(builderRegistries(next))
	e.cfg, e.runtimes = next, runtimes
	e.ending.Store(int64(next.ShutdownTimeout))
	e.level.Set(Level(next.LogLevel))
	e.containers.SetLive(
		containers.Live{LiveRestore: next.LiveRestore, ShutdownTimeout: time.Duration(next.ShutdownTimeout) * time.Second},
		launch.Runtimes{Default: runtimes.def, All: runtimes.launch(next)},
	)
	e.images.SetLimits(limits(next))
	told := map[string]api.RuntimeWithStatus{}
	for name, r := range runtimes.all {
		told[name] = api.RuntimeWithStatus{Runtime: api.Runtime{Path: r.Binary.Path, Args: r.Binary.Args}}
	}
	builder := e.builderVersion()
	e.system.Reconfigure(func(c *system.Config) {
		c.Debug, c.Labels, c.LiveRestore = next.LogLevel == "debug", next.Labels, next.LiveRestore
		c.Runtimes, c.DefaultRuntime, c.BuilderVersion = told, runtimes.def, builder
		c.Registry, c.AuthzPlugins = registries(next.InsecureRegistry, next.RegistryMirrors), next.AuthorizationPlugins
	})
	e.log.Info("configuration reloaded", "file", next.File)
	return e.tellReload(ctx)
}

// tellReload publishes docker's event with what is in force.
func (e *engine) tellReload(ctx context.Context) error {
	attrs := map[string]string{
		"name": e.host.Hostname, "debug": strconv.FormatBool(e.cfg.LogLevel == "debug"), "live-restore": strconv.FormatBool(e.cfg.LiveRestore),
		"shutdown-timeout": strconv.Itoa(e.cfg.ShutdownTimeout), "default-runtime": e.runtimes.def,
		"max-concurrent-downloads": strconv.Itoa(e.cfg.MaxDownloads), "max-concurrent-uploads": strconv.Itoa(e.cfg.MaxUploads),
		"max-download-attempts": strconv.Itoa(e.cfg.MaxAttempts),
	}
	for key, v := range map[string]any{
		"labels": e.cfg.Labels, "registry-mirrors": e.cfg.RegistryMirrors, "insecure-registries": e.cfg.InsecureRegistry,
		"runtimes": e.cfg.Runtimes, "features": e.cfg.Features, "authorization-plugins": e.cfg.AuthorizationPlugins,
	} {
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("tell of reload: %w", err)
		}
		attrs[key] = string(text)
	}
	e.journal.Publish(ctx, events.Message{
		Type: events.DaemonEventType, Action: events.ActionReload, Scope: "local", Actor: events.Actor{ID: e.system.Info(ctx).ID, Attributes: attrs},
	})
	return nil
}
