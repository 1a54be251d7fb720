// Package launch brings a container's run up to the moment before its process starts, and takes it down again: network
// sandbox, mounted root, volumes, files, specification, control group, shim.
//
//	p, err := l.Up(ctx, rec, joins)   // everything is there; p.Process.Start is the caller's
//	l.Down(ctx, rec)                  // idempotent, works without a shim
//	l.UnmountRoot(ctx, rec.ID)
package launch

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/cgroup"
	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/host"
	"longshore/internal/core/idmap"
	"longshore/internal/core/image"
	"longshore/internal/core/network"
	"longshore/internal/core/runtime"
	"longshore/internal/driver/ocispec"
	"longshore/internal/service/engine/containers/mounts"
)

// Runtime is an OCI runtime that containers may choose.
type Runtime struct {
	Binary runtime.Binary
	// BPF: hand the seccomp filter over compiled, as an annotation (crun).
	BPF bool
	// NoRecursiveReadOnly: the runtime does not know the mount option "rro".
	NoRecursiveReadOnly bool
	// Subgroup is the group that the runtime makes inside of systemd's scope for the container and its limits; empty: none.
	Subgroup string
}

// Config are the daemon's settings for runs.
type Config struct {
	DefaultRuntime string
	Runtimes       map[string]Runtime
	// LogDriver and LogOpts for containers that name none.
	LogDriver string
	LogOpts   map[string]string
	// CgroupParent is the path below which groups are made, default "/longshore"; with SystemdCgroup, which has systemd
	// make them, the slice, default "system.slice".
	CgroupParent  string
	SystemdCgroup bool
	// IDs is the mapping of containers' user namespaces (--userns-remap); nil: they have none.
	IDs             *idmap.Map
	DefaultShmSize  int64 // bytes
	DefaultUlimits  map[string]*units.Ulimit
	Init            bool
	InitPath        string
	SeccompProfile  string
	NoNewPrivileges bool
}

// Disk is where a container's files are. Implemented by driver/containerfs.
type Disk interface {
	Dir(id string) string
	Rootfs(id string) string
	Run(id string) string
	Write(id, name string, text []byte) error
	MountShm(id string, size int64) (string, error)
	UnmountShm(id string) error
}

// Deps are what a launch works with.
type Deps struct {
	Runtime  runtime.Runtime
	RootFS   image.RootFS
	Networks network.Sandboxes
	Mounts   *mounts.Resolver
	Cgroups  cgroup.Manager
	Seccomp  ocispec.SeccompLoader
	AppArmor ocispec.AppArmorLoader
	CDI      ocispec.DeviceInjector
	Host     *host.Facts
	Disk     Disk
	// Shipper may be nil: then only the drivers that write files exist.
	Shipper Shipper
	Log     *slog.Logger
}

// Launcher brings runs up and down. Safe for concurrent use for different containers.
type Launcher struct {
	cfg      Config
	runtimes atomic.Pointer[Runtimes]
	Deps
}

// Runtimes are the OCI runtimes that containers may choose, and what those get that choose none.
type Runtimes struct {
	Default string
	All     map[string]Runtime
}

// New settles defaults.
func New(cfg Config, deps Deps) *Launcher {
	switch {
	case cfg.CgroupParent != "":
	case cfg.SystemdCgroup:
		cfg.CgroupParent = "system.slice"
	default:
		cfg.CgroupParent = "/longshore"
	}
	if cfg.DefaultShmSize == 0 {
		cfg.DefaultShmSize = 64 << 20
	}
	if cfg.LogDriver == "" {
		cfg.LogDriver = "json-file"
	}
	l := &Launcher{cfg: cfg, Deps: deps}
	l.SetRuntimes(Runtimes{cfg.DefaultRuntime, cfg.Runtimes})
	return l
}

// SetRuntimes changes the choice for runs that begin from now on.
func (l *Launcher) SetRuntimes(r Runtimes) { l.runtimes.Store(&r) }

