package engineboot

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"

	"longshore/internal/boot/engineconfig"
	corebuild "longshore/internal/core/build"
	"longshore/internal/driver/apparmor"
	"longshore/internal/driver/buildkit"
	"longshore/internal/driver/registryclient"
	"longshore/internal/service/build"
)

// makeBuilder starts nothing: the builder opens its databases at the first build.
func (e *engine) makeBuilder(_ context.Context, down *closers) error {
	temp, err := ownTemp(e.cfg.DataRoot)
	if err != nil {
		return err
	}
	gc, err := builderGC(e.cfg.Builder.GC)
	if err != nil {
		return err
	}
	deps := buildkit.Deps{Store: e.store, Images: e.images.ForBuilds(), Networks: e.networks, Remap: e.remapBuilds()}
	if e.host.Security.AppArmor {
		deps.AppArmor = apparmor.New()
	}
	if e.devices.Devices != nil {
		deps.Devices = e.devices.Cache
	}
	builder := buildkit.New(buildkit.Config{
		Root: filepath.Join(e.cfg.DataRoot, "buildkit"), ExecRoot: e.cfg.ExecRoot, Temp: temp,
		Runtime: e.runtimes.forBuilds(), CgroupParent: e.cfg.CgroupParent,
		DNS: buildkit.DNS{Servers: e.cfg.DNS, Options: e.cfg.DNSOptions, Search: e.cfg.DNSSearch},
		GC:  gc, Entitlements: e.cfg.Builder.Entitlements.Allowed(),
		Registries:   builderRegistries(e.cfg, e.registries),
		HostGateways: e.networks.HostGateways, Log: e.log,
	}, deps)
	down.add(builder.Close)
	e.background(builder.Run)
	e.builder = builder
	e.builds = build.New(build.Deps{Builder: builder, Wire: builder, Events: e.journal, Log: e.log})
	return nil
}

// builderRegistries say how builds reach registries.
func builderRegistries(c *engineconfig.Config, client *registryclient.Client) buildkit.Registries {
	return buildkit.Registries{
		Insecure: c.InsecureRegistry, Mirrors: c.RegistryMirrors, CertsDir: c.CertsDir,
		Described: func(host string) ([]docker.RegistryHost, error) { return client.BuildHosts(context.Background(), host) },
	}
}

// ownTemp makes the engine's own directory for temporary files the process's, as dockerd does: the builder mounts there,
// and what a killed engine leaves in it can be told from what others have.
func ownTemp(dataRoot string) (string, error) {
	dir := filepath.Join(dataRoot, "tmp")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory for temporary files: %w", err)
	}
	return dir, os.Setenv("TMPDIR", dir)
}

func builderGC(c engineconfig.BuilderGC) (buildkit.GC, error) {
	out := buildkit.GC{
		Enabled:  c.Enabled == nil || *c.Enabled,
		Reserved: int64(cmp.Or(c.ReservedSpace, c.KeepStorage)), MaxUsed: int64(c.MaxUsedSpace), MinFree: int64(c.MinFreeSpace),
	}
	for _, p := range c.Policy {
		age, filters, err := build.Selection(p.Filter, time.Now())
		if err != nil {
			return out, fmt.Errorf("builder: %w", err)
		}
		out.Policies = append(out.Policies, corebuild.PruneOptions{
			All: p.All, KeepDuration: max(age, time.Duration(p.KeepDuration)), Filters: filters,
			ReservedSpace: int64(cmp.Or(p.ReservedSpace, p.KeepStorage)), MaxUsedSpace: int64(p.MaxUsedSpace), MinFreeSpace: int64(p.MinFreeSpace),
		})
	}
	return out, nil
}

// forBuilds is the runtime of build steps: the default one where it runs without the engine's help with cgroups, which
// only containers get, else runc.
func (r *runtimes) forBuilds() string {
	def := r.all[r.def].Binary
	if len(def.HideMounts) == 0 && len(def.Args) == 0 {
		return def.Path
	}
	if runc, ok := r.all["runc"]; ok {
		return runc.Binary.Path
	}
	return def.Path
}
