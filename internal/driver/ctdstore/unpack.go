package ctdstore

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"longshore/internal/driver/ctdstore/compression"
)

// parallelLayers bounds how many layers of one image are unpacked at a time.
const parallelLayers = 3

// Layers is what Unpack needs to know of an image.
type Layers struct {
	Config  ocispec.Descriptor
	Blobs   []ocispec.Descriptor // as in the manifest, bottom first
	DiffIDs []digest.Digest      // as in the configuration
	// Fetched, when set, is asked before a layer is read and blocks until its blob is stored, so that unpacking starts
	// while later layers are still on their way.
	Fetched func(ctx context.Context, layer int) error
	// Ahead, when set, may have unpacked some of the layers already.
	Ahead *Ahead
	// Progress, when set, is told as layers begin and end; it may be called concurrently.
	Progress func(layer int, done bool)
}

// ChainID names the top snapshot; empty without layers.
func (l Layers) ChainID() digest.Digest {
	if len(l.DiffIDs) == 0 {
		return ""
	}
	return identity.ChainID(l.DiffIDs)
}

// Unpacked tells whether an image's top snapshot exists.
func (s *Store) Unpacked(ctx context.Context, chain digest.Digest) bool {
	if chain == "" {
		return true
	}
	_, err := s.snaps.Stat(ctx, chain.String())
	return err == nil
}

// Unpack makes the committed snapshots of an image and ties them to its configuration. Layers are unpacked side by
// side, each into a snapshot of its own, and put on top of each other when they are whole. Two callers that unpack one
// image share the work.
func (s *Store) Unpack(ctx context.Context, l Layers) error {
	chain := l.ChainID()
	if len(l.Blobs) != len(l.DiffIDs) {
		return fmt.Errorf("image has %d layers but %d diff IDs: %w", len(l.Blobs), len(l.DiffIDs), errdefs.ErrInvalidArgument)
	}
	if chain == "" {
		return nil
	}
	ctx, release, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer release()
	for {
		// Held before it is looked for: the collector cannot take it between the two.
		if err := s.holdSnapshot(ctx, chain); err != nil {
			return err
		}
		if s.Unpacked(ctx, chain) {
			if l.Fetched != nil { // a pull: its caller may have found that the image is not whole
				if err := s.mend(ctx, l); err != nil {
					return err
				}
			}
			return s.tie(ctx, l.Config.Digest, chain)
		}
		_, err, shared := s.unpacking.Do(chain.String(), func() (any, error) { return nil, s.unpackAll(ctx, l) })
		if err != nil && !(shared && ctx.Err() == nil && errors.Is(err, context.Canceled)) {
			return err
		} // else the caller that did the work went away: do it ourselves
	}
}

// holdSnapshot puts a snapshot under the context's lease, whether it exists already or not.
func (s *Store) holdSnapshot(ctx context.Context, chain digest.Digest) error {
	id, ok := leases.FromContext(ctx)
	if !ok {
		return nil
	}
	r := leases.Resource{ID: chain.String(), Type: snapshotResource}
	if err := s.leases.AddResource(ctx, leases.Lease{ID: id}, r); err != nil {
		return fmt.Errorf("hold snapshot %s: %w", chain, err)
	}
	return nil
}

func (s *Store) tie(ctx context.Context, config, chain digest.Digest) error {
	return s.Label(ctx, config, map[string]string{snapshotLabel: s.SnapshotName(ctx, chain.String())})
}

func (s *Store) unpackAll(ctx context.Context, l Layers) error {
	chains := identity.ChainIDs(append([]digest.Digest(nil), l.DiffIDs...))
	have, err := s.deepest(ctx, chains)
	if err != nil {
		return err
	}
	layers := make([]*layer, len(chains))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelLayers + 1) // and the one that commits
	for i := have; i < len(chains); i++ {
		layers[i] = &layer{store: s, blob: l.Blobs[i], diff: l.DiffIDs[i], base: i == 0, ready: make(chan struct{})}
	}
	g.Go(func() error { return s.commitAll(gctx, l, layers, chains, have) })
	for i := have; i < len(chains); i++ {
		g.Go(func() error { return layers[i].unpack(gctx, l, i) })
	}
	err = g.Wait()
	if err != nil {
		s.discard(ctx, layers)
	}
	return err
}

