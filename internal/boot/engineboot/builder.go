package engineboot

import (
	"context"
	"path/filepath"

	"longshore/internal/driver/buildkit"
	"longshore/internal/service/build"
)

// makeBuilder starts nothing: the builder opens its databases at the first build.
func (e *engine) makeBuilder(_ context.Context, down *closers) error {
	builder := buildkit.New(buildkit.Config{
		Root: filepath.Join(e.cfg.DataRoot, "buildkit"), ExecRoot: e.cfg.ExecRoot,
		Runtime: e.runtimes.forBuilds(), CgroupParent: e.cfg.CgroupParent,
		DNS: buildkit.DNS{Servers: e.cfg.DNS, Options: e.cfg.DNSOptions, Search: e.cfg.DNSSearch},
		Registries: buildkit.Registries{
			Insecure: e.cfg.InsecureRegistry, Mirrors: e.cfg.RegistryMirrors, CertsDir: "/etc/docker/certs.d",
		},
		HostGateways: e.networks.HostGateways, Log: e.log,
	}, buildkit.Deps{Store: e.store, Images: e.images.ForBuilds(), Networks: e.networks})
	down.add(builder.Close)
	e.builder = builder
	e.builds = build.New(build.Deps{Builder: builder, Wire: builder, Events: e.journal, Log: e.log})
	return nil
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
