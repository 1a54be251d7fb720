package ctdstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

// upperLabel is where overlay's snapshotter tells the directory of a snapshot.
const upperLabel = "containerd.io/snapshot/overlay.upperdir"

// checkedBlob is the size in bytes up to which a blob's content is looked at to tell whether it is lost.
const checkedBlob = 1 << 20

// Forget drops a blob whose file is gone, of another size or, when it is small, of another content, so that it can be fetched again. It
// tells whether it did.
func (s *Store) Forget(ctx context.Context, d digest.Digest) (bool, error) {
	info, err := s.content.Info(ctx, d)
	if err != nil {
		return false, nil // not there at all
	}
	path := s.BlobPath(d)
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return false, err
	case st.Size() != info.Size:
	case st.Size() > checkedBlob:
		return false, nil
	default:
		b, err := os.ReadFile(path)
		if err != nil || d.Algorithm().FromBytes(b) == d {
			return false, err
		}
	}
	return true, s.forget(ctx, d, path)
}

func (s *Store) forget(ctx context.Context, d digest.Digest, path string) error {
	s.log.Warn("a blob was lost or damaged and is forgotten", "digest", d)
	if err := s.content.Delete(ctx, d); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("forget blob %s: %w", d, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// blame looks whether a layer could not be unpacked because its blob is damaged, and forgets it then.
func (s *Store) blame(ctx context.Context, d digest.Digest, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	path := s.BlobPath(d)
	f, oerr := os.Open(path)
	if oerr != nil {
		return err
	}
	defer f.Close()
	if got, rerr := d.Algorithm().FromReader(f); rerr != nil || got == d {
		return err
	}
	return errors.Join(fmt.Errorf("blob %s was damaged, it can be pulled again now: %w", d, err), s.forget(context.WithoutCancel(ctx), d, path))
}

// mend unpacks layers again whose directories are gone, in their places, so that what is on top of them has them back.
func (s *Store) mend(ctx context.Context, l Layers) error {
	var lowers []string // topmost first
	for i, chain := range identity.ChainIDs(append([]digest.Digest(nil), l.DiffIDs...)) {
		dir, err := s.directory(ctx, chain.String())
		if err != nil || dir == "" {
			return err
		}
		err = s.restore(dir, func(fresh string) error {
			s.log.Warn("a layer was lost and is unpacked again", "digest", l.Blobs[i].Digest)
			if err := l.Fetched(ctx, i); err != nil {
				return err
			}
			again := &layer{store: s, blob: l.Blobs[i], diff: l.DiffIDs[i], base: i == 0, root: fresh}
			if err := again.fill(ctx); err != nil {
				return err
			}
			return again.inherit(lowers)
		})
		if err != nil {
			return fmt.Errorf("mend layer %s: %w", l.Blobs[i].Digest, err)
		}
		lowers = append([]string{dir}, lowers...)
	}
	dir, err := s.directory(ctx, "init-"+l.ChainID().String())
	if err != nil || dir == "" {
		return err
	}
	return s.restore(dir, func(fresh string) error { return writeBaseFiles(fresh, lowers) })
}

// directory is where a snapshot's files are; empty when there is no such snapshot.
func (s *Store) directory(ctx context.Context, name string) (string, error) {
	info, err := s.snaps.Stat(ctx, name)
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	return info.Labels[upperLabel], err
}

// restore fills a directory that is gone; it is there again when it is whole and on disk.
func (s *Store) restore(dir string, fill func(fresh string) error) error {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	fresh := dir + ".mending"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(fresh), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return err
	}
	err := fill(fresh)
	if err == nil {
		err = s.persist()
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return os.Rename(fresh, dir)
}
