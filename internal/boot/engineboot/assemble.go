package engineboot

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"

	containerdlog "github.com/containerd/log"

	"longshore/internal/boot/engineconfig"
	"longshore/internal/core/host"
	"longshore/internal/core/idmap"
	"longshore/internal/driver/apparmor"
	"longshore/internal/driver/bolt"
	"longshore/internal/driver/buildkit"
	cgroupfs "longshore/internal/driver/cgroup"
	"longshore/internal/driver/containerfs"
	"longshore/internal/driver/ctdstore"
	"longshore/internal/driver/hostcheck"
	"longshore/internal/driver/journal"
	"longshore/internal/driver/logfile"
	"longshore/internal/driver/logserver"
	"longshore/internal/driver/ocispec/validate"
	"longshore/internal/driver/processes"
	"longshore/internal/driver/registryclient"
	"longshore/internal/driver/seccomp"
	"longshore/internal/driver/shimclient"
	"longshore/internal/driver/userns"
	"longshore/internal/service/build"
	"longshore/internal/service/build/classic"
	"longshore/internal/service/engine/archive"
	"longshore/internal/service/engine/containers"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/containers/mounts"
	"longshore/internal/service/engine/images"
	"longshore/internal/service/engine/images/transfer"
	"longshore/internal/service/engine/logship"
	"longshore/internal/service/engine/networks"
	"longshore/internal/service/engine/system"
	"longshore/internal/service/engine/volumes"
)

// engine is the assembled whole.
type engine struct {
	cfg       *engineconfig.Config
	build     Build
	log       *slog.Logger
	neighbour Neighbour // nil: none

	isolation
	parts
	facts   atomic.Pointer[host.Facts] // the host's as info tells them: today's
	handler http.Handler
	gate    *gate
	metrics http.Handler // nil: not served
	level   *slog.LevelVar
	notify  string                        // systemd's socket; empty: none
	ending  atomic.Int64                  // shutdown-timeout in seconds, as it is now
	run     []func(context.Context) error // background work, in no order
}

// isolation is what containers get of the host, and by which numbers.
type isolation struct {
	devices devices
	ids     *idmap.Map      // of containers' user namespaces; nil: they have none
	shifter *userns.Shifter // nil without ids
}

// parts are the stores, drivers and services.
type parts struct {
	host       *host.Facts
	runtimes   *runtimes
	state      *bolt.Store
	journal    *journal.Journal
	store      *ctdstore.Store
	registries *registryclient.Client
	images     *images.Service
	networks   *networks.Service
	volumes    *volumes.Service
	containers *containers.Service
	archive    *archive.Service
	system     *system.Service
	builder    *buildkit.Builder
	builds     *build.Service
	classic    *classic.Service
}

