package blobdisk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"longshore/internal/core/blob"
)

// LinkIn implements blob.Linker.
func (s *Store) LinkIn(ctx context.Context, d digest.Digest, path string) (blob.Info, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return blob.Info{}, classed("link in", path, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return blob.Info{}, fmt.Errorf("link in %s: %w", path, err)
	}
	if !fi.Mode().IsRegular() {
		return blob.Info{}, fmt.Errorf("link in %s: not a regular file: %w", path, errdefs.ErrInvalidArgument)
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return blob.Info{}, fmt.Errorf("link in %s: %w", path, err)
	}
	info, err := s.placeSynced(d, fi, func(to string) error { return linkOver(path, to) })
	if cannotLink(err) {
		return s.Put(ctx, d, fi.Size(), f)
	}
	return info, err
}

// linkOver links, replacing what has the name already (a file of another size, left by a crash of the file system).
func linkOver(path, to string) error {
	err := os.Link(path, to)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(path, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// cannotLink: other file system, too many links, or a file system or a policy (protected_hardlinks) without links.
func cannotLink(err error) bool {
	for _, e := range []error{unix.EXDEV, unix.EMLINK, unix.EPERM, unix.EOPNOTSUPP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// PathOf implements blob.Linker. The file's bytes are synced: who links it cannot count on this store's log.
func (s *Store) PathOf(_ context.Context, d digest.Digest) (string, error) {
	path, err := s.path(d)
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", classed("open blob", d.String(), err)
	}
	defer f.Close()
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return "", fmt.Errorf("sync blob %s: %w", d, err)
	}
	return path, nil
}
