// Package atomicfile replaces files so that a reader, a crash or a power cut sees the old content or the new one,
// never a mixture.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces path with data and returns when it is on the disk: the content, the name and the directory.
func Write(path string, data []byte, perm fs.FileMode) error {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// Replace is Write without waiting for the disk: it survives the death of the process but not a power cut, after which
// the file may be old, missing or empty.
func Replace(path string, data []byte, perm fs.FileMode) error {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.rename()
}

// File is a file that takes its name when it is committed.
type File struct {
	*os.File
	path string
	done bool
}

// Create opens a new file beside path. Close without Commit leaves path as it was.
func Create(path string, perm fs.FileMode) (*File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(perm); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &File{File: f, path: path}, nil
}

// Commit writes the content to the disk, gives the file its name and makes the name durable.
func (f *File) Commit() error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.rename(); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(f.path))
}

func (f *File) rename() error {
	if err := os.Rename(f.Name(), f.path); err != nil {
		return err
	}
	f.done = true
	return nil
}

// Close releases the file; one that was not committed disappears.
func (f *File) Close() error {
	err := f.File.Close()
	if !f.done {
		f.done = true
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// SyncDir makes names in a directory durable: created, renamed and removed ones.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
