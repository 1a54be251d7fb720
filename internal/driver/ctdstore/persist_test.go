package ctdstore

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// TestLayersAreSynced: a layer's files are put on disk once they are all written and before there is a record that says
// so, once for all layers of an image; a layer that cannot be put there is not recorded.
func TestLayersAreSynced(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	s := open(t, root)
	syncs, written, recorded := 0, "", "" // when there is a sync, that file must be there and that snapshot must not
	s.sync = func(dir string) error {
		syncs++
		if dir != filepath.Join(root, "snapshots") {
			t.Errorf("sync of %s", dir)
		}
		if found, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "fs*", written)); err != nil || len(found) == 0 {
			t.Errorf("%s was not written before the sync: %v", written, err)
		}
		if _, err := s.snaps.Stat(context.Background(), recorded); !errdefs.IsNotFound(err) {
			t.Errorf("%s was recorded before the sync: %v", recorded, err)
		}
		return syncfs(dir)
	}
	step := func(what string, want int, do func() error) {
		t.Helper()
		syncs = 0
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if syncs != want {
			t.Errorf("%s: %d syncs, want %d", what, syncs, want)
		}
	}
	bottom, middle := layerOf(t, entry{name: "dir/", kind: tar.TypeDir, mode: 0o700}, entry{name: "dir/one", body: "1"}), layerOf(t, entry{name: "two", body: "2"})
	first := put(t, s, bottom, middle, layerOf(t, entry{name: "dir/three", body: "3"}))
	second := put(t, s, bottom, middle, layerOf(t, entry{name: "dir/four", body: "4"}))

	written, recorded = "dir/three", first.ChainID().String()
	step("unpack three layers", 1, func() error { return s.Unpack(t.Context(), first) })
	step("unpack them again", 0, func() error { return s.Unpack(t.Context(), first) })
	written, recorded = "dir/four", second.ChainID().String()
	step("unpack the one that is new", 1, func() error { return s.Unpack(t.Context(), second) })

	written, recorded = ".dockerenv", "init-"+first.ChainID().String()
	step("first container", 1, func() error { return s.PrepareRootFS(t.Context(), "c1", first.Config.Digest, first.ChainID()) })
	step("second container", 0, func() error { return s.PrepareRootFS(t.Context(), "c2", first.Config.Digest, first.ChainID()) })

	written, recorded = "built", "step"
	step("a build's step", 1, func() error {
		mounts, err := s.Snapshotter().Prepare(t.Context(), "building", first.ChainID().String())
		if err != nil {
			return err
		}
		upper, err := upperDir(mounts)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(upper, "built"), []byte("b"), 0o600); err != nil {
			return err
		}
		return s.Snapshotter().Commit(t.Context(), "step", "building")
	})

	lost, err := s.directory(t.Context(), second.ChainID().String())
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(lost, "dir")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("a directory that lower layers describe: %v %v", fi, err)
	}
	if err := os.RemoveAll(lost); err != nil {
		t.Fatal(err)
	}
	second.Fetched = func(context.Context, int) error { return nil }
	written, recorded = "dir/four", "none"
	step("mend a layer", 1, func() error { return s.Unpack(t.Context(), second) })
	if fi, err := os.Stat(filepath.Join(lost, "dir")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mended: %v %v", fi, err)
	}

	third := put(t, s, bottom, layerOf(t, entry{name: "five", body: "5"}))
	s.sync = func(string) error { return unix.EIO }
	if err := s.Unpack(t.Context(), third); !errors.Is(err, unix.EIO) || s.Unpacked(t.Context(), third.ChainID()) {
		t.Errorf("a layer that is not on disk: %v, recorded: %v", err, s.Unpacked(t.Context(), third.ChainID()))
	}
}

// TestSyncFS: the error of a file system that is not there is told.
func TestSyncFS(t *testing.T) {
	if err := syncfs(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := syncfs(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
