// Package blobdisk keeps the registry's blobs as files of a local file system.
//
//	root/blobs/sha256/ab/abcdef…   one file per blob, sharded by the first two hexadecimal digits
//	root/uploads/ab/<key>          open uploads; a file's size is the upload's offset
//	root/intake/<random>           the log of small blobs (see intake.go)
//
// A blob's bytes are synced before they get their name by rename, and the directory is synced before the caller is told:
// what has a name is whole, and what was acknowledged survives a power cut. Small blobs are synced as records of a log
// instead. Deleting unlinks: open readers go on. A store has no background and needs no closing; Settle keeps its log short.
package blobdisk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"longshore/internal/base/atomicfile"
	"longshore/internal/core/blob"
)

// Store implements blob.Store and blob.Linker.
type Store struct {
	root    string
	uploads string
	intake  *intake

	// shards remembers the shard directories that exist durably: path -> struct{}.
	shards sync.Map
	// sessions holds the state of uploads that this process has written to: key -> *session.
	sessions sync.Map
}

var (
	_ blob.Store   = (*Store)(nil)
	_ blob.Linker  = (*Store)(nil)
	_ blob.Placed  = (*Store)(nil)
	_ blob.Settler = (*Store)(nil)
)

// New makes the directories below root if they are missing, and puts back what a power cut has taken from small blobs.
func New(root string) (*Store, error) {
	s := &Store{root: root, uploads: filepath.Join(root, "uploads"), intake: newIntake(filepath.Join(root, "intake"))}
	for _, dir := range []string{s.uploads, filepath.Join(root, "blobs", "sha256"), filepath.Join(root, "blobs", "sha512")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make blob store: %w", err)
		}
	}
	for _, dir := range []string{root, filepath.Join(root, "blobs")} {
		if err := atomicfile.SyncDir(dir); err != nil {
			return nil, fmt.Errorf("make blob store: %w", err)
		}
	}
	if err := errors.Join(s.spreadUploads(), s.recover()); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	return s, nil
}

// Place implements blob.Placed: device and inode of the root, since paths may lead through links and mounts.
func (s *Store) Place() string {
	var st unix.Stat_t
	if err := unix.Stat(s.root, &st); err != nil {
		return "file:" + s.root
	}
	return fmt.Sprintf("file:%d:%d", st.Dev, st.Ino)
}

// path is the file of a valid digest.
func (s *Store) path(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("blob %q: %w: %w", d, err, errdefs.ErrInvalidArgument)
	}
	hex := d.Encoded()
	return filepath.Join(s.root, "blobs", d.Algorithm().String(), hex[:2], hex), nil
}

// Stat implements blob.Store.
func (s *Store) Stat(_ context.Context, d digest.Digest) (blob.Info, error) {
	path, err := s.path(d)
	if err != nil {
		return blob.Info{}, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return blob.Info{}, classed("stat blob", d.String(), err)
	}
	return blob.Info{Digest: d, Size: fi.Size(), Modified: fi.ModTime()}, nil
}

