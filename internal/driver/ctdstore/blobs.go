package ctdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ingestSeq tells concurrent writers of one blob apart.
var ingestSeq atomic.Uint64

// WriteBlob stores what r gives, with labels, under the context's lease. Digest and Size of want are checked when they
// are set (a mismatch is ErrFailedPrecondition or ErrInvalidArgument); the descriptor that comes back has them filled.
// A blob that is there already is kept, and takes on the labels.
func (s *Store) WriteBlob(ctx context.Context, r io.Reader, want ocispec.Descriptor, labels map[string]string) (ocispec.Descriptor, error) {
	ref := "ingest-" + want.Digest.String() + "-" + strconv.FormatUint(ingestSeq.Add(1), 36)
	w, err := s.content.Writer(ctx, content.WithRef(ref), content.WithDescriptor(want))
	if errdefs.IsAlreadyExists(err) {
		return s.keepBlob(ctx, want, labels)
	}
	if err != nil {
		return want, fmt.Errorf("open blob writer: %w", err)
	}
	n, err := fill(w, r, want)
	if err == nil && want.Size > 0 && n != want.Size {
		err = fmt.Errorf("blob %s: %d bytes instead of %d: %w", want.Digest, n, want.Size, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return want, errors.Join(err, s.drop(ctx, w, ref))
	}
	got := want
	got.Size, got.Digest = n, w.Digest()
	err = w.Commit(ctx, n, want.Digest, content.WithLabels(labels))
	if err == nil {
		return got, w.Close()
	}
	derr := s.drop(ctx, w, ref)
	if errdefs.IsAlreadyExists(err) {
		return s.keepBlob(ctx, got, labels)
	}
	return want, errors.Join(fmt.Errorf("commit blob: %w", err), derr)
}

// fill writes a blob's bytes. A writer that has the digest before anything was written stands for bytes that are on the
// disk already, for another namespace: only the row is missing, and what is written would be added to them.
func fill(w content.Writer, r io.Reader, want ocispec.Descriptor) (int64, error) {
	if want.Digest == "" || w.Digest() != want.Digest {
		return copyBlob(w, r)
	}
	st, err := w.Status()
	return st.Offset, err
}

// drop abandons a half-written blob even when the context is done.
func (s *Store) drop(ctx context.Context, w content.Writer, ref string) error {
	_ = w.Close() // an abandoned file; Abort removes it
	if err := s.content.Abort(context.WithoutCancel(ctx), ref); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("abort ingest: %w", err)
	}
	return nil
}

func (s *Store) keepBlob(ctx context.Context, d ocispec.Descriptor, labels map[string]string) (ocispec.Descriptor, error) {
	info, err := s.content.Info(ctx, d.Digest)
	if err != nil {
		return d, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	d.Size = info.Size
	if err := s.Hold(ctx, d.Digest); err != nil {
		return d, err
	}
	return d, s.Label(ctx, d.Digest, labels)
}

// WriteBytes stores a small blob and gives its descriptor.
func (s *Store) WriteBytes(ctx context.Context, mediaType string, b []byte, labels map[string]string) (ocispec.Descriptor, error) {
	want := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return s.WriteBlob(ctx, bytes.NewReader(b), want, labels)
}

// Label sets labels on a blob, leaving its others.
func (s *Store) Label(ctx context.Context, d digest.Digest, labels map[string]string) error {
	if len(labels) == 0 {
		return nil
	}
	info, err := s.content.Info(ctx, d)
	if err != nil {
		return fmt.Errorf("label blob %s: %w", d, err)
	}
	var paths []string
	for k, v := range labels {
		if info.Labels[k] != v {
			paths = append(paths, "labels."+k)
		}
	}
	if len(paths) == 0 {
		return nil
	}
	if _, err := s.content.Update(ctx, content.Info{Digest: d, Labels: labels}, paths...); err != nil {
		return fmt.Errorf("label blob %s: %w", d, err)
	}
	return nil
}

// ReadBytes reads a whole blob of at most limit bytes.
func (s *Store) ReadBytes(ctx context.Context, d ocispec.Descriptor, limit int64) ([]byte, error) {
	ra, err := s.content.ReaderAt(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d.Digest, err)
	}
	defer ra.Close()
	if ra.Size() > limit {
		return nil, fmt.Errorf("blob %s is larger than %d bytes: %w", d.Digest, limit, errdefs.ErrOutOfRange)
	}
	b := make([]byte, ra.Size())
	if _, err := ra.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read blob %s: %w", d.Digest, err)
	}
	return b, nil
}

// Has tells whether a blob is stored.
func (s *Store) Has(ctx context.Context, d digest.Digest) bool {
	_, err := s.content.Info(ctx, d)
	return err == nil
}

const copyBuffer = 1 << 20

func copyBlob(w io.Writer, r io.Reader) (int64, error) {
	n, err := io.CopyBuffer(onlyWriter{w}, onlyReader{r}, make([]byte, copyBuffer))
	if err != nil {
		return n, fmt.Errorf("write blob: %w", err)
	}
	return n, nil
}

// onlyWriter and onlyReader hide ReadFrom and WriteTo, so that the big buffer is used.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }
