package blobdisk_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
	"longshore/internal/core/blob/blobtest"
	"longshore/internal/driver/blobdisk"
)

func open(t testing.TB, dir string) *blobdisk.Store {
	t.Helper()
	s, err := blobdisk.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blobtest.Rig {
		dir := t.TempDir()
		return blobtest.Rig{
			Store:     open(t, dir),
			Reopen:    func() blob.Store { return open(t, dir) },
			Leftovers: func() int { return len(files(t, filepath.Join(dir, "uploads"))) },
			Big:       1 << 20,
		}
	})
}

// files lists the files below a directory.
func files(t testing.TB, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestFile: the content is a file, for sendfile.
func TestFile(t *testing.T) {
	s := open(t, t.TempDir())
	data := []byte("layer")
	d := digest.FromBytes(data)
	if _, err := s.Put(context.Background(), d, -1, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	c, err := s.Open(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.File == nil {
		t.Fatal("no file")
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Ino
}

// TestLinkIn: no byte moves on one file system, and the store's name outlives the source's.
func TestLinkIn(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "store"))
	data := []byte("a layer of the engine")
	d := digest.FromBytes(data)
	source := filepath.Join(dir, "ingested")
	if err := os.WriteFile(source, data, 0o444); err != nil {
		t.Fatal(err)
	}
	for range 2 { // idempotent
		info, err := s.LinkIn(context.Background(), d, source)
		if err != nil || info.Size != int64(len(data)) || info.Digest != d {
			t.Fatal(info, err)
		}
	}
	path, err := s.PathOf(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	if inode(t, path) != inode(t, source) {
		t.Fatal("the bytes were copied")
	}
	if err := os.Remove(source); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
}

// TestLinkInCopies where no link can be made: another file system.
func TestLinkInCopies(t *testing.T) {
	s := open(t, t.TempDir())
	shm, err := os.MkdirTemp("/dev/shm", "ls")
	if err != nil {
		t.Skip("no /dev/shm: " + err.Error())
	}
	defer os.RemoveAll(shm)
	data := []byte("elsewhere")
	source := filepath.Join(shm, "blob")
	if err := os.WriteFile(source, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LinkIn(context.Background(), digest.FromBytes(data), source); err != nil {
		t.Fatal(err)
	}
	path, err := s.PathOf(context.Background(), digest.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
	if _, err := s.LinkIn(context.Background(), digest.FromString("other"), source); !errdefs.IsInvalidArgument(err) {
		t.Fatalf("a copy is verified: %v", err)
	}
}

// TestLinkInRefuses what is no file of bytes.
func TestLinkInRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "store"))
	d := digest.FromString("x")
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "fifo", "absent", "store"} {
		if _, err := s.LinkIn(context.Background(), d, filepath.Join(dir, name)); err == nil {
			t.Fatalf("%s was taken", name)
		}
	}
	if _, err := s.PathOf(context.Background(), d); !errdefs.IsNotFound(err) {
		t.Fatalf("got %v", err)
	}
}

// TestTornFileIsReplaced: a file with a blob's name and another size (left by a broken file system) does not win over a
// verified upload.
func TestTornFileIsReplaced(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	data := []byte("the whole blob")
	d := digest.FromBytes(data)
	path := filepath.Join(dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:3], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(context.Background(), d, -1, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, data) {
		t.Fatalf("got %q", got)
	}
}
