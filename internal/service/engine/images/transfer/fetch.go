package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"longshore/internal/core/fault"
	"longshore/internal/driver/ctdstore"
	"longshore/internal/service/engine/images/catalog"
)

// fetch brings one image's content here and unpacks it.
type fetch struct {
	*Engine
	from     *sources
	party    *party
	ref      reference.Named
	platform *ocispec.Platform
	emit     Emit
	quiet    bool // nothing is said of layers that are here
}

// maxNesting bounds indexes within indexes.
const maxNesting = 3

// run fetches the variant for the platform below target, whose bytes are known.
func (f *fetch) run(ctx context.Context, target ocispec.Descriptor, body []byte) error {
	d := target
	for depth := 0; c8images.IsIndexType(d.MediaType); depth++ {
		if depth > maxNesting {
			return fault.Invalid("index %s is nested too deep", target.Digest)
		}
		if err := f.keep(ctx, d, body); err != nil {
			return err
		}
		var idx ocispec.Index
		if err := json.Unmarshal(body, &idx); err != nil {
			return fault.Invalid("invalid index %s: %w", d.Digest, err)
		}
		next, err := f.choose(idx)
		if err != nil {
			return err
		}
		d = next
		if body, err = f.document(ctx, d); err != nil {
			return err
		}
	}
	if !c8images.IsManifestType(d.MediaType) {
		return fault.Invalid("unsupported manifest media type %q", d.MediaType)
	}
	return f.manifest(ctx, d, body)
}

// choose picks the best manifest for the platform; plain manifests without platform serve when nothing else does.
func (f *fetch) choose(idx ocispec.Index) (ocispec.Descriptor, error) {
	match := platforms.Default()
	if f.platform != nil {
		match = platforms.Only(*f.platform)
	}
	var best, bare *ocispec.Descriptor
	for i := range idx.Manifests {
		d := &idx.Manifests[i]
		if d.Digest.Validate() != nil {
			continue
		}
		if d.Platform == nil {
			if bare == nil {
				bare = d
			}
			continue
		}
		if match.Match(*d.Platform) && (best == nil || match.Less(*d.Platform, *best.Platform)) {
			best = d
		}
	}
	if best == nil {
		best = bare
	}
	if best == nil {
		return ocispec.Descriptor{}, noMatch(f.platform)
	}
	return *best, nil
}

// document gets a manifest's bytes from the store or the registry.
func (f *fetch) document(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if _, err := f.Store.Forget(ctx, d.Digest); err != nil {
		return nil, err
	}
	if f.Store.Has(ctx, d.Digest) {
		return f.Store.ReadBytes(ctx, d, 8<<20)
	}
	_, body, err := f.lookUp(ctx, d.Digest.String(), holds)
	return body, err
}

// keep stores a document and where it came from.
func (f *fetch) keep(ctx context.Context, d ocispec.Descriptor, body []byte) error {
	if _, err := f.Store.Forget(ctx, d.Digest); err != nil {
		return err
	}
	_, err := f.Store.WriteBlob(ctx, strings.NewReader(string(body)), ocispec.Descriptor{Digest: d.Digest, Size: int64(len(body))}, f.source(ctx, d.Digest))
	return err
}

// source is the label that records the repository, beside others that are recorded already.
func (f *fetch) source(ctx context.Context, d digest.Digest) map[string]string {
	return sourceLabel(ctx, f.Store, f.ref, d)
}

func sourceLabel(ctx context.Context, store *ctdstore.Store, ref reference.Named, d digest.Digest) map[string]string {
	key, repo := catalog.SourceLabel+reference.Domain(ref), reference.Path(ref)
	have := ""
	if info, err := store.Content().Info(ctx, d); err == nil {
		have = info.Labels[key]
	}
	for r := range strings.SplitSeq(have, ",") {
		if r == repo {
			return map[string]string{key: have}
		}
	}
	if have != "" {
		repo = have + "," + repo
	}
	return map[string]string{key: repo}
}

// manifest fetches configuration and layers, unpacking while later layers are still on their way.
func (f *fetch) manifest(ctx context.Context, d ocispec.Descriptor, body []byte) error {
	var doc ocispec.Manifest
	if err := json.Unmarshal(body, &doc); err != nil {
		return fault.Invalid("invalid manifest %s: %w", d.Digest, err)
	}
	for _, c := range append([]ocispec.Descriptor{doc.Config}, doc.Layers...) {
		if err := c.Digest.Validate(); err != nil {
			return fault.Invalid("invalid manifest %s: digest %q: %w", d.Digest, c.Digest, err)
		}
	}
	if err := f.keep(ctx, d, body); err != nil {
		return err
	}
	if err := f.blob(ctx, doc.Config, nil); err != nil {
		return err
	}
	if !c8images.IsConfigType(doc.Config.MediaType) { // an artifact: kept, but nothing to unpack
		return f.layers(ctx, doc.Layers, nil)
	}
	var cfg dockerspec.DockerOCIImage
	if err := catalog.ReadJSON(ctx, f.Store.Content(), doc.Config, &cfg); err != nil {
		return fault.Invalid("invalid image configuration %s: %w", doc.Config.Digest, err)
	}
	if f.platform != nil && cfg.OS != "" && !platforms.Only(*f.platform).Match(platforms.Normalize(cfg.Platform)) {
		return fault.NotFound("image with reference %s was found but does not provide the specified platform (%s)",
			reference.FamiliarString(f.ref), platforms.FormatAll(*f.platform))
	}
	return f.layers(ctx, doc.Layers, &ctdstore.Layers{Config: doc.Config, Blobs: doc.Layers, DiffIDs: cfg.RootFS.DiffIDs})
}

