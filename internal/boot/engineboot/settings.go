package engineboot

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"longshore/internal/boot/engineconfig"
	"longshore/internal/core/firewall"
	corenet "longshore/internal/core/network"
	"longshore/internal/driver/hostcheck"
	"longshore/internal/service/engine/containers"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/networks"
)

// networkConfig turns settings into what the networks service understands. The texts were validated before.
func networkConfig(c *engineconfig.Config) (networks.Config, error) {
	out := networks.Config{
		ExecRoot: c.ExecRoot, Bridge: c.Bridge, MTU: c.MTU, NoICC: !c.ICC, NoMasquerade: !c.IPMasq, NoForward: !c.IPForward,
		DNSSearch: c.DNSSearch, DNSOptions: c.DNSOptions,
	}
	out.IPv6, out.NetworkOptions, out.NoForwardDrop, out.UserlandProxy = c.IPv6, c.NetworkOpts, c.IPForwardNoDrop, c.UserlandProxy
	out.Firewall = firewall.Config{NoIPv4: !c.IPTables, NoIPv6: !c.IP6Tables, AllowDirect: c.AllowDirectRouting}
	var err error
	if out.Firewall.Mark, out.Firewall.Mask, err = c.FwMark(); err != nil {
		return out, err
	}
	for _, f := range []struct {
		key, value string
		to         *netip.Prefix
	}{{"bip", c.BIP, &out.BIP}, {"bip6", c.BIP6, &out.BIP6}, {"fixed-cidr", c.FixedCIDR, &out.FixedCIDR}, {"fixed-cidr-v6", c.FixedCIDR6, &out.FixedCIDR6}} {
		if f.value == "" {
			continue
		}
		if *f.to, err = netip.ParsePrefix(f.value); err != nil {
			return out, fmt.Errorf("%s: %w", f.key, err)
		}
	}
	for _, f := range []struct {
		key, value string
		to         *netip.Addr
	}{{"default-gateway", c.DefaultGateway, &out.DefaultGateway}, {"default-gateway-v6", c.DefaultGateway6, &out.DefaultGateway6}} {
		if f.value == "" {
			continue
		}
		if *f.to, err = netip.ParseAddr(f.value); err != nil {
			return out, fmt.Errorf("%s: %w", f.key, err)
		}
	}
	if out.BindIP, err = netip.ParseAddr(c.IP); err != nil {
		return out, fmt.Errorf("ip: %w", err)
	}
	if out.DNS, err = addresses(c.DNS); err != nil {
		return out, fmt.Errorf("dns: %w", err)
	}
	if out.HostGateways, err = addresses(c.HostGateway); err != nil {
		return out, fmt.Errorf("host-gateway-ips: %w", err)
	}
	for _, p := range c.AddressPools {
		out.AddressPools = append(out.AddressPools, corenet.AddressPool{Base: p.Base, Size: p.Size})
	}
	return out, nil
}

func addresses(texts []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, t := range texts {
		a, err := netip.ParseAddr(t)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func containerConfig(c *engineconfig.Config, r *runtimes, shim string) (containers.Config, error) {
	profile, err := seccompProfile(c.SeccompProfile)
	if err != nil {
		return containers.Config{}, err
	}
	init, err := hostcheck.InitBinary(c.InitPath, shim)
	if err != nil {
		return containers.Config{}, err
	}
	ulimits := map[string]*units.Ulimit{}
	for name, u := range c.DefaultUlimits {
		ulimits[name] = &units.Ulimit{Name: name, Hard: u.Hard, Soft: u.Soft}
	}
	return containers.Config{
		Config: launch.Config{
			DefaultRuntime: r.def, Runtimes: r.launch(c), LogDriver: c.LogDriver, LogOpts: c.LogOpts,
			CgroupParent: c.CgroupParent, SystemdCgroup: c.SystemdCgroups(), DefaultShmSize: int64(c.DefaultShmSize), DefaultUlimits: ulimits,
			Init: c.Init, InitPath: init, SeccompProfile: profile, NoNewPrivileges: c.NoNewPrivileges,
		},
		Live: liveSettings(c), StorageDriver: "overlayfs", DataRoot: c.DataRoot,
	}, nil
}

// liveSettings are those of containers that a reload changes.
func liveSettings(c *engineconfig.Config) containers.Live {
	return containers.Live{
		LiveRestore: c.LiveRestore, ShutdownTimeout: time.Duration(c.ShutdownTimeout) * time.Second,
		DefaultIpcMode: container.IpcMode(c.DefaultIpcMode), DefaultCgroupnsMode: container.CgroupnsMode(c.DefaultCgroupns),
		DefaultShmSize: int64(c.DefaultShmSize),
	}
}

// seccompProfile answers the profile's text; "", "builtin" and "unconfined" stand for themselves.
func seccompProfile(setting string) (string, error) {
	switch setting {
	case "", "builtin":
		return "", nil
	case "unconfined":
		return setting, nil
	}
	b, err := os.ReadFile(setting)
	if err != nil {
		return "", fmt.Errorf("seccomp-profile: %w", err)
	}
	return string(b), nil
}