// deepest is how many layers from the bottom are unpacked already; the topmost of them is held.
func (s *Store) deepest(ctx context.Context, chains []digest.Digest) (int, error) {
	for i := len(chains); i > 0; i-- {
		if !s.Unpacked(ctx, chains[i-1]) {
			continue
		}
		if err := s.holdSnapshot(ctx, chains[i-1]); err != nil {
			return 0, err
		}
		if s.Unpacked(ctx, chains[i-1]) {
			return i, nil
		}
	}
	return 0, nil
}

// commitAll waits for the layers above those that are there already, puts their files on disk, once for all of them, and
// then puts them on top of each other, bottom first.
func (s *Store) commitAll(ctx context.Context, l Layers, layers []*layer, chains []digest.Digest, from int) error {
	below := ""
	if from > 0 {
		below = chains[from-1].String()
	}
	lowers, err := s.directories(ctx, below)
	if err != nil {
		return err
	}
	for i := from; i < len(chains); i++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-layers[i].ready:
		}
		if err := layers[i].inherit(lowers); err != nil {
			return fmt.Errorf("layer %s: %w", l.Blobs[i].Digest, err)
		}
		lowers = append([]string{layers[i].root}, lowers...)
	}
	if err := errors.Join(s.persist(), l.Ahead.settled()); err != nil {
		return err
	}
	for i := from; i < len(chains); i++ {
		parent := ""
		if i > 0 {
			parent = s.SnapshotName(ctx, chains[i-1].String())
		}
		if err := layers[i].commit(ctx, chains[i].String(), parent); err != nil {
			return fmt.Errorf("commit layer %s: %w", l.Blobs[i].Digest, err)
		}
		if l.Progress != nil {
			l.Progress(i, true)
		}
	}
	return nil
}

// directories are those of a committed snapshot and of all below it, topmost first.
func (s *Store) directories(ctx context.Context, name string) ([]string, error) {
	var dirs []string
	for name != "" {
		info, err := s.snaps.Stat(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("directory of snapshot %s: %w", name, err)
		}
		dirs = append(dirs, info.Labels[upperLabel])
		name = info.Parent
	}
	return dirs, nil
}

func (s *Store) discard(ctx context.Context, layers []*layer) {
	for _, l := range layers {
		if l == nil || l.key == "" || l.committed {
			continue
		}
		if err := s.snaps.Remove(context.WithoutCancel(ctx), l.key); err != nil && !errdefs.IsNotFound(err) {
			s.log.Warn("half-unpacked layer not removed", "digest", l.blob.Digest, "error", err)
		}
	}
}

// layer is one layer on its way into a snapshot.
type layer struct {
	store     *Store
	blob      ocispec.Descriptor
	diff      digest.Digest // when it is not known before: of a compressed layer what it turns out to be, else empty
	base      bool
	key       string
	root      string          // the directory that the layer is unpacked into
	bare      map[string]bool // directories that the layer uses without describing them
	whiteouts bool            // it hides what is below it
	ready     chan struct{}   // closed when unpack succeeded
	committed bool
}

func (l *layer) unpack(ctx context.Context, all Layers, i int) error {
	if all.Fetched != nil {
		if err := all.Fetched(ctx, i); err != nil {
			return err
		}
	}
	if all.Progress != nil {
		all.Progress(i, false)
	}
	given, err := all.Ahead.give(ctx, l)
	if err != nil {
		return fmt.Errorf("unpack layer %s: %w", l.blob.Digest, err)
	}
	if given {
		close(l.ready)
		return nil
	}
	if err := l.prepare(ctx, l.diff.Encoded()); err != nil {
		return fmt.Errorf("prepare layer %s: %w", l.blob.Digest, err)
	}
	if err := l.fill(ctx); err != nil {
		return fmt.Errorf("unpack layer %s: %w", l.blob.Digest, err)
	}
	close(l.ready)
	return nil
}

