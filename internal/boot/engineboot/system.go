package engineboot

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/container"
	api "github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	corenet "longshore/internal/core/network"
	"longshore/internal/driver/nftables"
	"longshore/internal/service/engine/archive"
	"longshore/internal/service/engine/containers"
	"longshore/internal/service/engine/containers/listing"
	"longshore/internal/service/engine/system"
	"longshore/internal/service/engine/volumes"
)

func (e *engine) makeArchive(context.Context, *closers) error {
	deps := archive.Deps{
		Containers: e.containers, Changes: e.images, Volumes: e.volumes, Events: e.journal,
		Describe: func(ctx context.Context, id string) (archive.Facts, error) {
			c, err := e.containers.Inspect(ctx, id, containers.InspectOptions{})
			if err != nil {
				return archive.Facts{}, err
			}
			return archive.Facts{User: c.Config.User, Image: c.Config.Image, Labels: c.Config.Labels, ReadOnlyRoot: c.HostConfig.ReadonlyRootfs, Shifted: e.hasUserNS(c.HostConfig)}, nil
		},
	}
	if e.shifter != nil {
		deps.Shifter = e.shifter
	}
	e.archive = archive.New(deps)
	return nil
}

func (e *engine) makeSystem(context.Context, *closers) error {
	cfg, err := e.systemConfig()
	if err != nil {
		return err
	}
	e.system = system.New(cfg, system.Deps{
		Facts: e.facts.Load, Containers: e.containers, Images: e.images.Count, Events: e.journal, Registry: e.images, Devices: e.devices.told(),
		Usage: system.Usage{
			Containers: func(ctx context.Context) ([]*container.Summary, error) {
				items, err := e.containers.List(ctx, containers.ListRequest{All: true, Size: true})
				list := listing.Summaries(items)
				for _, c := range list {
					c.ImageManifestDescriptor = nil // only the list of containers has it
				}
				return list, err
			},
			Images: e.images.DiskUsage,
			Volumes: func(ctx context.Context, items bool) (*volume.DiskUsage, error) {
				return e.volumes.Usage(ctx, volumes.UsageOptions{Items: items})
			},
			BuildCache: e.builds.Usage,
		},
	})
	return nil
}

func (e *engine) systemConfig() (system.Config, error) {
	c := e.cfg
	id, err := system.LoadID(c.DataRoot)
	if err != nil {
		return system.Config{}, fmt.Errorf("engine ID: %w", err)
	}
	known := map[string]api.RuntimeWithStatus{}
	for name, r := range e.runtimes.all {
		known[name] = api.RuntimeWithStatus{Runtime: api.Runtime{Path: r.Binary.Path, Args: r.Binary.Args}}
	}
	profile := c.SeccompProfile
	if profile == "" {
		profile = "builtin"
	}
	def := e.runtimes.all[e.runtimes.def]
	return system.Config{
		ID: id, Product: "Longshore", Version: e.build.Version, GitCommit: e.build.Commit, BuildTime: e.build.Time,
		APIVersion: newestAPI, MinAPIVersion: e.oldest(), BuilderVersion: e.builderVersion(),
		Components: []api.ComponentVersion{{Name: e.runtimes.def, Version: def.Version, Details: map[string]string{"GitCommit": def.Commit}}},
		Root:       c.DataRoot, Debug: c.LogLevel == "debug", Experimental: c.Experimental, LiveRestore: c.LiveRestore, Labels: c.Labels,
		StorageDriver: "overlayfs", StorageStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
		AuthzPlugins:  c.AuthorizationPlugins,
		LoggingDriver: c.LogDriver, LogDrivers: []string{"fluentd", "gelf", "journald", "json-file", "local", "syslog"},
		NetworkDrivers: []string{"bridge", "host", "null"}, VolumeDrivers: []string{"local"},
		Runtimes: known, DefaultRuntime: e.runtimes.def, InitBinary: "docker-init", RuntimeCommit: def.Commit,
		HTTPProxy: c.HTTPProxy, HTTPSProxy: c.HTTPSProxy, NoProxy: c.NoProxy,
		AddressPools: addressPools(c.AddressPools, corenet.DefaultPools()), Firewall: firewallBackend(c.FirewallBackend, nftables.Usable() == nil),
		Warnings:        apiWarnings(c),
		Registry:        registries(c.InsecureRegistry, c.RegistryMirrors),
		SecurityOptions: e.securityOptions(profile),
	}, nil
}

// builderVersion recommends a builder to clients: BuildKit, unless the features say otherwise.
func (e *engine) builderVersion() string {
	if on, set := e.cfg.Features["buildkit"]; set && !on {
		return "1"
	}
	return "2"
}
