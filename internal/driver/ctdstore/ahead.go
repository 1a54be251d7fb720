package ctdstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/driver/ctdstore/compression"
	"longshore/internal/driver/ctdstore/direct"
)

// aheadFrom is the size in bytes from which a blob is written past the page cache, and unpacked meanwhile if it may be a layer.
const aheadFrom = 1 << 20

// telling is how many bytes at a blob's beginning tell it from others of its size.
const telling = 64 << 10

// Ahead is a Store that unpacks what may be a layer while it is written, without reading it again: for archives, which tell at their
// end only what their files are. Unpack takes what it made (Layers.Ahead); Close throws the rest away. What a killed process
// leaves of it are active snapshots without a lease, which the next start's collection takes.
type Ahead struct {
	*Store
	split *direct.Splitter
	work  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	layers map[digest.Digest]*early
	here   map[int64][]digest.Digest // blobs that were here before, by size; nil before the first question
	off    bool                      // nothing more is unpacked early
	lost   error                     // files may not be on disk, and nobody else will be told
}

// early is a layer that is unpacked, or on its way to it, before anybody asks for it.
type early struct {
	layer
	done chan struct{} // closed when the rest is settled
	err  error         // it could not be unpacked; whoever needs it tries it from the blob and says why
}

// Ahead begins to unpack early, unless it may not, what is written with it. Close must be called.
func (s *Store) Ahead(may bool) *Ahead {
	return &Ahead{Store: s, split: direct.NewSplitter(), layers: map[digest.Digest]*early{}, off: !may}
}

// Close throws away what nobody took.
func (a *Ahead) Close(ctx context.Context) {
	a.work.Wait()
	for _, l := range a.layers {
		a.remove(ctx, l)
	}
}

func (a *Ahead) remove(ctx context.Context, l *early) { a.discard(ctx, []*layer{&l.layer}) }

// WriteBlob is Store's.
func (a *Ahead) WriteBlob(ctx context.Context, r io.Reader, want ocispec.Descriptor, labels map[string]string) (ocispec.Descriptor, error) {
	if want.Size < aheadFrom {
		return a.writeSmall(ctx, r, want, labels)
	}
	if want.Digest != "" && a.Has(ctx, want.Digest) {
		return a.Store.WriteBlob(ctx, r, want, labels)
	}
	path := filepath.Join(a.incomingDir(), strconv.FormatUint(ingestSeq.Add(1), 36))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return want, err
	}
	f, err := direct.Create(path)
	if err != nil {
		return want, fmt.Errorf("create blob: %w", err)
	}
	defer func() {
		f.Close()
		_ = os.Remove(path) // it has another name now, or is not wanted
	}()
	src := bufio.NewReaderSize(r, telling)
	readers := a.split.Readers(1)
	var l *early
	if head, _ := src.Peek(telling); a.worthwhile(ctx, head, want.Size) {
		readers = a.split.Readers(2)
		l = a.begin(ctx, readers[1])
	}
	got, err := a.write(ctx, f, src, readers, want)
	if err == nil {
		err = a.enter(ctx, path, got, labels)
	}
	if l != nil {
		a.keep(ctx, l, got, err)
	}
	return got, err
}

// writeSmall writes a document. The configuration of an image for another platform says that layers of the archive are not
// for this host.
func (a *Ahead) writeSmall(ctx context.Context, r io.Reader, want ocispec.Descriptor, labels map[string]string) (ocispec.Descriptor, error) {
	b, err := io.ReadAll(io.LimitReader(r, aheadFrom))
	if err != nil {
		return want, err
	}
	var doc ocispec.Image
	if len(b) > 0 && b[0] == '{' && json.Unmarshal(b, &doc) == nil && doc.Architecture != "" && doc.Architecture != "unknown" && !platforms.Default().Match(doc.Platform) {
		a.mu.Lock()
		a.off = true
		a.mu.Unlock()
	}
	return a.Store.WriteBlob(ctx, io.MultiReader(bytes.NewReader(b), r), want, labels)
}