// layers downloads side by side and unpacks bottom first; unpack is nil for what cannot be unpacked.
func (f *fetch) layers(ctx context.Context, layers []ocispec.Descriptor, unpack *ctdstore.Layers) error {
	emit := serial(f.emit)
	stored := f.stored(ctx, layers)
	whole := unpack != nil && !contains(stored, false) && f.Store.Unpacked(ctx, unpack.ChainID())
	for i, l := range layers {
		if whole && f.quiet || i > 0 && repeated(layers, i) {
			continue
		}
		status := "Pulling fs layer"
		if stored[i] {
			status = "Already exists"
		}
		if err := emit(State(catalog.Short(l.Digest.String()), status)); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	ready := make([]chan struct{}, len(layers))
	for i, l := range layers {
		ready[i] = make(chan struct{})
		g.Go(func() error {
			say := emit
			if stored[i] {
				say = nil
			}
			if err := f.blob(ctx, l, say); err != nil {
				return err
			}
			close(ready[i])
			return nil
		})
	}
	if unpack != nil {
		unpack.Fetched = func(ctx context.Context, i int) error { return await(ctx, ready[i]) }
		if !whole {
			unpack.Progress = layerProgress(layers, emit)
		}
		g.Go(func() error {
			err := f.Store.Unpack(ctx, *unpack)
			if err != nil && !errors.Is(err, context.Canceled) {
				return fault.Internal("failed to register layer: %w", err)
			}
			return err
		})
	}
	return g.Wait()
}

func await(ctx context.Context, ready chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ready:
		return ctx.Err()
	}
}

func layerProgress(layers []ocispec.Descriptor, emit Emit) func(int, bool) {
	return func(i int, done bool) {
		id := catalog.Short(layers[i].Digest.String())
		if done {
			_ = emit(State(id, "Pull complete")) // serial keeps the error for the next call
			return
		}
		_ = emit(Line(id, "Extracting", layers[i].Size, layers[i].Size))
	}
}

func (f *fetch) stored(ctx context.Context, layers []ocispec.Descriptor) []bool {
	out := make([]bool, len(layers))
	for i, l := range layers {
		lost, err := f.Store.Forget(ctx, l.Digest)
		out[i] = err == nil && !lost && f.Store.Has(ctx, l.Digest)
	}
	return out
}

func contains(list []bool, v bool) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

// repeated tells that a layer occurs below as well.
func repeated(layers []ocispec.Descriptor, i int) bool {
	for _, l := range layers[:i] {
		if l.Digest == layers[i].Digest {
			return true
		}
	}
	return false
}

// blob brings one blob here. Pulls that want the same blob wait for the first of them.
func (f *fetch) blob(ctx context.Context, d ocispec.Descriptor, emit Emit) error {
	unlock, err := f.blobs.lock(ctx, d.Digest)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := f.Store.Forget(ctx, d.Digest); err != nil {
		return err
	}
	labels := f.source(ctx, d.Digest)
	if f.Store.Has(ctx, d.Digest) {
		if err := f.Store.Hold(ctx, d.Digest); err != nil {
			return err
		}
		if err := f.Store.Label(ctx, d.Digest, labels); err != nil || emit == nil {
			return err
		}
		return emit(State(catalog.Short(d.Digest.String()), "Download complete"))
	}
	id := catalog.Short(d.Digest.String())
	if linked, err := f.receive(ctx, d, labels); linked && err == nil && emit != nil {
		return emit(State(id, "Download complete"))
	} else if linked || err != nil {
		return err
	}
	down := &download{fetch: f, desc: d, labels: labels, emit: emit}
	if err := down.run(ctx); err != nil || emit == nil {
		return err
	}
	return emit(State(id, "Download complete"))
}

// meter reports the progress of reading, at most once per step bytes.
type meter struct {
	r                 io.Reader
	done, told, total int64
	step              int64
	tell              func(done int64) error
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.done += int64(n)
	if n > 0 && (m.told == 0 || m.done-m.told >= m.step || m.done == m.total) {
		m.told = m.done
		if terr := m.tell(m.done); terr != nil {
			return n, terr
		}
	}
	return n, err
}

// keyedLock is a lock per digest.
type keyedLock struct {
	mu   sync.Mutex
	held map[digest.Digest]chan struct{}
}

// lock waits until nobody else holds d, or ctx ends.
func (k *keyedLock) lock(ctx context.Context, d digest.Digest) (unlock func(), err error) {
	for {
		k.mu.Lock()
		other := k.held[d]
		if other == nil {
			mine := make(chan struct{})
			if k.held == nil {
				k.held = map[digest.Digest]chan struct{}{}
			}
			k.held[d] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, d)
				k.mu.Unlock()
				close(mine)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-other:
		}
	}
}
