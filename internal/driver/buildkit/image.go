package buildkit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/moby/buildkit/cache"
	cacheconfig "github.com/moby/buildkit/cache/config"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/progress"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

const (
	// exporterMoby is docker's own exporter: the engine's image store.
	exporterMoby = "moby"
	// snapshotKey is where BuildKit's cache records keep their snapshot's name.
	snapshotKey = "cache.snapshot"
	// squashKey is the attribute that asks for one layer.
	squashKey = "squash"
	// fastest is the compression level of layers unless the client chose one: most of what is built never leaves the
	// host, and what does is compressed only once.
	fastest = "1"
)

// mobyExporter puts a build's result into the engine's images. BuildKit's own image exporter writes the documents; the
// cache's snapshots become the image's unpacked layers as they are, and the names are given last, all at once.
type mobyExporter struct {
	inner  exporter.Exporter
	worker *localWorker
}

// Resolve implements BuildKit's exporter.Exporter.
func (m *mobyExporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	e := &mobyInstance{worker: m.worker, attrs: attrs, name: attrs[string(exptypes.OptKeyName)], store: true}
	opt := maps.Clone(attrs)
	if opt == nil {
		opt = map[string]string{}
	}
	if v := opt[string(exptypes.OptKeyStore)]; v != "" {
		store, err := strconv.ParseBool(v)
		if err != nil {
			return nil, fmt.Errorf("non-bool value specified for store: %w", err)
		}
		e.store = store
	}
	e.rewritten, _ = strconv.ParseBool(opt[string(exptypes.OptKeyRewriteTimestamp)])
	push, err := strconv.ParseBool(opt[string(exptypes.OptKeyPush)])
	if v, ok := opt[string(exptypes.OptKeyPush)]; !ok || v != "" && (err != nil || !push) {
		delete(opt, string(exptypes.OptKeyName)) // the name is what it would push to
	}
	for _, k := range []exptypes.ImageExporterOptKey{exptypes.OptKeyUnpack, exptypes.OptKeyDanglingPrefix, exptypes.OptKeyDanglingEmptyOnly} {
		delete(opt, string(k))
	}
	e.squashing = opt[squashKey] == "true"
	delete(opt, squashKey)
	opt[string(exptypes.OptKeyStore)] = "false"
	if opt[string(exptypes.OptKeyLayerCompression)] == "" && opt[string(exptypes.OptKeyCompressionLevel)] == "" {
		opt[string(exptypes.OptKeyCompressionLevel)] = fastest
	}
	e.ExporterInstance, err = m.inner.Resolve(ctx, id, opt)
	return e, err
}

// mobyInstance is one export.
type mobyInstance struct {
	exporter.ExporterInstance
	worker    *localWorker
	attrs     map[string]string
	name      string // comma separated; "*": as the frontend names it
	store     bool
	rewritten bool // layers differ from the cache's: their times were changed
	squashing bool
}

// Attrs are those that the client gave.
func (e *mobyInstance) Attrs() map[string]string { return e.attrs }

// Export implements BuildKit's exporter.ExporterInstance.
func (e *mobyInstance) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	resp, finalize, ref, err := e.ExporterInstance.Export(ctx, src, info)
	if err != nil || !e.store || ref == nil {
		return resp, finalize, ref, err
	}
	names := e.names(src)
	target, err := e.finish(ctx, src, info, ref.Descriptor(), names)
	if err != nil {
		_ = ref.Release()
		return nil, nil, nil, err
	}
	if target.Digest != ref.Descriptor().Digest {
		ref = renamed{ref, target}
		if err := tell(resp, target); err != nil {
			_ = ref.Release()
			return nil, nil, nil, err
		}
	}
	if len(names) > 0 {
		resp[exptypes.ExporterImageNameKey] = strings.Join(names, ",")
	}
	return resp, finalize, ref, nil
}

// finish makes the result an image of the engine, squashed when that was asked for.
func (e *mobyInstance) finish(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo, target ocispec.Descriptor, names []string) (ocispec.Descriptor, error) {
	if !e.squashing {
		return target, e.keep(ctx, src, info, target, names)
	}
	ctx, release, err := leaseutil.WithLease(ctx, e.worker.LeaseManager(), leaseutil.MakeTemporary)
	if err != nil {
		return target, err
	}
	defer func() { _ = release(context.WithoutCancel(ctx)) }()
	if target, err = e.squash(ctx, src, target); err != nil {
		return target, err
	}
	return target, e.keep(ctx, src, info, target, names)
}

// tell corrects the answer for an image that the exporter did not write.
func tell(resp map[string]string, target ocispec.Descriptor) error {
	doc, err := json.Marshal(target)
	if err != nil {
		return fmt.Errorf("encode descriptor: %w", err)
	}
	resp[exptypes.ExporterImageDigestKey] = target.Digest.String()
	resp[exptypes.ExporterImageDescriptorKey] = base64.StdEncoding.EncodeToString(doc)
	delete(resp, exptypes.ExporterImageConfigDigestKey)
	return nil
}

