// Package system tells about the engine as a whole: version and information, events, disk usage, registry logins.
//
// Nothing here waits for a container: counts and usage come from what the other services keep, and each part of the
// disk usage is asked for on its own.
package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	api "github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"longshore/internal/base/atomicfile"
	"longshore/internal/base/ids"
	"longshore/internal/core/fault"
	"longshore/internal/core/host"
)

// Config is what is known at start; Reconfigure changes it.
type Config struct {
	// ID identifies the daemon; see LoadID.
	ID string
	// Product is shown as the platform's name: "Longshore".
	Product                       string
	Version, GitCommit, BuildTime string
	// APIVersion and MinAPIVersion are the newest and the oldest served: "1.55", "1.0".
	APIVersion, MinAPIVersion string
	// BuilderVersion recommends a builder to clients: "1" classic, "2" BuildKit.
	BuilderVersion string
	// Components are shown beside the engine itself: the runtimes, for example.
	Components []api.ComponentVersion
	// Root is the data root.
	Root                string
	Debug, Experimental bool
	LiveRestore         bool
	Labels              []string
	// StorageDriver and its status lines.
	StorageDriver string
	StorageStatus [][2]string
	// LoggingDriver is the default; the other lists name the drivers there are.
	LoggingDriver                             string
	LogDrivers, NetworkDrivers, VolumeDrivers []string
	// AuthzPlugins are asked about each request.
	AuthzPlugins                                []string
	Runtimes                                    map[string]api.RuntimeWithStatus
	DefaultRuntime                              string
	InitBinary                                  string
	RuntimeCommit, InitCommit, ContainerdCommit string
	HTTPProxy, HTTPSProxy, NoProxy              string
	AddressPools                                []api.NetworkAddressPool
	// Firewall is the backend's driver: "nftables" or "iptables".
	Firewall string
	Registry *registry.ServiceConfig
	// SecurityOptions are in docker's "name=…,key=value" form (host.Facts.SecurityOptions).
	SecurityOptions []string
	// Warnings are added to those that the host's facts give.
	Warnings []string
}

// Counter counts the containers.
type Counter interface {
	Counts() (running, paused, stopped int)
}

// Events is where events come from.
type Events interface {
	Read(ctx context.Context, since, until time.Time, emit func(events.Message) error) error
	// Listeners counts those who read live events now.
	Listeners() int
}

// Registry checks logins.
type Registry interface {
	// CheckAuth answers docker's status line ("Login Succeeded") and an identity token, which may be empty. Wrong
	// credentials are ErrUnauthenticated.
	CheckAuth(ctx context.Context, auth registry.AuthConfig) (status, token string, err error)
}

// Usage measures what takes disk space. A nil function stands for nothing.
type Usage struct {
	// Containers lists all containers with SizeRw.
	Containers func(ctx context.Context) ([]*container.Summary, error)
	// Images lists all images with shared sizes and container counts; total is what they take together.
	Images func(ctx context.Context) (total int64, list []*image.Summary, err error)
	// Volumes measures the volumes, listed when items is set.
	Volumes func(ctx context.Context, items bool) (*volume.DiskUsage, error)
	// BuildCache measures the build cache, listed when items is set.
	BuildCache func(ctx context.Context, items bool) (*build.DiskUsage, error)
}

// Devices are what vendors describe for containers. Implemented by driver/cdi.
type Devices interface {
	// Dirs are the directories of the descriptions; List names the devices, with what is wrong in the directories.
	Dirs() []string
	List() (names, warnings []string)
}

// Deps are the parts that boot wires together.
type Deps struct {
	// Facts are the host's, as they are now.
	Facts      func() *host.Facts
	Containers Counter
	// Images counts the images.
	Images   func() int
	Events   Events
	Registry Registry
	// Devices are those that containers may ask for by name; nil stands for none.
	Devices Devices
	Usage   Usage
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Service is safe for concurrent use.
type Service struct {
	current atomic.Pointer[Config]
	d       Deps
}

// New makes the service.
func New(c Config, d Deps) *Service {
	if d.Now == nil {
		d.Now = time.Now
	}
	s := &Service{d: d}
	s.current.Store(&c)
	return s
}

// Reconfigure changes what is told from now on.
func (s *Service) Reconfigure(change func(*Config)) {
	for {
		old := s.current.Load()
		c := *old
		change(&c)
		if s.current.CompareAndSwap(old, &c) {
			return
		}
	}
}

// LoadID reads the daemon's identifier from a file below the data root, or makes one at the first start.
func LoadID(root string) (string, error) {
	path := filepath.Join(root, "engine-id")
	data, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(data)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	h := ids.New()
	id := h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:32] // a random UUID
	if err := os.MkdirAll(root, 0o711); err != nil {
		return "", err
	}
	if err := atomicfile.Write(path, []byte(id), 0o600); err != nil {
		return "", fmt.Errorf("engine identifier: %w", err)
	}
	return id, nil
}

// Ping is what clients learn before they say anything.
type Ping struct{ BuilderVersion, Swarm string }

// Ping answers without asking anybody.
func (s *Service) Ping() Ping {
	return Ping{BuilderVersion: s.current.Load().BuilderVersion, Swarm: "inactive"}
}

// Version describes the program.
func (s *Service) Version() api.VersionResponse {
	f, c := s.d.Facts(), s.current.Load()
	v := api.VersionResponse{
		Platform: api.PlatformInfo{Name: c.Product}, Version: c.Version, APIVersion: c.APIVersion, MinAPIVersion: c.MinAPIVersion,
		Os: runtime.GOOS, Arch: runtime.GOARCH, GitCommit: c.GitCommit, GoVersion: runtime.Version(), KernelVersion: f.Kernel,
		Experimental: c.Experimental, BuildTime: c.BuildTime,
	}
	engine := api.ComponentVersion{Name: "Engine", Version: v.Version, Details: map[string]string{
		"ApiVersion": v.APIVersion, "MinAPIVersion": v.MinAPIVersion, "GitCommit": v.GitCommit, "GoVersion": v.GoVersion, "Os": v.Os,
		"Arch": v.Arch, "KernelVersion": v.KernelVersion, "BuildTime": v.BuildTime, "Experimental": fmt.Sprint(v.Experimental),
	}}
	v.Components = append([]api.ComponentVersion{engine}, c.Components...)
	return v
}

// Login checks a registry login.
func (s *Service) Login(ctx context.Context, auth registry.AuthConfig) (registry.AuthResponse, error) {
	if s.d.Registry == nil {
		return registry.AuthResponse{}, fault.Unavailable("no registry client is configured")
	}
	status, token, err := s.d.Registry.CheckAuth(ctx, auth)
	return registry.AuthResponse{Status: status, IdentityToken: token}, err
}
