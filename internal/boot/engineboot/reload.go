package engineboot

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/events"
	api "github.com/moby/moby/api/types/system"

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
	e.builder.SetRegistries(builderRegistries(next, e.registries))
	e.cfg, e.runtimes = next, runtimes
	e.ending.Store(int64(next.ShutdownTimeout))
	e.level.Set(Level(next.LogLevel))
	e.containers.SetLive(liveSettings(next), launch.Runtimes{Default: runtimes.def, All: runtimes.launch(next)})
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
	c := e.cfg
	var named []string
	for _, name := range slices.Sorted(maps.Keys(c.Runtimes)) {
		named = append(named, name+":"+c.Runtimes[name].Path)
	}
	attrs := map[string]string{
		"name": e.host.Hostname, "debug": strconv.FormatBool(c.LogLevel == "debug"), "live-restore": strconv.FormatBool(c.LiveRestore),
		"shutdown-timeout": strconv.Itoa(c.ShutdownTimeout), "runtimes": strings.Join(named, " "), "default-runtime": e.runtimes.def,
		"max-concurrent-downloads": strconv.Itoa(c.MaxDownloads), "max-concurrent-uploads": strconv.Itoa(c.MaxUploads),
		"default-shm-size": strconv.FormatInt(int64(c.DefaultShmSize), 10), "default-ipc-mode": c.DefaultIpcMode, "default-cgroupns-mode": c.DefaultCgroupns,
		"max-download-attempts": strconv.Itoa(c.MaxAttempts), "features": fmt.Sprint(c.Features),
	}
	for key, list := range map[string][]string{"labels": c.Labels, "registry-mirrors": c.RegistryMirrors, "insecure-registries": c.InsecureRegistry} {
		if list == nil {
			list = []string{}
		}
		text, err := json.Marshal(list)
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
