package containers

import (
	"context"
	"log/slog"
	"path/filepath"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimespec "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/cgroup"
	"longshore/internal/core/fault"
	"longshore/internal/core/host"
	"longshore/internal/core/image"
	"longshore/internal/core/network"
	"longshore/internal/core/runtime"
	"longshore/internal/core/state"
	"longshore/internal/core/volume"
	"longshore/internal/driver/containerfs"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/containers/mounts"
)

// The doubles stand in for kernel and disk where a test needs a moment that real ones cannot be stopped at: a runtime
// that hangs, a daemon that dies between two steps. Everything else is tested with real containers in test/.

type memory struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (s *memory) Put(_ context.Context, bucket, key string, doc []byte, _ state.Durability) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[bucket+"/"+key] = append([]byte(nil), doc...)
	return nil
}

func (s *memory) Get(_ context.Context, bucket, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.m[bucket+"/"+key]; ok {
		return d, nil
	}
	return nil, errdefs.ErrNotFound
}

func (s *memory) Delete(_ context.Context, bucket, key string, _ state.Durability) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, bucket+"/"+key)
	return nil
}

func (s *memory) Each(_ context.Context, bucket string, f func(string, []byte) error) error {
	s.mu.Lock()
	docs := map[string][]byte{}
	var keys []string
	for k, d := range s.m {
		if dir, key := filepath.Split(k); dir == bucket+"/" {
			docs[key] = d
			keys = append(keys, key)
		}
	}
	s.mu.Unlock()
	sort.Strings(keys)
	for _, k := range keys {
		if err := f(k, docs[k]); err != nil {
			return err
		}
	}
	return nil
}

type process struct {
	runtime.Process
	hang   chan struct{} // Start waits for it when not nil
	fail   error
	deaf   bool // ignores all but SIGKILL
	once   sync.Once
	ended  chan struct{}
	exit   runtime.Exit
	mu     sync.Mutex
	signal []unix.Signal
}

func (p *process) PID() int { return 4711 }

func (p *process) Start(context.Context) error {
	if p.hang != nil {
		<-p.hang
	}
	return p.fail
}

func (p *process) end(code int) {
	p.once.Do(func() {
		p.exit = runtime.Exit{Code: code, At: time.Now()}
		close(p.ended)
	})
}

func (p *process) Wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-p.ended:
		return p.exit, nil
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
}

func (p *process) Signal(_ context.Context, sig unix.Signal) error {
	p.mu.Lock()
	p.signal = append(p.signal, sig)
	p.mu.Unlock()
	if sig == unix.SIGKILL || !p.deaf {
		p.end(128 + int(sig))
	}
	return nil
}

// shims is the Runtime: next makes the process of the next Spawn.
type shims struct {
	mu    sync.Mutex
	next  func() *process
	alive map[string]*process
	exits map[string]*runtime.Exit
}

func (s *shims) Spawn(_ context.Context, l runtime.Launch) (runtime.Process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &process{}
	if s.next != nil {
		p = s.next()
	}
	p.ended = make(chan struct{})
	s.alive[l.ID] = p
	return p, nil
}

func (s *shims) Adopt(_ context.Context, l runtime.Launch) (runtime.Adopted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.alive[l.ID]; ok {
		return runtime.Adopted{Process: p}, nil
	}
	return runtime.Adopted{Exit: s.exits[l.ID]}, errdefs.ErrNotFound
}

func (s *shims) Checkpoint(context.Context, runtime.Launch, string, bool) error { return nil }

func (s *shims) Update(context.Context, runtime.Launch, *runtimespec.LinuxResources) error {
	return nil
}

func (s *shims) Cleanup(_ context.Context, l runtime.Launch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.alive, l.ID)
	return nil
}

func (s *shims) of(id string) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive[id]
}

type pictures struct {
	image.Images
	mu   sync.Mutex
	uses map[string]bool
}

func (p *pictures) Resolve(_ context.Context, ref string, _ *ocispec.Platform) (image.Image, error) {
	if ref != "busybox" {
		return image.Image{}, fault.NotFound("No such image: %s", ref)
	}
	img := image.Image{ID: digest.FromString("busybox")}
	img.Config = dockerspec.DockerOCIImage{}
	return img, nil
}

func (p *pictures) Use(_ context.Context, id string, _ digest.Digest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uses[id] = true
	return nil
}

func (p *pictures) Drop(_ context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.uses, id)
	return nil
}
func (p *pictures) Settle(context.Context, string, image.RootOptions) error { return nil }
func (p *pictures) Prepare(context.Context, string, image.Image) error      { return nil }
func (p *pictures) Mount(context.Context, string, string) error             { return nil }
func (p *pictures) Unmount(context.Context, string) error                   { return nil }
func (p *pictures) Remove(context.Context, string) error                    { return nil }

type wires struct{ network.Sandboxes }

func (wires) Validate(context.Context, network.Request) error { return nil }
func (wires) Open(_ context.Context, r network.Request) (network.Sandbox, error) {
	return network.Sandbox{NetNS: "/proc/self/ns/net", Endpoints: r.Endpoints, Ports: mobynet.PortMap{}}, nil
}
func (wires) Close(context.Context, string) error     { return nil }
func (wires) Restore(context.Context, []string) error { return nil }
func (wires) Rename(context.Context, string, string, []string) (network.Sandbox, error) {
	return network.Sandbox{}, nil
}

type groups struct{ cgroup.Manager }

func (groups) Open(context.Context, string) (cgroup.Group, error) { return nil, errdefs.ErrNotFound }

type diary struct {
	mu   sync.Mutex
	list []string
}

func (d *diary) Publish(_ context.Context, m events.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, string(m.Action))
}

func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil
	return list
}

type yes struct{}

func (yes) Validate(*container.Config, *container.HostConfig) ([]string, error) { return nil, nil }
func (yes) ValidateUpdate(*container.Resources) ([]string, error)               { return nil, nil }

// world outlives a daemon: what is on disk and what runs.
type world struct {
	t     *testing.T
	dir   string
	store *memory
	shims *shims
	diary *diary
	imgs  *pictures
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, dir: t.TempDir(), store: &memory{m: map[string][]byte{}}, diary: &diary{}, imgs: &pictures{uses: map[string]bool{}},
		shims: &shims{alive: map[string]*process{}, exits: map[string]*runtime.Exit{}},
	}
}

// boot starts a daemon; the answer's second value ends it as a crash would.
func (w *world) boot() (*Service, func()) {
	w.t.Helper()
	disk, err := containerfs.New(filepath.Join(w.dir, "data"), filepath.Join(w.dir, "exec"))
	if err != nil {
		w.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	res := &mounts.Resolver{Volumes: volume.Volumes(nil), Files: disk}
	s := New(Config{
		Config: launch.Config{DefaultRuntime: "crun", Runtimes: map[string]launch.Runtime{"crun": {Binary: runtime.Binary{Name: "crun"}}}},
		Live:   Live{LiveRestore: true},
	}, Deps{
		Launch: launch.Deps{Runtime: w.shims, RootFS: w.imgs, Networks: wires{}, Mounts: res, Cgroups: groups{}, Host: &host.Facts{Hostname: "node"}, Disk: disk, Log: log},
		Images: w.imgs, Events: w.diary, Store: w.store, Disk: disk, Files: disk, Validator: yes{}, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	if err := s.Restore(ctx); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	stop := func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return s, stop
}
