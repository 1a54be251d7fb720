package ctdstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/base/atomicfile"
)

// BlobPath is where a blob's file lies when the store has it: containerd's local content store below the data root. The
// file may be read or hard-linked, never written.
func (s *Store) BlobPath(d digest.Digest) string {
	return filepath.Join(s.root, "content", "blobs", d.Algorithm().String(), d.Encoded())
}

// LinkBlob takes the file at path as blob want, with labels, under the context's lease, by hard link: no byte is copied
// and none is hashed. The caller vouches that the file has the digest (its store has verified it) and is never written to
// again. Digest and Size of want must be set. False without an error says that it cannot be linked: copy it then.
func (s *Store) LinkBlob(ctx context.Context, path string, want ocispec.Descriptor, labels map[string]string) (bool, error) {
	fi, err := os.Lstat(path)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != want.Size || want.Digest.Validate() != nil {
		return false, nil
	}
	if err := linkDurably(path, s.BlobPath(want.Digest)); err != nil {
		s.log.Debug("blob is not linked", "digest", want.Digest, "error", err)
		return false, nil
	}
	// The file has no row yet. Opening a writer for its digest finds it, and holds it from then on; if the garbage
	// collector was faster the writer is an empty one, and nothing has happened.
	ref := "link-" + want.Digest.String() + "-" + strconv.FormatUint(ingestSeq.Add(1), 36)
	w, err := s.content.Writer(ctx, content.WithRef(ref), content.WithDescriptor(want))
	if errdefs.IsAlreadyExists(err) {
		_, err = s.keepBlob(ctx, want, labels)
		return err == nil, err
	}
	if err != nil {
		return false, fmt.Errorf("open blob writer: %w", err)
	}
	if w.Digest() != want.Digest {
		return false, s.drop(ctx, w, ref)
	}
	err = w.Commit(ctx, want.Size, want.Digest, content.WithLabels(labels))
	if err == nil {
		return true, w.Close()
	}
	derr := s.drop(ctx, w, ref)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.keepBlob(ctx, want, labels)
		return err == nil, err
	}
	return false, errors.Join(fmt.Errorf("commit blob: %w", err), derr)
}

// linkDurably links and syncs the directory; a name that is there already is as good.
func linkDurably(from, to string) error {
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Link(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return atomicfile.SyncDir(dir)
}
