package buildkit

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	bknet "github.com/moby/buildkit/util/network"

	"longshore/internal/driver/buildkit/remap"
)

const (
	// sshDirs are the directories of forwarded agents' sockets, which BuildKit empties but does not remove.
	sshDirs = ".buildkit-ssh-sock*"
	// sshAge keeps directories that are about to get their socket.
	sshAge = time.Second
)

// steps counts the build steps that run and removes the control group above theirs when there are none. A step's network
// is the first thing that it has and the last that it gives back, after its container is gone.
type steps struct {
	groups []string // the control group above the steps', in each hierarchy
	idle   func()   // called when no step runs any more; nil: nobody cares

	mu      sync.Mutex
	running int
}

func newSteps(cgroupParent string, idle func()) *steps {
	s := &steps{idle: idle}
	for _, root := range hierarchies() {
		s.groups = append(s.groups, filepath.Join(root, cgroupParent, "buildkit"))
	}
	return s
}

// hierarchies are the mounted cgroup hierarchies.
func hierarchies() []string {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{root}
	}
	all, err := filepath.Glob(filepath.Join(root, "*"))
	if err != nil {
		return nil
	}
	return all
}

func (s *steps) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running++
}

func (s *steps) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if s.running > 0 {
		return
	}
	for _, g := range s.groups {
		_ = os.Remove(g) // not empty, or not there: nothing to do
	}
	if s.idle != nil {
		s.idle()
	}
}

// wait returns when no step runs, or after a limit.
func (s *steps) wait(limit time.Duration) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); <-tick.C {
		s.mu.Lock()
		running := s.running
		s.mu.Unlock()
		if running == 0 {
			return
		}
	}
}

// placed runs steps in the network that was asked for, and in user namespaces where there are.
type placed struct {
	executor.Executor
	shifts   *remap.Shifts // nil without
	appArmor AppArmor      // nil where the host has none
}

// appArmorProfile confines steps, as it does containers.
const appArmorProfile = "docker-default"

// Run implements BuildKit's executor.Executor.
func (p placed) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (resourcestypes.Recorder, error) {
	ctx, process.Meta.ExtraHosts = withNetwork(ctx, process.Meta.ExtraHosts)
	if p.appArmor != nil {
		if err := p.appArmor.Ensure(appArmorProfile); err != nil {
			return nil, err
		}
	}
	if p.shifts != nil {
		root, mounts = p.shifts.Step(root, mounts, process.Meta.Cwd)
	}
	return p.Executor.Run(ctx, id, root, mounts, process, started)
}

// counted is a network provider whose users are counted.
type counted struct {
	bknet.Provider
	steps *steps
}

// New implements BuildKit's network.Provider.
func (c counted) New(ctx context.Context, hostname string, o bknet.NamespaceOptions) (bknet.Namespace, error) {
	c.steps.begin()
	ns, err := c.Provider.New(ctx, hostname, o)
	if err != nil {
		c.steps.end()
		return nil, err
	}
	return &countedNamespace{Namespace: ns, end: sync.OnceFunc(c.steps.end)}, nil
}

// countedNamespace is one step's network.
type countedNamespace struct {
	bknet.Namespace
	end func()
}

// Close gives the network back.
func (c *countedNamespace) Close() error {
	defer c.end()
	return c.Namespace.Close()
}

// removeSSHDirs removes what forwarded agents leave below the directory for temporary files.
func removeSSHDirs(now time.Time) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), sshDirs))
	if err != nil {
		return
	}
	for _, d := range dirs {
		if fi, err := os.Lstat(d); err == nil && fi.IsDir() && now.Sub(fi.ModTime()) >= sshAge {
			_ = os.Remove(d) // in use: not empty
		}
	}
}