// assemble builds everything below the HTTP server, bottom up. What it opens is closed by down.
func (e *engine) assemble(ctx context.Context, down *closers) error {
	for _, step := range []struct {
		what string
		do   func(context.Context, *closers) error
	}{
		{"look at the host", e.lookAtHost},
		{"open stores", e.openStores},
		{"images", e.makeImages},
		{"networks", e.makeNetworks},
		{"volumes", e.makeVolumes},
		{"containers", e.makeContainers},
		{"archive", e.makeArchive},
		{"builder", e.makeBuilder},
		{"classic builds", e.makeClassic},
		{"system", e.makeSystem},
		{"API", e.makeServer},
	} {
		if err := step.do(ctx, down); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (e *engine) lookAtHost(ctx context.Context, _ *closers) (err error) {
	if e.host, err = e.hostFacts(); err != nil {
		return err
	}
	e.facts.Store(e.host)
	if e.cfg.SELinuxEnabled && e.host.Security.SELinux {
		return fmt.Errorf("selinux-enabled: this version of Longshore does not label containers and their files for SELinux: remove the key")
	}
	if e.cfg.SystemdCgroups() {
		if err := hostcheck.Systemd(); err != nil {
			return err
		}
	}
	e.runtimes, err = findRuntimes(ctx, e.cfg, e.log)
	return err
}

// hostFacts are the host's, with what the configuration makes of them.
func (e *engine) hostFacts() (*host.Facts, error) {
	facts, err := hostcheck.Gather()
	if err == nil && e.cfg.SystemdCgroups() {
		facts.Cgroup.Driver = "systemd"
	}
	return facts, err
}

func (e *engine) openStores(ctx context.Context, down *closers) (err error) {
	// containerd's packages log by themselves; what they return as errors is logged by us.
	if err := containerdlog.SetLevel("error"); err != nil {
		return err
	}
	if err := e.verify(); err != nil {
		return err
	}
	if e.state, err = bolt.Open(filepath.Join(e.cfg.DataRoot, "state.db")); err != nil {
		return err
	}
	down.add(e.state.Close)
	for _, kept := range e.state.Damaged() {
		e.log.Error("state: a log was damaged: what it could not tell is kept aside, containers may be seen as they were before", "file", kept)
	}
	if e.journal, err = journal.Open(filepath.Join(e.cfg.DataRoot, "events"), journal.Logger(e.log)); err != nil {
		return err
	}
	e.background(e.journal.Run)
	down.add(e.journal.Close)
	if e.store, err = ctdstore.Open(ctx, e.cfg.DataRoot, e.log); err != nil {
		return err
	}
	down.add(e.store.Close)
	if err := e.makeShifter(down); err != nil || e.shifter == nil {
		return err
	}
	return e.store.ShiftBy(e.shifter, e.shiftedDir())
}

func (e *engine) background(run func(context.Context) error) { e.run = append(e.run, run) }

func (e *engine) makeImages(context.Context, *closers) (err error) {
	cfg := registryclient.Config{
		Insecure: e.cfg.InsecureRegistry, Mirrors: e.cfg.RegistryMirrors, CertsDir: e.cfg.CertsDir, UserAgent: "longshore/" + e.build.Version,
	}
	if e.neighbour != nil {
		cfg.Index = e.neighbour.Index()
	}
	client, err := registryclient.New(cfg)
	if err != nil {
		return err
	}
	e.registries = client
	e.images, err = images.New(e.store, client, e.journal, images.Config{
		Limits: limits(e.cfg), Log: e.log, Neighbour: e.neighbour,
		Container: func(id string) (images.User, bool) { return e.imageUser(id) },
	})
	if err == nil {
		e.background(e.images.Run)
	}
	return err
}

// limits are the bounds of pulls and pushes.
func limits(c *engineconfig.Config) transfer.Limits {
	return transfer.Limits{Downloads: c.MaxDownloads, Uploads: c.MaxUploads, Attempts: c.MaxAttempts}
}

// imageUser tells images about a container that uses one.
func (e *engine) imageUser(id string) (images.User, bool) {
	if e.containers == nil {
		return images.User{}, false
	}
	ref, running, ok := e.containers.ImageUse(id)
	return images.User{ID: id, Running: running, Ref: ref}, ok
}

func (e *engine) makeNetworks(context.Context, *closers) error {
	cfg, err := networkConfig(e.cfg)
	if err != nil {
		return err
	}
	if e.ids != nil {
		cfg.Enter, cfg.Join = e.enter, joinUser
	}
	wall, err := e.firewall(cfg.Firewall)
	if err != nil {
		return err
	}
	deps := networks.Deps{Store: e.state, Events: e.journal, Log: e.log, Firewall: wall.Firewall, RedirectDNS: wall.redirectDNS}
	if e.networks, err = networks.New(cfg, deps); err != nil {
		return err
	}
	e.background(e.networks.Run)
	return nil
}

func (e *engine) makeVolumes(context.Context, *closers) (err error) {
	e.volumes, err = volumes.New(e.cfg.DataRoot, e.state, e.journal, volumes.Logger(e.log))
	return err
}

func (e *engine) makeContainers(context.Context, *closers) error {
	e.devices = e.findDevices()
	shim, err := shimPath(e.cfg.ShimPath)
	if err != nil {
		return err
	}
	disk, err := containerfs.New(e.cfg.DataRoot, e.cfg.ExecRoot)
	if err != nil {
		return err
	}
	if e.shifter != nil {
		if err := disk.ShiftBy(e.shifter); err != nil {
			return err
		}
	}
	groups, err := cgroupfs.New(cgroupfs.Realtime{Period: e.cfg.CPURTPeriod, Runtime: e.cfg.CPURTRuntime})
	if err != nil {
		return err
	}
	cfg, err := containerConfig(e.cfg, e.runtimes, shim)
	if err != nil {
		return err
	}
	cfg.IDs = e.ids
	if cfg.StorageSize, err = storageSize(e.cfg); err != nil {
		return err
	}
	logServers, err := logserver.New()
	if err != nil {
		return err
	}
	logReader := logfile.New()
	shipper := logship.New(logServers, logReader, e.state, e.log)
	e.background(shipper.Run)
	e.containers = containers.New(cfg, containers.Deps{
		Launch: launch.Deps{
			Runtime: shimclient.New(shim, e.log), RootFS: e.images, Networks: e.networks,
			Mounts:  &mounts.Resolver{Volumes: e.volumes, Files: disk, Images: e.images, Events: e.journal},
			Cgroups: groups, Seccomp: seccomp.New(), AppArmor: apparmor.New(), CDI: e.devices.injector(), Host: e.host, Disk: disk, Shipper: shipper, Log: e.log,
		},
		Images: e.images, Events: e.journal, Store: e.state, Logs: logReader, NetworkName: e.networks.Name, Disk: disk, Files: disk,
		Processes: processes.Host{}, Validator: validate.New(e.host), Log: e.log,
	})
	e.background(e.containers.Run)
	return nil
}

// restore takes over what an earlier daemon left, before the first request is served.
func (e *engine) restore(ctx context.Context) error {
	// Before the networks of the dead are taken away, which dead build steps are in.
	if err := e.builder.Sweep(ctx); err != nil {
		e.log.Warn("a dead engine's builds are not wholly removed", "error", err)
	}
	if err := e.containers.Restore(ctx); err != nil {
		return fmt.Errorf("take over containers: %w", err)
	}
	alive := func(id string) bool {
		_, _, ok := e.containers.ImageUse(id) // takes nothing but whole IDs
		return ok
	}
	if err := e.volumes.Reconcile(ctx, alive); err != nil {
		e.log.Warn("volumes may be held by containers that are gone until the next start", "error", err)
	}
	// The networks have changed what the host does: forwarding.
	now, err := e.hostFacts()
	if err != nil {
		return err
	}
	e.facts.Store(now)
	return nil
}
