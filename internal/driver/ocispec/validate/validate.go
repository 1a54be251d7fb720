// Package validate checks at create and update time what a client asks of a container: it refuses what docker refuses, in
// docker's words, and drops limits that this machine cannot enforce, with docker's warnings.
//
//	v := validate.New(facts)
//	warnings, err := v.Validate(cfg, hostCfg)
//
// Refusals are of class ErrInvalidArgument. What depends on other objects (networks, volumes, images, names) is checked
// by those who own them, and what depends on the container's root filesystem when the container starts (ocispec).
package validate

import (
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/host"
	"longshore/internal/driver/ocispec"
)

// Validator checks requests against the facts of one machine. It is safe for concurrent use.
type Validator struct {
	host *host.Facts
}

// New makes a Validator.
func New(f *host.Facts) *Validator { return &Validator{host: f} }

// Validate checks a new container. It changes hc where this machine lacks support (each with a warning) and cleans
// cfg.WorkingDir.
func (v *Validator) Validate(cfg *container.Config, hc *container.HostConfig) (warnings []string, err error) {
	if cfg == nil {
		return nil, fault.Invalid("config cannot be empty in order to create a container")
	}
	for _, check := range []func() error{
		func() error { return checkNetwork(cfg, hc) },
		func() error { return v.checkEarly(hc) },
		func() error { return checkConfig(cfg) },
		func() error { return v.checkHost(hc) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	warnings, err = checkMounts(hc)
	if err != nil {
		return warnings, err
	}
	more, err := v.resources(&hc.Resources, false)
	if warnings = append(warnings, more...); err != nil {
		return warnings, err
	}
	more, err = v.checkModes(hc)
	return append(warnings, more...), err
}

// ValidateUpdate checks the limits of an update, as Validate does those of a new container.
func (v *Validator) ValidateUpdate(r *container.Resources) (warnings []string, err error) {
	if err := v.checkEarly(&container.HostConfig{Resources: *r}); err != nil {
		return nil, err
	}
	return v.resources(r, true)
}

// checkNetwork refuses options that make no sense in somebody else's network stack.
func checkNetwork(cfg *container.Config, hc *container.HostConfig) error {
	mode := hc.NetworkMode
	if mode.IsContainer() || mode == "container" {
		switch {
		case mode.ConnectedContainer() == "":
			return fault.Invalid("invalid network mode: invalid container format container:<name|id>")
		case cfg.Hostname != "":
			return fault.Invalid("conflicting options: hostname and the network mode")
		case len(hc.Links) > 0:
			return fault.Invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
		case len(hc.DNS) > 0:
			return fault.Invalid("conflicting options: dns and the network mode")
		case len(hc.ExtraHosts) > 0:
			return fault.Invalid("conflicting options: custom host-to-IP mapping and the network mode")
		case len(hc.PortBindings) > 0 || hc.PublishAllPorts:
			return fault.Invalid("conflicting options: port publishing and the container type network mode")
		case len(cfg.ExposedPorts) > 0:
			return fault.Invalid("conflicting options: port exposing and the container type network mode")
		}
	}
	if hc.UTSMode.IsHost() && cfg.Hostname != "" {
		return fault.Invalid("conflicting options: hostname and the UTS mode")
	}
	if mode.IsHost() && len(hc.Links) > 0 {
		return fault.Invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	}
	return nil
}

// checkEarly are the checks that docker makes while decoding a request.
func (v *Validator) checkEarly(hc *container.HostConfig) error {
	switch {
	case !hc.Isolation.IsValid():
		return fault.Invalid("invalid isolation (%s): linux only supports 'default'", hc.Isolation)
	case hc.IOMaximumBandwidth != 0:
		return fault.Invalid("invalid option: QoS maximum bandwidth configuration is not supported on linux")
	case hc.IOMaximumIOps != 0:
		return fault.Invalid("invalid option: QoS maximum IOPs configuration is not supported on linux")
	case (hc.CPURealtimePeriod != 0 || hc.CPURealtimeRuntime != 0) && !v.host.Cgroup.CPU.Realtime:
		return fault.Invalid("kernel does not support CPU real-time scheduler")
	case hc.CPURealtimePeriod != 0 && hc.CPURealtimeRuntime != 0 && hc.CPURealtimeRuntime > hc.CPURealtimePeriod:
		return fault.Invalid("cpu real-time runtime cannot be higher than cpu real-time period")
	case hc.CPUShares < 0:
		return fault.Invalid("invalid CPU shares (%d): value must be a positive integer", hc.CPUShares)
	}
	return nil
}

// checkConfig checks what belongs to the image's side of a container.
func checkConfig(cfg *container.Config) error {
	if cfg.WorkingDir != "" {
		if !path.IsAbs(cfg.WorkingDir) {
			return fault.Invalid("the working directory '%s' is invalid, it needs to be an absolute path", cfg.WorkingDir)
		}
		cfg.WorkingDir = path.Clean(cfg.WorkingDir)
	}
	if cfg.StopSignal != "" {
		if _, err := core.ParseSignal(cfg.StopSignal); err != nil {
			return err
		}
	}
	for _, env := range cfg.Env {
		if name, _, _ := strings.Cut(env, "="); name == "" {
			return fault.Invalid("invalid environment variable: %s", env)
		}
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
	return nil
}

// checkHost checks the parts of HostConfig that no machine accepts.
func (v *Validator) checkHost(hc *container.HostConfig) error {
	if hc.AutoRemove && !hc.RestartPolicy.IsNone() {
		return fault.Invalid("can't create 'AutoRemove' container with restart policy")
	}
	for _, h := range hc.ExtraHosts {
		if err := checkExtraHost(h); err != nil {
			return err
		}
	}
	if err := checkPorts(hc.PortBindings); err != nil {
		return err
	}
	if err := container.ValidateRestartPolicy(hc.RestartPolicy); err != nil {
		return fault.Invalid("%w", err)
	}
	if _, err := ocispec.NormalizeCaps(hc.CapAdd, &v.host.Security); err != nil {
		return fault.Invalid("invalid CapAdd: %w", err)
	}
	if _, err := ocispec.NormalizeCaps(hc.CapDrop, &v.host.Security); err != nil {
		return fault.Invalid("invalid CapDrop: %w", err)
	}
	if _, empty := hc.Annotations[""]; empty {
		return fault.Invalid("invalid Annotations: the empty string is not permitted as an annotation key")
	}
	_, err := ocispec.ParseSecurityOpts(hc.SecurityOpt, false)
	return err
}

func checkExtraHost(value string) error {
	name, ip, ok := strings.Cut(value, ":")
	if !ok || name == "" {
		return fault.Invalid("bad format for add-host: %q", value)
	}
	if ip == "host-gateway" {
		return nil
	}
	if addr, err := netip.ParseAddr(strings.TrimSpace(ip)); err != nil || addr.Zone() != "" {
		return fault.Invalid("invalid IP address in add-host: %q", ip)
	}
	return nil
}

func checkPorts(ports network.PortMap) error {
	for _, bindings := range ports {
		for _, b := range bindings {
			if !validHostPort(b.HostPort) {
				return fault.Invalid("invalid port specification: %q", b.HostPort)
			}
		}
	}
	return nil
}

// validHostPort accepts nothing, a port, or a range; docker tolerates "/proto" behind it.
func validHostPort(s string) bool {
	s, _, _ = strings.Cut(s, "/")
	if s == "" {
		return true
	}
	first, last, ranged := strings.Cut(s, "-")
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil || !ranged {
		return err == nil
	}
	to, err := strconv.ParseUint(last, 10, 16)
	return err == nil && from <= to
}

// checkModes checks namespaces and the rest, with the warnings that depend on them.
func (v *Validator) checkModes(hc *container.HostConfig) (warnings []string, err error) {
	switch {
	case !hc.IpcMode.Valid():
		return nil, fault.Invalid("invalid IPC mode: %v", hc.IpcMode)
	case !hc.PidMode.Valid():
		return nil, fault.Invalid("invalid PID mode: %v", hc.PidMode)
	case hc.ShmSize < 0:
		return nil, fault.Invalid("SHM size can not be less than 0")
	case !hc.UTSMode.Valid():
		return nil, fault.Invalid("invalid UTS mode: %v", hc.UTSMode)
	case !hc.UsernsMode.Valid():
		return nil, fault.Invalid("invalid user namespace mode: %v", hc.UsernsMode)
	case !hc.CgroupnsMode.Valid():
		return nil, fault.Invalid("invalid cgroup namespace mode: %v", hc.CgroupnsMode)
	case !hc.Cgroup.Valid():
		return nil, fault.Invalid("invalid cgroup mode: %v", hc.Cgroup)
	case hc.OomScoreAdj < -1000 || hc.OomScoreAdj > 1000:
		return nil, fault.Invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", hc.OomScoreAdj)
	}
	if hc.NetworkMode.IsHost() && len(hc.PortBindings) > 0 {
		warnings = append(warnings, "Published ports are discarded when using host network mode")
	}
	if hc.CgroupnsMode.IsPrivate() && !v.host.Cgroup.Namespaces {
		warnings = append(warnings, "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.")
	}
	return warnings, nil
}

// sortedKeys makes the first error the same every time.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