// Open implements blob.Store; Content.File is always set.
func (s *Store) Open(_ context.Context, d digest.Digest) (blob.Content, error) {
	path, err := s.path(d)
	if err != nil {
		return blob.Content{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return blob.Content{}, classed("open blob", d.String(), err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return blob.Content{}, fmt.Errorf("open blob %s: %w", d, err)
	}
	return blob.Content{ReadSeekCloser: f, Size: fi.Size(), File: f}, nil
}

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, d digest.Digest, size int64, r io.Reader) (blob.Info, error) {
	if _, err := s.path(d); err != nil {
		return blob.Info{}, err
	}
	f, err := s.temporary()
	if err != nil {
		return blob.Info{}, fmt.Errorf("put blob %s: %w", d, err)
	}
	defer unix.Unlink(f.Name()) //nolint:errcheck // gone already when all went well
	defer f.Close()
	h := d.Algorithm().Hash()
	n, err := receive(ctx, f, h, r)
	if err != nil {
		return blob.Info{}, fmt.Errorf("put blob %s: %w", d, err)
	}
	if size >= 0 && n != size {
		return blob.Info{}, fmt.Errorf("put blob %s: %d bytes instead of %d: %w", d, n, size, errdefs.ErrOutOfRange)
	}
	if got := digest.NewDigest(d.Algorithm(), h); got != d {
		return blob.Info{}, fmt.Errorf("put blob %s: the bytes have %s: %w", d, got, errdefs.ErrInvalidArgument)
	}
	return s.seal(f, d)
}

// seal makes a complete, verified file a blob.
func (s *Store) seal(f *os.File, d digest.Digest) (blob.Info, error) {
	fi, err := f.Stat()
	if err != nil {
		return blob.Info{}, fmt.Errorf("seal blob %s: %w", d, err)
	}
	move := func(path string) error { return os.Rename(f.Name(), path) }
	if fi.Size() <= smallBlob {
		if placed, err := s.log(f, d, fi.Size()); err == nil {
			defer placed()
			return s.place(d, fi, move, makeDir)
		} // else as if it were large, with errors that are this blob's own
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return blob.Info{}, fmt.Errorf("sync blob %s: %w", d, err)
	}
	return s.placeSynced(d, fi, move)
}

// log writes a small blob to the log.
func (s *Store) log(f *os.File, d digest.Digest, size int64) (placed func(), err error) {
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err != nil && size > 0 {
		return nil, err
	}
	return s.intake.add(d, data)
}

// placeSynced is place, durable when it returns.
func (s *Store) placeSynced(d digest.Digest, fi fs.FileInfo, move func(path string) error) (blob.Info, error) {
	info, err := s.place(d, fi, move, s.shard)
	if err != nil {
		return info, err
	}
	path, err := s.path(d)
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return blob.Info{}, fmt.Errorf("place blob %s: %w", d, err)
	}
	return info, nil
}

// place gives the bytes described by fi, which are on the disk or in the log, the blob's name by way of move. A blob that
// is there already stays: its file may be shared with the engine. mkdir makes the directory when it is not there.
func (s *Store) place(d digest.Digest, fi fs.FileInfo, move, mkdir func(path string) error) (blob.Info, error) {
	path, err := s.path(d)
	if err != nil {
		return blob.Info{}, err
	}
	if err := mkdir(filepath.Dir(path)); err != nil {
		return blob.Info{}, fmt.Errorf("place blob %s: %w", d, err)
	}
	if old, err := os.Stat(path); err == nil && old.Size() == fi.Size() {
		fi = old
	} else if err := move(path); err != nil {
		return blob.Info{}, fmt.Errorf("place blob %s: %w", d, err)
	}
	return blob.Info{Digest: d, Size: fi.Size(), Modified: fi.ModTime()}, nil
}

// shard makes a shard directory durable once.
func (s *Store) shard(dir string) error {
	if _, ok := s.shards.Load(dir); ok {
		return nil
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	s.shards.Store(dir, struct{}{})
	return nil
}

// makeDir makes a directory unless it is there.
func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Delete implements blob.Store. The unlinking is not synced: a file that a power cut brings back has no row in the
// index and goes with the next sweep.
func (s *Store) Delete(_ context.Context, d digest.Digest) error {
	path, err := s.path(d)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete blob %s: %w", d, err)
	}
	return nil
}

// Walk implements blob.Store.
func (s *Store) Walk(ctx context.Context, fn func(blob.Info) error) error {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		shards, err := os.ReadDir(filepath.Join(s.root, "blobs", alg.String()))
		if err != nil {
			return fmt.Errorf("walk blobs: %w", err)
		}
		for _, shard := range shards {
			if err := s.walkShard(ctx, alg, shard.Name(), fn); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) walkShard(ctx context.Context, alg digest.Algorithm, shard string, fn func(blob.Info) error) error {
	entries, err := os.ReadDir(filepath.Join(s.root, "blobs", alg.String(), shard))
	if err != nil {
		return fmt.Errorf("walk blobs: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		d := digest.NewDigestFromEncoded(alg, e.Name())
		fi, err := e.Info()
		if err != nil || d.Validate() != nil {
			continue // deleted meanwhile, or not ours
		}
		if err := fn(blob.Info{Digest: d, Size: fi.Size(), Modified: fi.ModTime()}); err != nil {
			return err
		}
	}
	return nil
}

// classed wraps a file error with the contract's class.
func classed(what, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s %s: %w", what, name, errdefs.ErrNotFound)
	}
	return fmt.Errorf("%s %s: %w", what, name, err)
}
