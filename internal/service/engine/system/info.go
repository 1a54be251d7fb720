package system

import (
	"context"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	api "github.com/moby/moby/api/types/system"

	"longshore/internal/core/host"
)

// indexServer is docker's default registry as docker info has it.
const indexServer = "https://index.docker.io/v1/"

// Info describes the engine and its host.
func (s *Service) Info(context.Context) api.Info {
	f, c := s.d.Facts(), s.current.Load()
	running, paused, stopped := s.d.Containers.Counts()
	i := api.Info{
		ID: c.ID, Name: f.Hostname, ServerVersion: c.Version, DockerRootDir: c.Root, Labels: orEmpty(c.Labels),
		Containers: running + paused + stopped, ContainersRunning: running, ContainersPaused: paused, ContainersStopped: stopped,
		Driver: c.StorageDriver, DriverStatus: c.StorageStatus,
		Plugins:       api.PluginsInfo{Volume: orEmpty(c.VolumeDrivers), Network: orEmpty(c.NetworkDrivers), Log: orEmpty(c.LogDrivers), Authorization: orEmpty(c.AuthzPlugins)},
		LoggingDriver: c.LoggingDriver, Debug: c.Debug, NFd: descriptors(), NGoroutines: runtime.NumGoroutine(),
		NEventsListener: s.d.Events.Listeners(), SystemTime: s.d.Now().Format(time.RFC3339Nano),
		IndexServerAddress: indexServer, RegistryConfig: registryConfig(c.Registry),
		HTTPProxy: masked(c.HTTPProxy), HTTPSProxy: masked(c.HTTPSProxy), NoProxy: c.NoProxy,
		ExperimentalBuild: c.Experimental, LiveRestoreEnabled: c.LiveRestore,
		Runtimes: c.Runtimes, DefaultRuntime: c.DefaultRuntime, InitBinary: c.InitBinary,
		RuncCommit: api.Commit{ID: c.RuntimeCommit}, InitCommit: api.Commit{ID: c.InitCommit}, ContainerdCommit: api.Commit{ID: c.ContainerdCommit},
		Swarm:           swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		SecurityOptions: orEmpty(c.SecurityOptions), DefaultAddressPools: c.AddressPools, CDISpecDirs: []string{},
		Warnings: append(f.Warnings(), c.Warnings...),
	}
	if s.d.Images != nil {
		i.Images = s.d.Images()
	}
	if c.Firewall != "" {
		i.FirewallBackend = &api.FirewallInfo{Driver: c.Firewall}
	}
	if s.d.Devices != nil {
		addDevices(&i, s.d.Devices)
	}
	addHost(&i, f)
	return i
}

// addDevices tells of the devices that can be asked for by name, and where they are described.
func addDevices(i *api.Info, d Devices) {
	names, warnings := d.List()
	i.CDISpecDirs = orEmpty(d.Dirs())
	for _, name := range names {
		i.DiscoveredDevices = append(i.DiscoveredDevices, api.DeviceInfo{Source: "cdi", ID: name})
	}
	for _, w := range warnings {
		i.Warnings = append(i.Warnings, "WARNING: "+w)
	}
}

// addHost fills in what the kernel and the machine offer.
func addHost(i *api.Info, f *host.Facts) {
	i.KernelVersion, i.OperatingSystem, i.OSVersion, i.OSType, i.Architecture = f.Kernel, f.OS, f.OSVersion, f.OSType, f.Arch
	i.NCPU, i.MemTotal = f.NCPU, f.MemTotal
	i.CgroupDriver, i.CgroupVersion = f.Cgroup.Driver, f.Cgroup.Version
	i.MemoryLimit, i.SwapLimit, i.OomKillDisable = f.Cgroup.Memory.Limit, f.Cgroup.Memory.Swap, f.Cgroup.Memory.OomKillDisable
	i.CPUCfsPeriod, i.CPUCfsQuota, i.CPUShares, i.CPUSet = f.Cgroup.CPU.CFS, f.Cgroup.CPU.CFS, f.Cgroup.CPU.Shares, f.Cgroup.CPU.Cpuset
	i.PidsLimit, i.IPv4Forwarding = f.Cgroup.Pids, f.Net.IPv4Forwarding
}

func registryConfig(c *registry.ServiceConfig) *registry.ServiceConfig {
	if c != nil {
		return c
	}
	return &registry.ServiceConfig{
		Mirrors:      []string{},
		IndexConfigs: map[string]*registry.IndexInfo{"docker.io": {Name: "docker.io", Mirrors: []string{}, Secure: true, Official: true}},
	}
}

// descriptors counts the daemon's open files; -1 where that cannot be told.
func descriptors() int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(d) - 1 // without the one that reads
}

// masked hides the credentials of a proxy's URL.
func masked(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		scheme, rest = "", url
	}
	authority, path, slash := strings.Cut(rest, "/")
	i := strings.LastIndexByte(authority, '@')
	if i < 0 {
		return url
	}
	out := "xxxxx:xxxxx" + authority[i:]
	if ok {
		out = scheme + "://" + out
	}
	if slash {
		out += "/" + path
	}
	return out
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