// Joins are the namespaces of other containers that a run joins.
type Joins struct {
	// Net, IPC, PID and User are namespace paths, empty when not joined.
	Net, IPC, PID, User string
	// Shm is the other container's shared memory directory.
	Shm string
	// Restore is the directory of a checkpoint to begin from; empty begins anew.
	Restore string
	// LinkEnv are the variables that tell of linked containers.
	LinkEnv []string
	// Files is the directory whose hosts, hostname and resolv.conf are shared; empty for own files.
	Files string
}

// Prepared is a run that is up to the moment before its process starts.
type Prepared struct {
	Run     *core.Run
	Process runtime.Process
	Spec    *specs.Spec
}

// Up makes everything that a run needs and spawns its shim. What it made is taken down again when it fails.
func (l *Launcher) Up(ctx context.Context, rec *core.Record, j Joins) (p *Prepared, err error) {
	rt, err := l.runtimeOf(rec)
	if err != nil {
		return nil, err
	}
	p = &Prepared{Run: &core.Run{Runtime: rt.Binary.Name, Cgroup: l.cgroupPath(rec), NetNS: j.Net}}
	if err := l.prepare(ctx, rec, p, rt, j); err != nil {
		failed := *rec
		failed.Run = p.Run
		l.Down(context.WithoutCancel(ctx), &failed)
		return nil, err
	}
	return p, nil
}

