// Package request settles what clients ask of a container: it lays their configuration over the image's, fills in
// docker's defaults. Pure functions; what they leave is checked by driver/ocispec/validate.
package request

import (
	"maps"
	"slices"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
)

// Merge lays the client's configuration over the image's.
func Merge(asked *container.Config, from *dockerspec.DockerOCIImageConfig) (*container.Config, error) {
	cfg := *asked
	if cfg.User == "" {
		cfg.User = from.User
	}
	if cfg.WorkingDir == "" {
		cfg.WorkingDir = from.WorkingDir
	}
	if cfg.StopSignal == "" {
		cfg.StopSignal = from.StopSignal
	}
	if len(cfg.Shell) == 0 {
		cfg.Shell = from.Shell
	}
	if len(cfg.Entrypoint) == 0 {
		if len(cfg.Cmd) == 0 {
			cfg.Cmd = from.Cmd
		}
		if cfg.Entrypoint == nil {
			cfg.Entrypoint = from.Entrypoint
		}
	}
	if len(cfg.Entrypoint) == 1 && cfg.Entrypoint[0] == "" {
		cfg.Entrypoint = nil
	}
	if len(cfg.Entrypoint) == 0 && len(cfg.Cmd) == 0 {
		return nil, fault.Invalid("No command specified")
	}
	cfg.Env = mergeEnv(cfg.Env, from.Env)
	cfg.Labels = union(from.Labels, cfg.Labels)
	cfg.Volumes = union(from.Volumes, cfg.Volumes)
	cfg.Healthcheck = mergeHealth(cfg.Healthcheck, from.Healthcheck)
	var err error
	cfg.ExposedPorts, err = mergePorts(cfg.ExposedPorts, from.ExposedPorts)
	return &cfg, err
}

// union is over laid upon base; labels are never nil, so that clients find an object.
func union[V any](base, over map[string]V) map[string]V {
	out := make(map[string]V, len(base)+len(over))
	maps.Copy(out, base)
	maps.Copy(out, over)
	return out
}

// mergeEnv appends the image's variables that the client did not set.
func mergeEnv(asked, from []string) []string {
	env := slices.Clone(asked)
	set := make(map[string]bool, len(asked))
	for _, kv := range asked {
		set[envKey(kv)] = true
	}
	for _, kv := range from {
		if !set[envKey(kv)] {
			env = append(env, kv)
		}
	}
	return env
}

func envKey(kv string) string {
	for i := range len(kv) {
		if kv[i] == '=' {
			return kv[:i]
		}
	}
	return kv
}

func mergePorts(asked network.PortSet, from map[string]struct{}) (network.PortSet, error) {
	if len(from) == 0 {
		return asked, nil
	}
	out := network.PortSet{}
	maps.Copy(out, asked)
	for p := range from {
		r, err := network.ParsePortRange(p)
		if err != nil {
			return nil, fault.Invalid("%v", err)
		}
		for port := range r.All() {
			out[port] = struct{}{}
		}
	}
	return out, nil
}

func mergeHealth(asked, from *container.HealthConfig) *container.HealthConfig {
	if from == nil {
		return asked
	}
	if asked == nil {
		return from
	}
	h := *asked
	if len(h.Test) == 0 {
		h.Test = from.Test
	}
	if h.Interval == 0 {
		h.Interval = from.Interval
	}
	if h.Timeout == 0 {
		h.Timeout = from.Timeout
	}
	if h.StartPeriod == 0 {
		h.StartPeriod = from.StartPeriod
	}
	if h.StartInterval == 0 {
		h.StartInterval = from.StartInterval
	}
	if h.Retries == 0 {
		h.Retries = from.Retries
	}
	return &h
}
