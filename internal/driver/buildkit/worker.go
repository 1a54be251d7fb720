package buildkit

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/resources"
	"github.com/moby/buildkit/executor/runcexecutor"
	imageexporter "github.com/moby/buildkit/exporter/containerimage"
	containerdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/solver/llbsolver/cdidevices"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/network"
	"github.com/moby/buildkit/version"
	"github.com/moby/buildkit/worker/base"
	wlabel "github.com/moby/buildkit/worker/label"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/driver/buildkit/remap"
)

// localWorker is BuildKit's worker with the engine's image store as a way out.
type localWorker struct {
	*base.Worker
	images Images
	store  Store
	writer *imageexporter.ImageWriter
	steps  *steps

	unkeyed sync.Map // IDs of sessions whose files nothing is known of: all are read
}

func newWorker(cfg Config, deps Deps) (*localWorker, error) {
	running := newSteps(cfg.cgroupParent(), cfg.idle)
	opt, err := workerOpt(cfg, deps, running)
	if err != nil {
		return nil, err
	}
	writer, err := newWriter(opt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make image writer: %w", err), opt.MetadataStore.Close())
	}
	w, err := assemble(opt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make build worker: %w", err), opt.MetadataStore.Close())
	}
	return &localWorker{Worker: w, writer: writer, images: deps.Images, store: deps.Store, steps: running}, nil
}

func workerOpt(cfg Config, deps Deps, running *steps) (opt base.WorkerOpt, err error) {
	policies, err := cfg.GC.policies(cfg.Root)
	if err != nil {
		return opt, err
	}
	id, err := base.ID(cfg.Root)
	if err != nil {
		return opt, fmt.Errorf("read worker ID: %w", err)
	}
	monitor, err := resources.NewMonitor()
	if err != nil {
		return opt, fmt.Errorf("watch resources: %w", err)
	}
	providers := networkProviders(deps, running, cfg.executorRoot())
	devices, err := deviceManager(deps)
	if err != nil {
		return opt, err
	}
	exec, err := newExecutor(cfg, deps, runcexecutor.Opt{ResourceMonitor: monitor, CDIManager: devices}, providers)
	if err != nil {
		return opt, err
	}
	records, err := metadata.NewStore(filepath.Join(cfg.Root, "metadata_v2.db"))
	if err != nil {
		return opt, fmt.Errorf("open cache records: %w", err)
	}
	db := deps.Store.Metadata()
	n := names{deps.Store}
	blobs := containerdsnapshot.NewContentStore(db.ContentStore(), namespace)
	snaps := snapshotter{deps.Store.Snapshotter(), n}
	return base.WorkerOpt{
		ID: id, Root: cfg.Root,
		Labels: map[string]string{
			wlabel.Executor: "oci", wlabel.Snapshotter: snapshotterName, wlabel.Network: "bridge", wlabel.OCIProcessMode: "sandbox",
			"org.mobyproject.buildkit.worker.moby.host-gateway-ip": hostGateway(cfg),
		},
		Platforms:        []ocispec.Platform{platforms.Normalize(platforms.DefaultSpec())},
		GCPolicy:         policies,
		BuildkitVersion:  client.BuildkitVersion{Package: version.Package, Version: version.Version, Revision: version.Revision},
		NetworkProviders: providers, Executor: placed{exec, remap.New(deps.Remap, cfg.executorRoot()), deps.AppArmor}, ResourceMonitor: monitor, CDIManager: devices,
		Snapshotter:  containerdsnapshot.NewSnapshotter(snapshotterName, snaps, namespace, nil),
		ContentStore: blobs, Applier: apply.NewFileSystemApplier(blobs), Differ: walking.NewWalkingDiff(blobs),
		ImageStore: deps.Images, RegistryHosts: cfg.hosts,
		LeaseManager:   leaseutil.WithNamespace(newLeaseManager(db, n), namespace),
		GarbageCollect: collect(deps.Store), MetadataStore: records,
		MountPoolRoot: filepath.Join(cfg.Root, "cachemounts"),
	}, nil
}

// hostGateway is the first address that "host-gateway" stands for, empty when there is none.
func hostGateway(cfg Config) string {
	if cfg.HostGateways == nil {
		return ""
	}
	if all := cfg.HostGateways(); len(all) > 0 {
		return all[0].String()
	}
	return ""
}

// deviceManager finds the devices that vendors describe; nil where there are none.
func deviceManager(deps Deps) (*cdidevices.Manager, error) {
	if deps.Devices == nil {
		return nil, nil
	}
	cache, err := deps.Devices()
	if err != nil {
		return nil, fmt.Errorf("read descriptions of devices: %w", err)
	}
	return cdidevices.NewManager(cache, nil), nil
}

// newExecutor completes opt.
func newExecutor(cfg Config, deps Deps, opt runcexecutor.Opt, providers map[pb.NetMode]network.Provider) (executor.Executor, error) {
	opt.Root, opt.CommandCandidates, opt.DefaultCgroupParent = cfg.executorRoot(), []string{cfg.Runtime}, cfg.cgroupParent()
	opt.IdentityMapping = remap.Identities(deps.Remap)
	if deps.AppArmor != nil {
		opt.ApparmorProfile = appArmorProfile
	}
	if d := cfg.DNS; len(d.Servers)+len(d.Options)+len(d.Search) > 0 {
		opt.DNS = &oci.DNSConfig{Nameservers: d.Servers, Options: d.Options, SearchDomains: d.Search}
	}
	e, err := runcexecutor.New(opt, providers)
	if err != nil {
		return nil, fmt.Errorf("make executor: %w", err)
	}
	return e, nil
}

func (c Config) executorRoot() string { return filepath.Join(c.ExecRoot, "buildkit") }

// cgroupParent is where steps' groups lie: <parent>/buildkit/<step>.
func (c Config) cgroupParent() string {
	if c.CgroupParent == "" {
		return "docker"
	}
	return c.CgroupParent
}
