package buildkit

import (
	"fmt"
	"slices"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	imageexporter "github.com/moby/buildkit/exporter/containerimage"
	localexporter "github.com/moby/buildkit/exporter/local"
	ociexporter "github.com/moby/buildkit/exporter/oci"
	tarexporter "github.com/moby/buildkit/exporter/tar"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/snapshot/imagerefchecker"
	"github.com/moby/buildkit/source"
	"github.com/moby/buildkit/source/containerblob"
	"github.com/moby/buildkit/source/containerimage"
	"github.com/moby/buildkit/source/git"
	"github.com/moby/buildkit/source/http"
	"github.com/moby/buildkit/source/local"
	"github.com/moby/buildkit/worker/base"
	digest "github.com/opencontainers/go-digest"
)

// assemble makes BuildKit's worker out of its parts: its own constructor leaves no choice of who tells which cache records
// images use.
func assemble(opt base.WorkerOpt) (*base.Worker, error) {
	records, err := cache.NewManager(cache.ManagerOpt{
		Snapshotter: opt.Snapshotter, ContentStore: opt.ContentStore, LeaseManager: opt.LeaseManager, MetadataStore: opt.MetadataStore,
		PruneRefChecker: usedByImages(imagerefchecker.Opt{ImageStore: opt.ImageStore, ContentStore: opt.ContentStore}),
		Applier:         opt.Applier, Differ: opt.Differ, GarbageCollect: opt.GarbageCollect, Root: opt.Root, MountPoolRoot: opt.MountPoolRoot,
	})
	if err != nil {
		return nil, fmt.Errorf("open the build cache: %w", err)
	}
	w := &base.Worker{WorkerOpt: opt, CacheMgr: records}
	if err := addSources(w); err != nil {
		return nil, err
	}
	return w, nil
}

// addSources gives a worker the places that builds take files from: images, blobs, git, HTTP, sessions.
func addSources(w *base.Worker) (err error) {
	if w.SourceManager, err = source.NewManager(); err != nil {
		return err
	}
	image := containerimage.SourceOpt{
		Snapshotter: w.WorkerOpt.Snapshotter, ContentStore: w.WorkerOpt.ContentStore, Applier: w.WorkerOpt.Applier, ImageStore: w.WorkerOpt.ImageStore,
		CacheAccessor: w.CacheMgr, RegistryHosts: w.WorkerOpt.RegistryHosts, ResolverType: containerimage.ResolverTypeRegistry, LeaseManager: w.WorkerOpt.LeaseManager,
	}
	if w.ImageSource, err = containerimage.NewSource(image); err != nil {
		return err
	}
	image.ResolverType, image.RegistryHosts = containerimage.ResolverTypeOCILayout, nil
	if w.OCILayoutSource, err = containerimage.NewSource(image); err != nil {
		return err
	}
	blobs, err := containerblob.NewSource(containerblob.SourceOpt{
		ContentStore: w.WorkerOpt.ContentStore, CacheAccessor: w.CacheMgr, RegistryHosts: w.WorkerOpt.RegistryHosts,
	})
	if err != nil {
		return err
	}
	if w.HTTPSource, err = http.NewSource(http.Opt{CacheAccessor: w.CacheMgr}); err != nil {
		return err
	}
	files, err := local.NewSource(local.Opt{CacheAccessor: w.CacheMgr})
	if err != nil {
		return err
	}
	for _, s := range []source.Source{w.ImageSource, w.OCILayoutSource, blobs, w.HTTPSource, files} {
		w.SourceManager.Register(s)
	}
	if git.Supported() != nil { // no git on this host
		return nil
	}
	if w.GitSource, err = git.NewSource(git.Opt{CacheAccessor: w.CacheMgr, RegistryHosts: w.WorkerOpt.RegistryHosts}); err != nil {
		return err
	}
	w.SourceManager.Register(w.GitSource)
	return nil
}

// usedByImages tells which cache records an image has layers of. A record that was never exported has no blob, so no image
// has it; BuildKit v0.33's own checker would take it for its base, and the cache above any image that is here would never
// shrink.
func usedByImages(opt imagerefchecker.Opt) cache.ExternalRefCheckerFunc {
	open := imagerefchecker.New(opt)
	return func() (cache.ExternalRefChecker, error) {
		c, err := open()
		return exported{c}, err
	}
}

type exported struct{ cache.ExternalRefChecker }

// Exists implements BuildKit's cache.ExternalRefChecker.
func (e exported) Exists(key string, blobs []digest.Digest) bool {
	return !slices.Contains(blobs, "") && e.ExternalRefChecker.Exists(key, blobs)
}

// Exporter gives BuildKit's ways out, and "moby": the engine's image store.
func (w *localWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	switch name {
	case exporterMoby, client.ExporterImage:
		inner, err := imageexporter.New(imageexporter.Opt{
			Images: w.ImageStore, SessionManager: sm, ImageWriter: w.writer, RegistryHosts: w.RegistryHosts, LeaseManager: w.LeaseManager(),
		})
		return &mobyExporter{inner: inner, worker: w}, err
	case client.ExporterLocal:
		return localexporter.New(localexporter.Opt{SessionManager: sm})
	case client.ExporterTar:
		return tarexporter.New(tarexporter.Opt{SessionManager: sm})
	case client.ExporterOCI, client.ExporterDocker:
		return ociexporter.New(ociexporter.Opt{ // the variants are named as the exporters
			SessionManager: sm, ImageWriter: w.writer, Variant: ociexporter.ExporterVariant(name), LeaseManager: w.LeaseManager(),
		})
	}
	return nil, fmt.Errorf("exporter %q could not be found", name)
}

func newWriter(opt base.WorkerOpt) (*imageexporter.ImageWriter, error) {
	return imageexporter.NewImageWriter(imageexporter.WriterOpt{
		Snapshotter: opt.Snapshotter, ContentStore: opt.ContentStore, Applier: opt.Applier, Differ: opt.Differ,
	})
}
