// Package volumetest is the conformance suite of volume.Volumes: every implementation runs it.
package volumetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"longshore/internal/core/volume"
)

// Run checks the implementation that open makes; each subtest gets an empty one.
func Run(t *testing.T, open func(t *testing.T) volume.Volumes) {
	for name, test := range map[string]func(*testing.T, volume.Volumes){
		"ensure":     ensure,
		"anonymous":  anonymous,
		"release":    release,
		"mount":      mount,
		"names":      names,
		"driver":     driver,
		"concurrent": concurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func ensure(t *testing.T, s volume.Volumes) {
	ctx := t.Context()
	o := volume.CreateOptions{Name: "data", Labels: map[string]string{"a": "b"}}
	v, created, err := s.Ensure(ctx, o, "c1")
	if err != nil || !created {
		t.Fatal(created, err)
	}
	if v.Name != "data" || v.Driver != "local" || v.Labels["a"] != "b" || v.Anonymous || v.CreatedAt.IsZero() || !filepath.IsAbs(v.Mountpoint) {
		t.Fatalf("%+v", v)
	}
	if st, err := os.Stat(v.Mountpoint); err != nil || !st.IsDir() {
		t.Fatal(err)
	}
	for _, ref := range []string{"c1", "c2"} {
		again, created, err := s.Ensure(ctx, volume.CreateOptions{Name: "data"}, ref)
		if err != nil || created || again.Mountpoint != v.Mountpoint || again.Labels["a"] != "b" {
			t.Fatalf("%+v %v %v", again, created, err)
		}
	}
}

func anonymous(t *testing.T, s volume.Volumes) {
	ctx := t.Context()
	v, created, err := s.Ensure(ctx, volume.CreateOptions{}, "c1")
	if err != nil || !created || !v.Anonymous || len(v.Name) != 64 {
		t.Fatalf("%+v %v %v", v, created, err)
	}
	write(t, v)
	if _, _, err := s.Ensure(ctx, volume.CreateOptions{Name: v.Name}, "c2"); err != nil {
		t.Fatal(err)
	}
	must(t, s.Release(ctx, v.Name, "c1", true))
	exists(t, v, true)
	must(t, s.Release(ctx, v.Name, "c2", true))
	exists(t, v, false)
	must(t, s.Release(ctx, v.Name, "c2", true))
}

func release(t *testing.T, s volume.Volumes) {
	ctx := t.Context()
	named, _, err := s.Ensure(ctx, volume.CreateOptions{Name: "named"}, "c1")
	must(t, err)
	must(t, s.Release(ctx, "named", "c1", true))
	exists(t, named, true)
	kept, _, err := s.Ensure(ctx, volume.CreateOptions{}, "c1")
	must(t, err)
	must(t, s.Release(ctx, kept.Name, "c1", false))
	exists(t, kept, true)
	must(t, s.Release(ctx, "never", "c1", true))
}

func mount(t *testing.T, s volume.Volumes) {
	ctx := t.Context()
	if _, err := s.Mount(ctx, "never", "c1"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatal(err)
	}
	v, _, err := s.Ensure(ctx, volume.CreateOptions{Name: "data"}, "c1")
	must(t, err)
	for range 2 {
		m, err := s.Mount(ctx, "data", "c1")
		if err != nil || m.Mountpoint != v.Mountpoint {
			t.Fatal(m, err)
		}
	}
	write(t, v)
	must(t, s.Unmount(ctx, "data", "c1"))
	must(t, s.Unmount(ctx, "data", "c1"))
	must(t, s.Unmount(ctx, "never", "c1"))
	exists(t, v, true)
}

func names(t *testing.T, s volume.Volumes) {
	for _, bad := range []string{"a", "../x", "a/b", "/abs", ".hid", "-x", "a b", "ä1", "x\x00", "..", "a\n"} {
		if _, _, err := s.Ensure(t.Context(), volume.CreateOptions{Name: bad}, "c1"); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{"ab", "A1", "0_", "x.y-z_1"} {
		if _, _, err := s.Ensure(t.Context(), volume.CreateOptions{Name: good}, "c1"); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func driver(t *testing.T, s volume.Volumes) {
	if _, _, err := s.Ensure(t.Context(), volume.CreateOptions{Name: "data", Driver: "nosuch"}, "c1"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatal(err)
	}
	if _, _, err := s.Ensure(t.Context(), volume.CreateOptions{Name: "data", Driver: "local"}, "c1"); err != nil {
		t.Fatal(err)
	}
}

// concurrent: of many who ask for one name exactly one creates it, whoever else comes and goes.
func concurrent(t *testing.T, s volume.Volumes) {
	ctx := t.Context()
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 20 {
		wg.Go(func() {
			ref := fmt.Sprint("c", i)
			_, created, err := s.Ensure(ctx, volume.CreateOptions{Name: "shared"}, ref)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			if created {
				made++
			}
			mu.Unlock()
			// An anonymous volume of everybody's, which the last one takes along, again and again.
			for range 5 {
				v, _, err := s.Ensure(ctx, volume.CreateOptions{Name: "passing", Anonymous: true}, ref)
				if err != nil {
					t.Error(err)
				}
				exists(t, v, true)
				if err := s.Release(ctx, "passing", ref, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Fatal("created", made, "times")
	}
}

func write(t *testing.T, v volume.Volume) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(v.Mountpoint, "f"), []byte("x"), 0o600))
}

func exists(t *testing.T, v volume.Volume, want bool) {
	t.Helper()
	if _, err := os.Stat(v.Mountpoint); (err == nil) != want {
		t.Errorf("volume %s: exists %v, want %v", v.Name, err == nil, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
