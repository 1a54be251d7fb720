package containerfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

func TestPartOfAVolume(t *testing.T) {
	d := disk(t)
	must(t, d.Make("c1"))
	vol := filepath.Join(t.TempDir(), "vol")
	must(t, os.MkdirAll(filepath.Join(vol, "a/b"), 0o755))
	must(t, os.WriteFile(filepath.Join(vol, "a/b/f"), []byte("x"), 0o600))
	must(t, os.Symlink("a", filepath.Join(vol, "inner")))
	must(t, os.Symlink("/etc", filepath.Join(vol, "outer")))
	must(t, os.Symlink("../..", filepath.Join(vol, "up")))

	for i, sub := range []string{"a/b", "inner/b"} {
		p, err := d.BindBelow("c1", i, vol, sub)
		must(t, err)
		if b, err := os.ReadFile(filepath.Join(p, "f")); err != nil || string(b) != "x" {
			t.Errorf("%s: %s %v", sub, b, err)
		}
	}
	file, err := d.BindBelow("c1", 0, vol, "a/b/f") // the same place, now for a file
	must(t, err)
	if b, err := os.ReadFile(filepath.Join(filepath.Dir(file), "0-part")); err != nil || string(b) != "x" {
		t.Errorf("file: %s %v", b, err)
	}
	for _, sub := range []string{"outer", "outer/passwd", "up", "a/../../.."} {
		if _, err := d.BindBelow("c1", 2, vol, sub); !errors.Is(err, errEscapes) {
			t.Errorf("%s leads out of the volume: %v", sub, err)
		}
	}
	if _, err := d.BindBelow("c1", 2, vol, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	must(t, d.ClearPlaces("c1"))
	must(t, d.ClearPlaces("c1"))
	must(t, d.Delete("c1"))
	if b, err := os.ReadFile(filepath.Join(vol, "a/b/f")); err != nil || string(b) != "x" {
		t.Errorf("the volume lost its file: %s %v", b, err)
	}
}

// TestRace swaps the directory for a link to the host's root while it is being mounted.
func TestRace(t *testing.T) {
	d := disk(t)
	must(t, d.Make("c1"))
	vol := filepath.Join(t.TempDir(), "vol")
	must(t, os.MkdirAll(filepath.Join(vol, "good/sub"), 0o755))
	must(t, os.Mkdir(filepath.Join(vol, "good/sub/mine"), 0o755))
	must(t, os.Symlink("/", filepath.Join(vol, "evil")))
	must(t, os.Symlink("good", filepath.Join(vol, "d")))
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i++ {
			target := [2]string{"good", "evil"}[i%2]
			_ = os.Symlink(target, filepath.Join(vol, "next"))
			_ = os.Rename(filepath.Join(vol, "next"), filepath.Join(vol, "d"))
		}
	}()
	for range 300 {
		p, err := d.BindBelow("c1", 0, vol, "d/sub")
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(p, "mine")); err != nil {
			t.Fatalf("something else was mounted: %v", err)
		}
	}
	stop.Store(true)
	<-done
	must(t, d.ClearPlaces("c1"))
}

func TestDeleteClearsPlaces(t *testing.T) {
	d := disk(t)
	must(t, d.Make("c1"))
	vol := t.TempDir()
	must(t, os.WriteFile(filepath.Join(vol, "keep"), nil, 0o600))
	_, err := d.BindBelow("c1", 0, vol, ".")
	must(t, err)
	must(t, d.Delete("c1"))
	if _, err := os.Stat(filepath.Join(vol, "keep")); err != nil {
		t.Fatal(err)
	}
}
