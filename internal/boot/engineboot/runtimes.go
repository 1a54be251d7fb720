package engineboot

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"longshore/internal/boot/engineconfig"
	"longshore/internal/core/runtime"
	"longshore/internal/driver/hostcheck"
	"longshore/internal/service/engine/containers/launch"
)

// runtimes are the OCI runtimes that containers may name, and the default one.
type runtimes struct {
	def string
	all map[string]hostcheck.Runtime
}

// findRuntimes probes the configured runtimes and those of the host. A configured one that does not work is kept as it
// is: its containers fail with its own words, as with dockerd.
func findRuntimes(ctx context.Context, cfg *engineconfig.Config, log *slog.Logger) (*runtimes, error) {
	cache := filepath.Join(cfg.ExecRoot, "runtimes.json")
	r := &runtimes{def: cfg.DefaultRuntime, all: map[string]hostcheck.Runtime{}}
	for _, name := range []string{"crun", "runc"} {
		rt, err := hostcheck.Probe(ctx, runtime.Binary{Name: name, Path: name}, cache)
		if err != nil {
			log.Debug("runtime does not work here", "runtime", name, "error", err)
			continue
		}
		r.all[name] = rt
	}
	if rt, ok := r.all["runc"]; ok {
		r.all[engineconfig.RuncShim] = rt
	}
	for name, c := range cfg.Runtimes {
		b := runtime.Binary{Name: name, Path: c.Path, Args: c.Args}
		rt, err := hostcheck.Probe(ctx, b, cache)
		if err != nil {
			log.Warn("configured runtime failed its probe", "runtime", name, "error", err)
			rt = hostcheck.Runtime{Binary: b}
		}
		rt.Binary.Args = c.Args
		r.all[name] = rt
	}
	if r.def == "" {
		for _, name := range []string{"crun", "runc"} {
			if _, ok := r.all[name]; ok {
				r.def = name
				break
			}
		}
	}
	if _, ok := r.all[r.def]; !ok {
		return nil, fmt.Errorf("specified default runtime %q does not exist or does not run containers here: run longshore check", r.def)
	}
	return r, nil
}

func (r *runtimes) launch(cfg *engineconfig.Config) map[string]launch.Runtime {
	out := map[string]launch.Runtime{}
	for name, rt := range r.all {
		b := rt.Binary
		b.Name, b.Root = name, filepath.Join(cfg.ExecRoot, "runtime-"+name)
		subgroup := ""
		if cfg.SystemdCgroups() { // the runtime asks systemd for the group
			if b.NoCgroup { // crun, which leaves the scope itself to systemd
				subgroup = "container"
			}
			b.NoCgroup, b.Args = false, append(slices.Clone(b.Args), "--systemd-cgroup")
		}
		out[name] = launch.Runtime{Binary: b, BPF: rt.BPF, NoRecursiveReadOnly: !rt.RecursiveReadOnly, Subgroup: subgroup}
	}
	return out
}
