package ctdstore

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// noise is what nothing compresses, other for each seed.
func noise(seed string, n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(b)
	return string(b)
}

func gzipped(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(b)
	_ = w.Close()
	return z.Bytes()
}

// ahead stores layers as an archive's, under a lease, and gives what Unpack needs.
func ahead(ctx context.Context, t testing.TB, a *Ahead, layers ...[]byte) Layers {
	t.Helper()
	l := Layers{Ahead: a}
	for _, b := range layers {
		d, err := a.WriteBlob(ctx, bytes.NewReader(b), ocispec.Descriptor{Size: int64(len(b))}, nil)
		if err != nil || d.Digest != digest.FromBytes(b) || d.Size != int64(len(b)) {
			t.Fatalf("%+v %v", d, err)
		}
		l.Blobs = append(l.Blobs, d)
		if b[0] == 0x1f {
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if b, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		l.DiffIDs = append(l.DiffIDs, digest.FromBytes(b))
	}
	var err error
	if l.Config, err = a.WriteBytes(ctx, "config", []byte("config of "+l.ChainID().String()), nil); err != nil {
		t.Fatal(err)
	}
	return l
}

// early snapshots that are there, and all that are there.
func snapshotNames(t testing.TB, s *Store) (early, all int) {
	t.Helper()
	err := s.snaps.Walk(t.Context(), func(_ context.Context, i snapshots.Info) error {
		all++
		if strings.HasSuffix(i.Name, "-early") {
			early++
		}
		return nil
	})
	if err != nil && !errdefs.IsNotFound(err) {
		t.Fatal(err)
	}
	return early, all
}

// TestAhead: what was unpacked while its blob was written is the image's layer, plain, compressed, or twice in it; what cannot be
// used is unpacked from the blob; and nothing else stays.
func TestAhead(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	ctx, release, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	big := func(name string) entry { return entry{name: name, body: noise(name, 2<<20)} }
	base := layerOf(t, big("base"), entry{name: "gone", body: "x"}, entry{name: ".wh.gone"}, entry{name: "d/", kind: tar.TypeDir, mode: 0o701}, entry{name: "hidden", body: "h"})
	second := layerOf(t, big("second"), entry{name: "d/two", body: "2"}, entry{name: ".wh.hidden"})
	third := gzipped(layerOf(t, big("third"), entry{name: "d/three", body: "3"}))
	unused, broken := layerOf(t, big("unused")), layerOf(t, big("broken"), entry{name: "tail", body: noise("x", 1<<20)})
	copy(broken[len(broken)-4096:], bytes.Repeat([]byte("#"), 4096)) // no header of anything
	copy(broken[2<<20+512:], bytes.Repeat([]byte("#"), 512))

	a := s.Ahead(true)
	l := ahead(ctx, t, a, base, second, third, second)
	for _, b := range [][]byte{unused, []byte(noise("no archive", 2<<20)), broken, second} {
		if d, err := a.WriteBlob(ctx, bytes.NewReader(b), ocispec.Descriptor{Size: int64(len(b)), Digest: digest.FromBytes(b)}, map[string]string{"k": "v"}); err != nil || !s.Has(ctx, d.Digest) {
			t.Fatal(err)
		}
	}
	if len(a.layers) != 5 { // base, second, third, unused, broken
		t.Errorf("%d layers are unpacked early", len(a.layers))
	}
	a.work.Wait()
	kept := a.layers[l.Blobs[2].Digest].root
	if err := s.Unpack(ctx, l); err != nil {
		t.Fatal(err)
	}
	if dir, err := s.directory(ctx, identityOf(l, 3)); err != nil || dir != kept {
		t.Errorf("the third layer is %s, unpacked early was %s: %v", dir, kept, err)
	}
	a.Close(ctx)
	if early, all := snapshotNames(t, s); early != 0 || all != 4 {
		t.Errorf("%d early snapshots of %d are left", early, all)
	}
	dir := mountOf(t, s, "c", l)
	for path, want := range map[string]string{"base": noise("base", 2<<20), "second": noise("second", 2<<20), "third": noise("third", 2<<20), "d/two": "2", "d/three": "3", "gone": "", "hidden": "", ".wh.gone": ""} {
		b, err := os.ReadFile(filepath.Join(dir, path))
		if string(b) != want || (want == "") != errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %d bytes, %v", path, len(b), err)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, "d")); err != nil || fi.Mode().Perm() != 0o701 {
		t.Errorf("a directory that the base describes: %v %v", fi, err)
	}
	if left, _ := os.ReadDir(s.incomingDir()); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
	// What is here already is not unpacked again, and one of the same size that is not here is.
	a = s.Ahead(true)
	defer a.Close(ctx)
	ahead(ctx, t, a, base, second, layerOf(t, entry{name: "other2", body: noise("other2", 2<<20)}, entry{name: "d/two", body: "2"}, entry{name: ".wh.hidden"}))
	if len(a.layers) != 1 {
		t.Errorf("%d layers of a second load are unpacked early, want 1", len(a.layers))
	}
}

func identityOf(l Layers, n int) string {
	return Layers{DiffIDs: append([]digest.Digest(nil), l.DiffIDs[:n]...)}.ChainID().String()
}

// TestAheadFails: a stream that breaks, another digest or size than was said, a disk that does not sync: no blob, no layer, no leftover.
func TestAheadFails(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	ctx, release, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	b := layerOf(t, entry{name: "f", body: noise("f", 3<<20)})
	size, other := int64(len(b)), digest.FromString("other")
	lost := errors.New("lost")
	ended, end := context.WithCancel(ctx)
	end()
	for name, c := range map[string]struct {
		ctx  context.Context
		r    io.Reader
		want ocispec.Descriptor
		is   error
	}{
		"breaks":       {ctx, io.MultiReader(bytes.NewReader(b[:2<<20]), iotest.ErrReader(lost)), ocispec.Descriptor{Size: size}, lost},
		"short":        {ctx, bytes.NewReader(b[:2<<20]), ocispec.Descriptor{Size: size}, errdefs.ErrInvalidArgument},
		"other digest": {ctx, bytes.NewReader(b), ocispec.Descriptor{Size: size, Digest: other}, errdefs.ErrFailedPrecondition},
		"nobody there": {ended, bytes.NewReader(b), ocispec.Descriptor{Size: size}, context.Canceled},
	} {
		a := s.Ahead(true)
		if _, err := a.WriteBlob(c.ctx, c.r, c.want, nil); !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
		a.Close(ctx)
		early, _ := snapshotNames(t, s)
		left, _ := os.ReadDir(s.incomingDir())
		if early != 0 || len(left) != 0 || s.Has(ctx, digest.FromBytes(b)) {
			t.Errorf("%s: %d early snapshots and %d files are left", name, early, len(left))
		}
	}
	a := s.Ahead(true)
	var syncs atomic.Int32
	s.sync = func(dir string) error {
		if syncs.Add(1) == 1 { // the kernel tells an error once
			return unix.EIO
		}
		return syncfs(dir)
	}
	l := ahead(ctx, t, a, b)
	if err := s.Unpack(ctx, l); !errors.Is(err, unix.EIO) || s.Unpacked(ctx, l.ChainID()) {
		t.Errorf("files that are not on disk: %v", err)
	}
	a.Close(ctx)
	if early, _ := snapshotNames(t, s); early != 0 {
		t.Errorf("%d early snapshots are left", early)
	}
}

// TestAheadOfOthers: layers of an archive that has an image for another platform are left alone from then on.
func TestAheadOfOthers(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	ctx, release, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	never := s.Ahead(false)
	defer never.Close(ctx)
	if ahead(ctx, t, never, layerOf(t, entry{name: "never", body: noise("never", 1<<20)})); len(never.layers) != 0 {
		t.Error("a layer is unpacked early although it may not be")
	}
	a := s.Ahead(true)
	defer a.Close(ctx)
	for i, doc := range []string{`{"architecture":"unknown","os":"unknown"}`, `{"architecture":"s390x","os":"linux","rootfs":{}}`} {
		d, err := a.WriteBlob(ctx, strings.NewReader(doc), ocispec.Descriptor{Size: int64(len(doc))}, nil)
		if err != nil || d.Digest != digest.FromString(doc) {
			t.Fatal(err)
		}
		ahead(ctx, t, a, layerOf(t, entry{name: doc[:20], body: noise(doc, 1<<20)}))
		if len(a.layers) != 1 {
			t.Errorf("after document %d: %d layers are unpacked early", i, len(a.layers))
		}
	}
}
