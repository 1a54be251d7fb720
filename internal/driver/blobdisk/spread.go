package blobdisk

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Files are made in the uploads' directories and stay where the file system has put them when they become blobs. ext4
// puts a file near its directory, and looks for a free inode there past all those that were deleted within the last
// minutes: after a collection of many blobs that takes a millisecond per file. So there are several directories, and
// ext4 is asked to put each elsewhere.

// shelves is the number of directories below uploads.
const shelves = 64

// shelfOf is the directory of an upload.
func shelfOf(key string) string {
	h := fnv.New32a()
	h.Write([]byte(key))
	return fmt.Sprintf("%02x", h.Sum32()%shelves)
}

// temporary makes a file for a blob that comes in one piece. The caller removes it by its name.
func (s *Store) temporary() (*os.File, error) {
	dir := filepath.Join(s.uploads, fmt.Sprintf("%02x", rand.IntN(shelves)))
	f, err := os.CreateTemp(dir, "put-*")
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(dir); err != nil {
			return nil, err
		}
		return os.CreateTemp(dir, "put-*")
	}
	return f, err
}

// topdir is ext4's mark of directories whose directories have nothing to do with each other (chattr +T).
const topdir = 0x00020000

// spreadUploads marks the uploads' directory, where the file system knows that, and moves uploads of older versions, which
// lay in it directly.
func (s *Store) spreadUploads() error {
	dir, err := os.Open(s.uploads)
	if err != nil {
		return err
	}
	defer dir.Close()
	if flags, err := unix.IoctlGetInt(int(dir.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&topdir == 0 {
		_ = unix.IoctlSetPointerInt(int(dir.Fd()), unix.FS_IOC_SETFLAGS, flags|topdir) // only a hint
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		to := filepath.Join(s.uploads, shelfOf(e.Name()))
		if err := errors.Join(makeDir(to), os.Rename(filepath.Join(s.uploads, e.Name()), filepath.Join(to, e.Name()))); err != nil {
			return err
		}
	}
	return nil
}