func (e *mobyInstance) names(src *exporter.Source) []string {
	name := e.name
	if name == "*" {
		name = string(src.Metadata["image.name"])
	}
	if name == "" {
		return nil
	}
	return strings.Split(name, ",")
}

// keep makes the result an image of the engine.
func (e *mobyInstance) keep(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo, target ocispec.Descriptor, names []string) (err error) {
	if err := e.fetch(ctx, src, info.SessionID); err != nil {
		return err
	}
	if !e.rewritten {
		if err := e.adoptAll(ctx, src, target); err != nil {
			return err
		}
	}
	what := "naming to " + strings.Join(names, ", ")
	if len(names) == 0 {
		what = "keeping " + target.Digest.String()
	}
	done := progress.OneOff(ctx, what)
	return done(e.worker.images.Built(ctx, bare(target), names))
}

// bare is a descriptor without the exporter's notes to itself.
func bare(d ocispec.Descriptor) ocispec.Descriptor {
	d.Annotations = nil
	return d
}

// fetch gets base layers that nothing has needed so far.
func (e *mobyInstance) fetch(ctx context.Context, src *exporter.Source, sessionID string) error {
	group, gctx := errgroup.WithContext(ctx)
	for _, ref := range allRefs(src) {
		group.Go(func() error {
			cfg := cacheconfig.RefConfig{Compression: e.Config().Compression()}
			remotes, err := ref.GetRemotes(gctx, false, cfg, false, session.NewGroup(sessionID))
			if err != nil || len(remotes) == 0 {
				return err
			}
			if u, ok := remotes[0].Provider.(cache.Unlazier); ok {
				return u.Unlazy(gctx)
			}
			return nil
		})
	}
	return group.Wait()
}

func allRefs(src *exporter.Source) []cache.ImmutableRef {
	var out []cache.ImmutableRef
	if src.Ref != nil {
		out = append(out, src.Ref)
	}
	for _, r := range src.Refs {
		if r != nil {
			out = append(out, r)
		}
	}
	return out
}

// adoptAll makes the snapshots of the result the unpacked layers of the images in it.
func (e *mobyInstance) adoptAll(ctx context.Context, src *exporter.Source, target ocispec.Descriptor) error {
	platforms, err := exptypes.ParsePlatforms(src.Metadata)
	if err != nil {
		return err
	}
	manifests, err := e.manifests(ctx, target)
	if err != nil {
		return err
	}
	for i, p := range platforms.Platforms {
		ref, ok := src.FindRef(p.ID)
		if !ok || ref == nil || i >= len(manifests) {
			continue
		}
		if err := e.adopt(ctx, ref, manifests[i]); err != nil {
			return fmt.Errorf("keep the unpacked layers: %w", err)
		}
	}
	return nil
}

// manifests are the image manifests of a target, in the order of the platforms asked for; attestations come after them.
func (e *mobyInstance) manifests(ctx context.Context, target ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if !images.IsIndexType(target.MediaType) {
		return []ocispec.Descriptor{target}, nil
	}
	var index ocispec.Index
	if err := e.read(ctx, target, &index); err != nil {
		return nil, err
	}
	return index.Manifests, nil
}

func (e *mobyInstance) read(ctx context.Context, d ocispec.Descriptor, v any) error {
	b, err := content.ReadBlob(ctx, e.worker.ContentStore(), d)
	if err != nil {
		return fmt.Errorf("read %s: %w", d.Digest, err)
	}
	return json.Unmarshal(b, v)
}

func (e *mobyInstance) adopt(ctx context.Context, ref cache.ImmutableRef, manifest ocispec.Descriptor) error {
	var m ocispec.Manifest
	if err := e.read(ctx, manifest, &m); err != nil {
		return err
	}
	var config struct {
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := e.read(ctx, m.Config, &config); err != nil {
		return err
	}
	if len(config.RootFS.DiffIDs) == 0 {
		return nil
	}
	if err := ref.Finalize(ctx); err != nil {
		return err
	}
	if err := ref.Extract(ctx, nil); err != nil { // a base that no step has run on
		return err
	}
	chains := identity.ChainIDs(append([]digest.Digest(nil), config.RootFS.DiffIDs...))
	return e.worker.store.Adopt(ctx, m.Config.Digest, chains, e.worker.snapshotOf(ctx, ref.ID()))
}

// snapshotOf is the engine's name of a cache record's snapshot.
func (w *localWorker) snapshotOf(ctx context.Context, id string) string {
	name := id
	if item, ok := w.MetadataStore.Get(id); ok {
		var kept string
		if v := item.Get(snapshotKey); v != nil && v.Unmarshal(&kept) == nil && kept != "" {
			name = kept
		}
	}
	return names{w.store}.of(ctx, name)
}