// worthwhile tells from a blob's first bytes and its size whether to unpack it.
func (a *Ahead) worthwhile(ctx context.Context, head []byte, size int64) bool {
	switch compression.Detect(head) {
	case compression.Gzip, compression.Zstd:
	case compression.None:
		if len(head) < 512 || string(head[257:262]) != "ustar" {
			return false
		}
	default:
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.off && !a.known(ctx, head, size)
}

// known tells whether a blob seems to be here already, its layer unpacked. The caller holds mu.
func (a *Ahead) known(ctx context.Context, head []byte, size int64) bool {
	if a.here == nil {
		a.here = map[int64][]digest.Digest{}
		err := a.content.Walk(ctx, func(i content.Info) error {
			a.here[i.Size] = append(a.here[i.Size], i.Digest)
			return nil
		})
		a.off = err != nil // what is broken shows elsewhere
	}
	return a.off || slices.ContainsFunc(a.here[size], func(d digest.Digest) bool {
		f, err := os.Open(a.BlobPath(d))
		if err != nil {
			return false
		}
		defer f.Close()
		own := make([]byte, len(head))
		_, err = io.ReadFull(f, own)
		return err == nil && bytes.Equal(own, head)
	})
}

// begin unpacks what a reader gives.
func (a *Ahead) begin(ctx context.Context, r *direct.Reader) *early {
	l := &early{layer: layer{store: a.Store}, done: make(chan struct{})}
	a.work.Go(func() {
		l.err = l.prepare(ctx, "early")
		if l.err == nil {
			l.err = l.apply(ctx, r)
		}
		r.Close()
		close(l.done)
		if l.err == nil { // while the next layer comes; there is less to wait for at the end
			if err := a.persist(); err != nil {
				a.mu.Lock()
				a.lost = err
				a.mu.Unlock()
			}
		}
	})
	return l
}

// settled waits for what is under way, and tells whether some of it may not be on disk: the kernel tells an error once.
func (a *Ahead) settled() error {
	if a == nil {
		return nil
	}
	a.work.Wait()
	return a.lost
}

// write writes a blob's bytes, and feeds the other readers.
func (a *Ahead) write(ctx context.Context, f *direct.File, src io.Reader, readers []*direct.Reader, want ocispec.Descriptor) (ocispec.Descriptor, error) {
	alg := digest.Canonical
	if want.Digest != "" {
		alg = want.Digest.Algorithm()
	}
	digester := alg.Digester()
	got := want
	got.Size = 0
	var failed atomic.Bool
	var writing sync.WaitGroup
	var err error
	writing.Go(func() {
		err = readers[0].Each(func(b []byte) error {
			digester.Hash().Write(b)
			n, err := f.Write(b)
			got.Size += int64(n)
			failed.Store(err != nil)
			return err
		})
	})
	ferr := a.split.Feed(ctx, src, readers, failed.Load)
	writing.Wait()
	got.Digest = digester.Digest()
	switch {
	case failed.Load():
		return want, fmt.Errorf("write blob: %w", err)
	case ferr != nil:
		return want, ferr
	case got.Size != want.Size:
		return want, fmt.Errorf("blob %s: %d bytes instead of %d: %w", want.Digest, got.Size, want.Size, errdefs.ErrInvalidArgument)
	case want.Digest != "" && got.Digest != want.Digest:
		return want, fmt.Errorf("unexpected digest %s, expected %s: %w", got.Digest, want.Digest, errdefs.ErrFailedPrecondition)
	}
	return got, f.Finish()
}

// enter makes a file that is whole and on disk a blob.
func (a *Ahead) enter(ctx context.Context, path string, d ocispec.Descriptor, labels map[string]string) error {
	linked, err := a.LinkBlob(ctx, path, d, labels)
	if err != nil || linked {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = a.Store.WriteBlob(ctx, f, d, labels)
	return errors.Join(err, f.Close())
}

// keep notes a layer by its blob, or throws it away.
func (a *Ahead) keep(ctx context.Context, l *early, blob ocispec.Descriptor, err error) {
	l.blob = blob
	if err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.layers[blob.Digest] == nil {
			a.layers[blob.Digest] = l
			return
		}
	}
	<-l.done // its reader is at the end
	a.remove(ctx, l)
}

// give hands a layer that was unpacked early over to one that has to be unpacked. False says that there is none, or none that will do.
func (a *Ahead) give(ctx context.Context, to *layer) (bool, error) {
	if a == nil {
		return false, nil
	}
	a.mu.Lock()
	l := a.layers[to.blob.Digest]
	a.mu.Unlock()
	if l == nil {
		return false, nil
	}
	select {
	case <-l.done:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	a.mu.Lock()
	mine := a.layers[to.blob.Digest] == l // an image may have one layer twice
	delete(a.layers, to.blob.Digest)
	a.mu.Unlock()
	if !mine {
		return false, nil
	}
	diff := l.diff
	if diff == "" { // it is not compressed
		diff = l.blob.Digest
	}
	if l.err != nil || diff != to.diff || to.base && l.whiteouts {
		a.remove(ctx, l)
		return false, nil
	}
	to.key, to.root, to.bare = l.key, l.root, l.bare
	return true, nil
}

// incomingDir is where files are written that become blobs.
func (s *Store) incomingDir() string { return filepath.Join(s.root, "content", "incoming") }
