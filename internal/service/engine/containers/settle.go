package containers

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/image"
)

// settle fills a record from the request, the image and the daemon's defaults, and checks it.
func (s *Service) settle(ctx context.Context, rec *core.Record, r CreateRequest, img image.Image) ([]string, error) {
	cfg, err := merge(r.Config, &img.Config.Config)
	if err != nil {
		return nil, err
	}
	if err := checkConfig(cfg); err != nil {
		return nil, err
	}
	hc := *r.HostConfig
	rec.Config, rec.HostConfig = cfg, &hc
	desc := img.Manifest
	rec.Image = core.Image{ID: img.ID, Manifest: &desc, OS: "linux"}
	if err := s.settleHost(rec); err != nil {
		return nil, err
	}
	if err := s.checkJoins(rec); err != nil {
		return nil, err
	}
	warnings, err := s.deps.Validator.Validate(cfg, &hc)
	if err != nil {
		return nil, err
	}
	settleHostname(rec, s.deps.Launch.Host.Hostname)
	rec.Networks, err = endpoints(rec, r.Networking)
	return warnings, err
}

// settleHost fills in the defaults of the host configuration.
func (s *Service) settleHost(rec *core.Record) (err error) {
	hc := rec.HostConfig
	if hc.NetworkMode == "" || hc.NetworkMode.IsDefault() {
		hc.NetworkMode = network.NetworkBridge
	}
	if hc.IpcMode.IsEmpty() {
		hc.IpcMode = s.cfg.DefaultIpcMode
	}
	if hc.CgroupnsMode.IsEmpty() {
		hc.CgroupnsMode = s.cgroupns(hc)
	}
	if hc.ShmSize == 0 {
		hc.ShmSize = s.launcher.ShmSize()
	}
	if hc.ShmSize < 0 {
		return fault.Invalid("SHM size can not be less than 0")
	}
	if hc.Runtime == "" {
		hc.Runtime = s.launcher.DefaultRuntime()
	}
	if _, err := s.launcher.RuntimeNamed(hc.Runtime); err != nil {
		return err
	}
	if err := container.ValidateRestartPolicy(hc.RestartPolicy); err != nil {
		return fault.Invalid("%v", err)
	}
	if hc.RestartPolicy.Name == "" {
		hc.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if hc.AutoRemove && !hc.RestartPolicy.IsNone() {
		return fault.Invalid("can't create 'AutoRemove' container with restart policy")
	}
	settleResources(hc)
	hc.LogConfig, err = s.launcher.SettleLog(hc.LogConfig)
	return err
}

func (s *Service) cgroupns(hc *container.HostConfig) container.CgroupnsMode {
	switch {
	case s.cfg.DefaultCgroupnsMode != "":
		return s.cfg.DefaultCgroupnsMode
	case s.deps.Launch.Host.Cgroup.Version == "2" && !hc.Privileged:
		return container.CgroupnsModePrivate
	}
	return container.CgroupnsModeHost
}

func settleResources(hc *container.HostConfig) {
	if hc.Memory > 0 && hc.MemorySwap == 0 {
		hc.MemorySwap = 2 * hc.Memory
	}
	if hc.CPUShares < 0 {
		hc.CPUShares = 2
	}
	if hc.MemorySwappiness != nil && *hc.MemorySwappiness == -1 {
		hc.MemorySwappiness = nil
	}
	if hc.PidsLimit != nil && *hc.PidsLimit <= 0 {
		hc.PidsLimit = nil
	}
}

// settleHostname gives a container docker's default host name.
func settleHostname(rec *core.Record, hostname string) {
	if rec.Config.Hostname != "" {
		return
	}
	rec.Config.Hostname = rec.ID[:12]
	if rec.HostConfig.NetworkMode.IsHost() || rec.HostConfig.UTSMode.IsHost() {
		rec.Config.Hostname = hostname
	}
}

// merge lays the client's configuration over the image's.
func merge(asked *container.Config, from *dockerspec.DockerOCIImageConfig) (*container.Config, error) {
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

// checkConfig refuses what docker refuses, in its words.
func checkConfig(cfg *container.Config) error {
	for _, kv := range cfg.Env {
		if envKey(kv) == "" {
			return fault.Invalid("invalid environment variable: %s", kv)
		}
	}
	if cfg.StopSignal != "" {
		if _, err := core.ParseSignal(cfg.StopSignal); err != nil {
			return err
		}
	}
	if cfg.WorkingDir != "" && cfg.WorkingDir[0] != '/' {
		return fault.Invalid("the working directory '%s' is invalid, it needs to be an absolute path", cfg.WorkingDir)
	}
	return checkHealth(cfg.Healthcheck)
}

func checkHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name  string
		value int64
	}{{"Interval", int64(h.Interval)}, {"Timeout", int64(h.Timeout)}, {"StartPeriod", int64(h.StartPeriod)}, {"StartInterval", int64(h.StartInterval)}} {
		if d.value != 0 && d.value < int64(container.MinimumDuration) {
			return fault.Invalid("%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return fault.Invalid("Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) == 0 {
		return nil
	}
	switch h.Test[0] {
	case "NONE", "":
		return nil
	case "CMD", "CMD-SHELL":
		if len(h.Test) < 2 {
			return fault.Invalid("missing command for health check %s", h.Test[0])
		}
		return nil
	}
	return fault.Invalid("Unknown healthcheck type %q in Test (expected 'CMD')", h.Test[0])
}

// endpoints settles which networks the container is on: those named in the request and the one of its network mode.
func endpoints(rec *core.Record, nc *network.NetworkingConfig) (map[string]*network.EndpointSettings, error) {
	out := map[string]*network.EndpointSettings{}
	mode := string(rec.HostConfig.NetworkMode)
	if nc != nil {
		for name, e := range nc.EndpointsConfig {
			if name == "default" {
				name = network.NetworkBridge
			}
			if e == nil {
				e = &network.EndpointSettings{}
			}
			out[name] = blank(e)
		}
	}
	if rec.HostConfig.NetworkMode.IsContainer() {
		if len(out) > 0 {
			return nil, fault.Invalid("conflicting options: container type network can't be used with links or other networks")
		}
		return out, nil
	}
	if rec.Config.NetworkDisabled {
		return out, nil
	}
	if _, ok := out[mode]; !ok {
		out[mode] = &network.EndpointSettings{}
	}
	return out, nil
}

// blank is a copy of the settings with only what a client may ask for.
func blank(e *network.EndpointSettings) *network.EndpointSettings {
	c := e.Copy()
	c.NetworkID, c.EndpointID, c.DNSNames = "", "", nil
	c.Gateway, c.IPAddress, c.IPv6Gateway, c.GlobalIPv6Address = netip.Addr{}, netip.Addr{}, netip.Addr{}, netip.Addr{}
	c.IPPrefixLen, c.GlobalIPv6PrefixLen = 0, 0
	return c
}