func (l *Launcher) prepare(ctx context.Context, rec *core.Record, p *Prepared, rt Runtime, j Joins) error {
	watch := newStopwatch(l.Log, rec.ID)
	defer watch.report(ctx)
	if err := l.RootFS.Mount(ctx, rec.ID, l.Disk.Rootfs(rec.ID)); err != nil {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	sources, err := l.Mounts.Mount(ctx, rec.ID, rec.Mounts, l.Shifted(rec.HostConfig))
	if err != nil {
		return err
	}
	watch.lap("mounts")
	if err := l.sandbox(ctx, rec, p.Run, j); err != nil {
		return err
	}
	watch.lap("sandbox")
	p.Spec, err = l.spec(rec, rt, p.Run, j, sources)
	if err != nil {
		return err
	}
	watch.lap("spec")
	if rt.Binary.NoCgroup {
		g, err := l.Cgroups.Create(ctx, p.Run.Cgroup, p.Spec.Linux.Resources)
		if err != nil {
			return fmt.Errorf("create control group: %w", err)
		}
		p.Run.CgroupDirs = g.Dirs()
	}
	watch.lap("cgroup")
	launch, err := l.launch(rec, p.Run)
	if err != nil {
		return err
	}
	launch.Spec, launch.Restore = p.Spec, j.Restore
	p.Process, err = l.Runtime.Spawn(ctx, launch)
	if err != nil {
		return fmt.Errorf("spawn shim: %w", err)
	}
	watch.lap("shim")
	return l.ShipLogs(rec)
}

// Free gives back what others may want at once: names, addresses, ports.
func (l *Launcher) Free(ctx context.Context, rec *core.Record) {
	if err := l.Networks.Close(ctx, rec.ID); err != nil {
		l.Log.Warn("close sandbox", "container", rec.ID, "error", err)
	}
}

// UnmountRoot unmounts the root filesystem.
func (l *Launcher) UnmountRoot(ctx context.Context, id string) {
	if err := l.RootFS.Unmount(ctx, l.Disk.Rootfs(id)); err != nil {
		l.Log.Warn("unmount root filesystem", "container", id, "error", err)
	}
}

// MountRoot mounts the root filesystem and answers where.
func (l *Launcher) MountRoot(ctx context.Context, id string) (string, error) {
	dir := l.Disk.Rootfs(id)
	return dir, l.RootFS.Mount(ctx, id, dir)
}

// Down takes a run down, all but the mount of its root: shim and processes, sandbox, volumes, control group. It goes on
// after errors and logs them.
func (l *Launcher) Down(ctx context.Context, rec *core.Record) {
	l.Free(ctx, rec)
	warn := func(what string, err error) {
		if err != nil {
			l.Log.Warn(what, "container", rec.ID, "error", err)
		}
	}
	if rec.Run != nil {
		if launch, err := l.launch(rec, rec.Run); err == nil {
			warn("clean up run", l.Runtime.Cleanup(ctx, launch))
		}
		// The runtime has removed a group that it made; ours is there even when a daemon died before it noted that.
		if g, err := l.Cgroups.Open(ctx, rec.Run.Cgroup); err == nil {
			warn("remove control group", g.Remove(ctx))
		}
		l.Mounts.TellUnmounted(ctx, rec.ID, rec.Mounts)
	}
	l.Mounts.Unmount(ctx, rec.ID, rec.Mounts)
	warn("unmount shared memory", l.Disk.UnmountShm(rec.ID))
}

// Abandon kills a run whose shim does not do it.
func (l *Launcher) Abandon(ctx context.Context, rec *core.Record) error {
	if rec.Run == nil {
		return nil
	}
	launch, err := l.launch(rec, rec.Run)
	if err != nil {
		return err
	}
	return l.Runtime.Cleanup(ctx, launch)
}

// Orphan is a record for taking down what was left of a container that has none: it would have run by the default
// runtime in the default group.
func (l *Launcher) Orphan(id string) *core.Record {
	rec := &core.Record{ID: id, Config: &container.Config{}, HostConfig: &container.HostConfig{LogConfig: container.LogConfig{Type: "none"}}}
	rec.Run = &core.Run{Runtime: l.runtimes.Load().Default, Cgroup: l.cgroupPath(rec)}
	return rec
}

// Begun is what is known of a run whose daemon died before it noted more: enough to take it down.
func (l *Launcher) Begun(rec *core.Record) *core.Run {
	name := rec.HostConfig.Runtime
	if name == "" {
		name = l.runtimes.Load().Default
	}
	return &core.Run{Runtime: name, Cgroup: l.cgroupPath(rec)}
}

// Adopt finds the shim of a run that an earlier daemon started.
func (l *Launcher) Adopt(ctx context.Context, rec *core.Record) (runtime.Adopted, error) {
	launch, err := l.launch(rec, rec.Run)
	if err != nil {
		return runtime.Adopted{}, err
	}
	return l.Runtime.Adopt(ctx, launch)
}

// Spec builds the specification of a running container once more, for an exec after the daemon came back.
func (l *Launcher) Spec(rec *core.Record, j Joins) (*specs.Spec, error) {
	rt, err := l.runtimeOf(rec)
	if err != nil {
		return nil, err
	}
	sources := make([]string, len(rec.Mounts))
	for i, m := range rec.Mounts {
		sources[i] = m.Source
	}
	return l.spec(rec, rt, rec.Run, j, sources)
}

// Exec builds the process of an exec.
func (l *Launcher) Exec(rec *core.Record, spec *specs.Spec, req *container.ExecCreateRequest) (*specs.Process, error) {
	return ocispec.Exec(&ocispec.ExecInput{
		Request: req, Spec: spec, Rootfs: l.Disk.Rootfs(rec.ID), GroupAdd: rec.HostConfig.GroupAdd, Host: l.Host,
	})
}

func (l *Launcher) runtimeOf(rec *core.Record) (Runtime, error) {
	name := rec.HostConfig.Runtime
	if name == "" {
		name = l.runtimes.Load().Default
	}
	return l.RuntimeNamed(name)
}

// RuntimeNamed finds a runtime by the name that clients use.
func (l *Launcher) RuntimeNamed(name string) (Runtime, error) {
	rt, ok := l.runtimes.Load().All[name]
	if !ok {
		return Runtime{}, fault.Invalid("unknown or invalid runtime name: %s", name)
	}
	return rt, nil
}

// DefaultRuntime is the runtime of containers that name none.
func (l *Launcher) DefaultRuntime() string { return l.runtimes.Load().Default }

// ShmSize is the size of /dev/shm of containers that ask for none, in bytes.
func (l *Launcher) ShmSize() int64 { return l.cfg.DefaultShmSize }

// launch is what a shim is told, without the specification.
func (l *Launcher) launch(rec *core.Record, run *core.Run) (runtime.Launch, error) {
	rt, err := l.RuntimeNamed(run.Runtime)
	if err != nil {
		return runtime.Launch{}, err
	}
	sink, err := l.LogSink(rec)
	if err != nil {
		return runtime.Launch{}, err
	}
	uid, gid := l.rootIDs(rec.HostConfig)
	return runtime.Launch{
		ID: rec.ID, StdioUID: uid, StdioGID: gid, Dir: l.Disk.Run(rec.ID), Runtime: rt.Binary, CgroupDirs: run.CgroupDirs,
		Terminal: rec.Config.Tty, Stdin: rec.Config.OpenStdin, StdinOnce: rec.Config.StdinOnce,
		ConsoleHeight: rec.HostConfig.ConsoleSize[0], ConsoleWidth: rec.HostConfig.ConsoleSize[1],
		Log: sink, StopSignal: rec.StopSignal(),
	}, nil
}

// spec builds the runtime specification; sources are the host paths of rec.Mounts.
func (l *Launcher) spec(rec *core.Record, rt Runtime, run *core.Run, j Joins, sources []string) (*specs.Spec, error) {
	shm, err := l.shm(rec, j)
	if err != nil {
		return nil, err
	}
	files := j.Files
	if files == "" {
		files = l.Disk.Dir(rec.ID)
	}
	hc := *rec.HostConfig
	if hc.ShmSize == 0 {
		hc.ShmSize = l.cfg.DefaultShmSize
	}
	in := &ocispec.Input{
		ID: rec.ID, Config: rec.Config, HostConfig: &hc, Rootfs: l.Disk.Rootfs(rec.ID),
		Namespaces: ocispec.Namespaces{Net: run.NetNS, IPC: j.IPC, PID: j.PID},
		Files: ocispec.Files{
			Hosts: filepath.Join(files, "hosts"), Hostname: filepath.Join(files, "hostname"),
			Resolv: filepath.Join(files, "resolv.conf"), Shm: shm,
		},
		CgroupPath: l.cgroupsPath(rec),
		Defaults: ocispec.Defaults{
			Init: l.cfg.Init, InitPath: l.cfg.InitPath, Ulimits: l.cfg.DefaultUlimits, SeccompProfile: l.cfg.SeccompProfile,
			NoNewPrivileges: l.cfg.NoNewPrivileges, NoRecursiveReadOnly: rt.NoRecursiveReadOnly,
		},
		Host: l.Host, Seccomp: l.Seccomp, BPF: rt.BPF, AppArmor: l.AppArmor, CDI: l.CDI, LinkEnv: j.LinkEnv,
	}
	l.remap(in, rec, run, j)
	for i, m := range rec.Mounts {
		in.Mounts = append(in.Mounts, ocispec.Mount{
			Type: m.Type, Source: sources[i], Target: m.Destination, ReadOnly: !m.RW && m.Type != mount.TypeTmpfs,
			Propagation: m.Propagation, SoftPropagation: m.SoftPropagation, NonRecursive: m.Recursion.NonRecursive,
			ReadOnlyNonRecursive:   m.Recursion.ReadOnlyNonRecursive,
			ReadOnlyForceRecursive: m.Recursion.ReadOnlyForceRecursive, TmpfsOptions: m.TmpfsOptions,
		})
	}
	return ocispec.Generate(in)
}

// shm is the host path of the shared memory, for the ipc modes that share it; empty for a private one.
func (l *Launcher) shm(rec *core.Record, j Joins) (string, error) {
	switch mode := rec.HostConfig.IpcMode; {
	case mode.IsHost():
		return "/dev/shm", nil
	case mode.IsContainer():
		return j.Shm, nil
	case mode.IsShareable():
		size := rec.HostConfig.ShmSize
		if size == 0 {
			size = l.cfg.DefaultShmSize
		}
		return l.Disk.MountShm(rec.ID, size)
	}
	return "", nil
}

// AppArmorProfile is the profile that inspect shows.
func (l *Launcher) AppArmorProfile(hc *container.HostConfig) string {
	return ocispec.AppArmorProfile(hc, &l.Host.Security)
}

// SettlePaths fills docker's masked and read-only paths in, so that inspect shows them; privileged containers have none.
func SettlePaths(hc *container.HostConfig) {
	if hc.Privileged {
		return
	}
	masked, readonly := ocispec.DefaultPaths()
	if hc.MaskedPaths == nil {
		hc.MaskedPaths = masked
	}
	if hc.ReadonlyPaths == nil {
		hc.ReadonlyPaths = readonly
	}
}