// prepare makes the snapshot that the layer is unpacked into.
func (l *layer) prepare(ctx context.Context, name string) error {
	key := "extract-" + strconv.FormatUint(ingestSeq.Add(1), 36) + "-" + name
	mounts, err := l.store.prepareFresh(ctx, key)
	if err != nil {
		return err
	}
	l.key = key
	l.root, err = upperDir(mounts)
	return err
}

// fill unpacks the layer's blob into its directory.
func (l *layer) fill(ctx context.Context) error {
	ra, err := l.store.content.ReaderAt(ctx, l.blob)
	if err != nil {
		return err
	}
	defer ra.Close()
	if err := l.apply(ctx, io.NewSectionReader(ra, 0, ra.Size())); err != nil {
		return l.store.blame(ctx, l.blob.Digest, err)
	}
	return nil
}

// prepareFresh makes an active snapshot without parent. A leftover of the same key (keys restart with the process) is
// replaced.
func (s *Store) prepareFresh(ctx context.Context, key string) ([]mount.Mount, error) {
	mounts, err := s.snaps.Prepare(ctx, key, "")
	if errdefs.IsAlreadyExists(err) {
		if err := s.snaps.Remove(ctx, key); err != nil {
			return nil, err
		}
		return s.snaps.Prepare(ctx, key, "")
	}
	return mounts, err
}

// apply unpacks a layer and checks its diff ID.
func (l *layer) apply(ctx context.Context, r io.Reader) error {
	plain, kind, err := compression.NewReader(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	alg := digest.Canonical
	if l.diff != "" {
		alg = l.diff.Algorithm()
	}
	digester := alg.Digester()
	src := io.Reader(plain)
	known := kind == compression.None && (l.diff == "" || l.blob.Digest == l.diff) // verified when it is, or was, stored
	if !known {
		src = io.TeeReader(plain, digester.Hash())
	}
	seen := map[string]bool{}
	l.bare = map[string]bool{}
	opts := []archive.ApplyOpt{archive.WithFilter(func(h *tar.Header) (bool, error) {
		l.note(seen, h)
		return true, nil
	})}
	if !l.base {
		opts = append(opts, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout))
	}
	if _, err := archive.Apply(ctx, l.root, src, opts...); err != nil {
		return err
	}
	if known {
		return nil
	}
	if _, err := io.Copy(io.Discard, src); err != nil {
		return err
	}
	switch got := digester.Digest(); {
	case l.diff == "":
		l.diff = got
	case got != l.diff:
		return fmt.Errorf("wrong diff id calculated on extraction %q: %w", got, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// note records directories that a layer's entries lie in but that it does not describe itself: they get the metadata of
// the layers below when these are known.
func (l *layer) note(seen map[string]bool, h *tar.Header) {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	l.whiteouts = l.whiteouts || strings.HasPrefix(path.Base(name), ".wh.")
	for dir := path.Dir(name); dir != "." && !seen[dir]; dir = path.Dir(dir) {
		seen[dir] = true
		l.bare[dir] = true
	}
	if h.Typeflag == tar.TypeDir {
		seen[name] = true
		delete(l.bare, name)
	}
}

// commit records a layer whose files are on disk.
func (l *layer) commit(ctx context.Context, name, parent string) error {
	var opts []snapshots.Opt
	if parent != "" {
		opts = append(opts, snapshots.WithParent(parent))
	}
	err := l.store.snaps.commitPersisted(ctx, name, l.key, opts...)
	if errdefs.IsAlreadyExists(err) { // unpacked by someone else, the builder for one
		return nil
	}
	l.committed = err == nil
	return err
}

// inherit gives directories that the layer does not describe the metadata that they have in the layers below, topmost first.
func (l *layer) inherit(lowers []string) error {
	for dir := range l.bare {
		if err := inheritDir(l.root, lowers, dir); err != nil {
			return fmt.Errorf("metadata of %q: %w", dir, err)
		}
	}
	return nil
}
