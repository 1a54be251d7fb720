package ctdstore

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: overlayfs, device files and owners")
	}
}

func open(t testing.TB, root string) *Store {
	t.Helper()
	s, err := Open(t.Context(), root, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

type entry struct {
	name string
	kind byte
	mode int64
	uid  int
	body string
	link string
}

func layerOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Uid: e.uid, Size: int64(len(e.body)), Linkname: e.link, ModTime: time.Unix(1e9, 0)}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// put stores layers, every second one gzipped, and gives what Unpack needs.
func put(t testing.TB, s *Store, layers ...[]byte) Layers {
	t.Helper()
	var l Layers
	for i, b := range layers {
		l.DiffIDs = append(l.DiffIDs, digest.FromBytes(b))
		if i%2 == 1 {
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			_, _ = w.Write(b)
			_ = w.Close()
			b = z.Bytes()
		}
		d, err := s.WriteBytes(t.Context(), "layer", b, nil)
		if err != nil {
			t.Fatal(err)
		}
		l.Blobs = append(l.Blobs, d)
	}
	var err error
	if l.Config, err = s.WriteBytes(t.Context(), "config", []byte("config of "+l.ChainID().String()), nil); err != nil {
		t.Fatal(err)
	}
	return l
}

func mountOf(t testing.TB, s *Store, key string, l Layers) string {
	t.Helper()
	if err := s.PrepareRootFS(t.Context(), key, l.Config.Digest, l.ChainID()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := s.MountRootFS(t.Context(), key, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.UnmountRootFS(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestUnpackLikeOverlay(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	l := put(t, s,
		layerOf(t, entry{name: "a/", kind: tar.TypeDir, mode: 0o750, uid: 7}, entry{name: "a/b/", kind: tar.TypeDir, mode: 0o701, uid: 8},
			entry{name: "a/b/one", body: "1"}, entry{name: "gone", body: "x"}, entry{name: "dir/", kind: tar.TypeDir, mode: 0o755}, entry{name: "dir/old", body: "o"}),
		layerOf(t, entry{name: "a/b/two", body: "2"}, entry{name: ".wh.gone"}, entry{name: "dir/", kind: tar.TypeDir, mode: 0o755}, entry{name: "dir/.wh..wh..opq"}, entry{name: "dir/new", body: "n"}))
	if err := s.Unpack(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	dir := mountOf(t, s, "c", l)
	for path, want := range map[string]string{"a/b/one": "1", "a/b/two": "2", "gone": "", "dir/old": "", "dir/new": "n"} {
		b, err := os.ReadFile(filepath.Join(dir, path))
		if string(b) != want || (want == "") != errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %q %v", path, b, err)
		}
	}
	// Directories that only the base layer describes keep its metadata although the second layer unpacks into them.
	for path, mode := range map[string]os.FileMode{"a": 0o750, "a/b": 0o701} {
		fi, err := os.Stat(filepath.Join(dir, path))
		if err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", path, fi.Mode(), err)
		}
	}
	for _, path := range []string{".dockerenv", "etc/hosts", "proc", "dev/console"} {
		if _, err := os.Lstat(filepath.Join(dir, path)); err != nil {
			t.Error(err)
		}
	}
	if changes, err := s.Changes(t.Context(), "c"); err != nil || len(changes) != 0 {
		t.Errorf("changes of a fresh root filesystem: %v %v", changes, err)
	}
}

func TestUnpackRefusesBadLayers(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	good := layerOf(t, entry{name: "f", body: "f"})
	for name, spoil := range map[string]func(l *Layers){
		"diff ID":      func(l *Layers) { l.DiffIDs[1] = digest.FromString("other") },
		"missing blob": func(l *Layers) { l.Blobs[0].Digest = digest.FromString("other") },
		"layer count":  func(l *Layers) { l.DiffIDs = l.DiffIDs[:1] },
		"fetch fails":  func(l *Layers) { l.Fetched = func(context.Context, int) error { return io.ErrUnexpectedEOF } },
		"not a tarball": func(l *Layers) {
			l.Blobs[0], _ = s.WriteBytes(context.Background(), "x", []byte(strings.Repeat("junk", 300)), nil)
		},
	} {
		l := put(t, s, good, layerOf(t, entry{name: name}))
		spoil(&l)
		if err := s.Unpack(t.Context(), l); err == nil {
			t.Errorf("%s: unpacked", name)
		}
		if s.Unpacked(t.Context(), l.ChainID()) {
			t.Errorf("%s: snapshot is there", name)
		}
	}
	if err := s.GarbageCollect(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestHostileLayers checks that no layer writes outside its snapshot.
func TestHostileLayers(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	s := open(t, root)
	victim := filepath.Join(t.TempDir(), "victim")
	for i, l := range [][]entry{
		{{name: "../../../../../../../.." + victim, body: "x"}},
		{{name: "link", kind: tar.TypeSymlink, link: filepath.Dir(victim)}, {name: "link/victim", body: "x"}},
		{{name: "link", kind: tar.TypeSymlink, link: "../../../../../../.."}, {name: "link" + victim, body: "x"}},
		{{name: "hard", kind: tar.TypeLink, link: "../../../../../etc/passwd"}},
	} {
		layers := put(t, s, layerOf(t, entry{name: "base"}), layerOf(t, l...))
		_ = s.Unpack(t.Context(), layers) // refused, or kept inside
		if _, err := os.Lstat(victim); err == nil {
			t.Fatalf("layer %d escaped", i)
		}
	}
}

func TestUnpackIsShared(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	l := put(t, s, layerOf(t, entry{name: "f", body: "f"}))
	var began atomic.Int32
	l.Progress = func(_ int, done bool) {
		if !done {
			began.Add(1)
		}
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if err := s.Unpack(t.Context(), l); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := began.Load(); n != 1 {
		t.Errorf("unpacked %d times", n)
	}
}

func TestChangesAndDiff(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	l := put(t, s, layerOf(t, entry{name: "d/", kind: tar.TypeDir, mode: 0o755}, entry{name: "d/keep", body: "k"}, entry{name: "d/mod", body: "m"},
		entry{name: "d/del", body: "d"}, entry{name: "e/", kind: tar.TypeDir, mode: 0o755}, entry{name: "e/x", body: "x"}, entry{name: "e/y", body: "y"}))
	if err := s.Unpack(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	dir := mountOf(t, s, "c", l)
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "d/mod"), []byte("M"), 0o644), os.Remove(filepath.Join(dir, "d/del")), os.WriteFile(filepath.Join(dir, "d/add"), nil, 0o644),
		os.RemoveAll(filepath.Join(dir, "e")), os.Mkdir(filepath.Join(dir, "e"), 0o755), os.WriteFile(filepath.Join(dir, "e/x"), []byte("new"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Changes(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, c.Kind.String()+" "+c.Path)
	}
	want := []string{"modify /d", "add /d/add", "delete /d/del", "modify /d/mod", "modify /e", "modify /e/x", "delete /e/y"}
	if !slices.Equal(got, want) {
		t.Errorf("changes %v\nwant %v", got, want)
	}
	var diff bytes.Buffer
	if err := s.WriteDiff(t.Context(), "c", &diff); err != nil {
		t.Fatal(err)
	}
	both := put(t, s, layerOf(t, entry{name: "unused"}))
	both.Blobs, both.DiffIDs = l.Blobs, append(slices.Clone(l.DiffIDs), digest.FromBytes(diff.Bytes()))
	d, err := s.WriteBytes(t.Context(), "layer", diff.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	both.Blobs = append(slices.Clone(l.Blobs), d)
	if err := s.Unpack(t.Context(), both); err != nil {
		t.Fatal(err)
	}
	made := mountOf(t, s, "made", both)
	for path, want := range map[string]string{"d/keep": "k", "d/mod": "M", "d/del": "-", "d/add": "", "e/x": "new", "e/y": "-"} {
		b, err := os.ReadFile(filepath.Join(made, path))
		if errors.Is(err, os.ErrNotExist) {
			b = []byte("-")
		}
		if string(b) != want {
			t.Errorf("%s is %q, want %q", path, b, want)
		}
	}
}

func TestMountsAreIdempotent(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	l := put(t, s, layerOf(t, entry{name: "f", body: "f"}))
	if err := s.Unpack(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	dir := mountOf(t, s, "c", l)
	ctx := t.Context()
	for range 2 {
		if err := s.MountRootFS(ctx, "c", dir); err != nil {
			t.Error(err)
		}
		if err := s.PrepareRootFS(ctx, "c", l.Config.Digest, l.ChainID()); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := s.UnmountRootFS(dir); err != nil {
			t.Error(err)
		}
	}
	if mounted, _ := isMountPoint(dir); mounted {
		t.Error("still mounted")
	}
	for range 2 {
		if err := s.RemoveRootFS(ctx, "c"); err != nil {
			t.Error(err)
		}
	}
	if err := s.UnmountRootFS(filepath.Join(dir, "nothing")); err != nil {
		t.Error(err)
	}
	if err := s.MountRootFS(ctx, "c", dir); !errdefs.IsNotFound(err) {
		t.Errorf("mount of nothing: %v", err)
	}
}

func TestGarbage(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	ctx := t.Context()
	lctx, release, err := s.Lease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b := layerOf(t, entry{name: "f", body: "f"})
	d, err := s.WriteBytes(lctx, "layer", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := s.WriteBytes(lctx, "config", []byte("{}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := Layers{Config: config, Blobs: []ocispec.Descriptor{d}, DiffIDs: []digest.Digest{digest.FromBytes(b)}}
	if err := s.Unpack(lctx, l); err != nil {
		t.Fatal(err)
	}
	img := images.Image{Name: "x", Target: config}
	err = s.Update(ctx, func(ctx context.Context) error {
		_, err := s.Images().Create(ctx, img)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	release()
	if err := s.GarbageCollect(ctx); err != nil {
		t.Fatal(err)
	}
	if !s.Has(ctx, config.Digest) || s.Has(ctx, d.Digest) || !s.Unpacked(ctx, l.ChainID()) {
		t.Error("a named configuration must keep its snapshots, and nothing else")
	}
	if err := s.PrepareRootFS(ctx, "c", config.Digest, l.ChainID()); err != nil {
		t.Fatal(err)
	}
	if err := s.Images().Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if err := s.GarbageCollect(ctx); err != nil {
		t.Fatal(err)
	}
	if s.Has(ctx, config.Digest) || !s.Unpacked(ctx, l.ChainID()) {
		t.Error("a container must keep its snapshots without the image")
	}
	if err := s.RemoveRootFS(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if err := s.GarbageCollect(ctx); err != nil {
		t.Fatal(err)
	}
	if s.Unpacked(ctx, l.ChainID()) {
		t.Error("snapshots nobody needs are there")
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	d, err := s.WriteBytes(t.Context(), "x", []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	s.Watch(func(context.Context, string) { told++ })
	err = s.Update(t.Context(), func(ctx context.Context) error {
		if _, err := s.Images().Create(ctx, images.Image{Name: "a", Target: d}); err != nil {
			return err
		}
		return io.ErrUnexpectedEOF
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if list, err := s.Images().List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	if _, err := s.Images().Create(t.Context(), images.Image{Name: "a", Target: d}); err != nil || told != 1 {
		t.Errorf("told %d times, %v", told, err)
	}
}

func TestWriteBlobChecks(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	ctx := t.Context()
	for name, want := range map[string]ocispec.Descriptor{
		"digest": {Digest: digest.FromString("y"), Size: 1}, "size": {Digest: digest.FromString("x"), Size: 2},
	} {
		if _, err := s.WriteBlob(ctx, strings.NewReader("x"), want, nil); !errdefs.IsFailedPrecondition(err) && !errdefs.IsInvalidArgument(err) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
	if list, err := s.Content().ListStatuses(ctx); err != nil || len(list) != 0 {
		t.Errorf("half-written blobs are left: %v %v", list, err)
	}
	for range 2 {
		d, err := s.WriteBlob(ctx, strings.NewReader("x"), ocispec.Descriptor{}, map[string]string{"a": "b"})
		if err != nil || d.Digest != digest.FromString("x") || d.Size != 1 {
			t.Errorf("%v %v", d, err)
		}
	}
	if _, err := s.ReadBytes(ctx, ocispec.Descriptor{Digest: digest.FromString("x")}, 0); !errors.Is(err, errdefs.ErrOutOfRange) {
		t.Error(err)
	}
}

func TestSecondEngineIsRefused(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	open(t, root)
	if s, err := Open(t.Context(), root, slog.New(slog.DiscardHandler)); err == nil {
		_ = s.Close()
		t.Error("two stores on one root")
	}
}

// TestKilled kills a process while it writes and unpacks, several times, and checks that the store opens whole.

// TestSnapshotsOfADeadEngine: what the database has forgotten goes from the snapshotter too, after a restart.
func TestSnapshotsOfADeadEngine(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	s := open(t, root)
	if _, err := s.snaps.Prepare(t.Context(), "gone", ""); err != nil {
		t.Fatal(err)
	}
	if err := s.snaps.Remove(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, root)
	if n := snapshotsBehind(t, s); n != 1 {
		t.Fatalf("%d snapshots wait for a collection, want 1", n)
	}
	if err := s.suspectSnapshots(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.GarbageCollect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := snapshotsBehind(t, s); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
}

func snapshotsBehind(t *testing.T, s *Store) (n int) {
	t.Helper()
	err := s.backend.Walk(t.Context(), func(context.Context, snapshots.Info) error {
		n++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestKilled(t *testing.T) {
	needRoot(t)
	if root := os.Getenv("LONGSHORE_TEST_KILL"); root != "" {
		work(t, root)
		return
	}
	root := t.TempDir()
	for round := range 6 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "LONGSHORE_TEST_KILL="+root)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		seen := make([]byte, 1)
		for n := range 2 + round*3 { // a dot per image: the kill hits another instant in each round
			if _, err := io.ReadFull(out, seen); err != nil {
				t.Fatalf("child ended after %d images: %v", n, err)
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		survived(t, root)
	}
}

// work makes images until it is killed.
func work(t *testing.T, root string) {
	s := open(t, root)
	for i := 0; ; i++ {
		ctx, release, err := s.Lease(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var l Layers
		if a := s.Ahead(true); i%2 == 0 {
			l = put(t, s, layerOf(t, entry{name: "f", body: strings.Repeat("x", 100_000)}), layerOf(t, entry{name: "g", body: time.Now().String()}))
		} else {
			l = ahead(ctx, t, a, layerOf(t, entry{name: "h", body: time.Now().String() + strings.Repeat("y", 2<<20)}))
		}
		if err := s.Unpack(ctx, l); err != nil {
			t.Fatal(err)
		}
		err = s.Update(ctx, func(ctx context.Context) error {
			_, err := s.Images().Create(ctx, images.Image{Name: l.Config.Digest.String(), Target: l.Config})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		release()
		_, _ = os.Stdout.WriteString(".")
	}
}

// survived checks that every named image is whole, and that nothing but them is left after a collection.
func survived(t *testing.T, root string) {
	t.Helper()
	s, err := Open(t.Context(), root, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.GarbageCollect(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := s.Images().List(t.Context())
	if err != nil || len(list) == 0 {
		t.Fatalf("%d images: %v", len(list), err)
	}
	for _, img := range list {
		info, err := s.Content().Info(t.Context(), img.Target.Digest)
		if err != nil || !s.Unpacked(t.Context(), digest.Digest(info.Labels[snapshotLabel])) {
			t.Errorf("image %s is not whole: %v", img.Name, err)
		}
	}
	left, err := s.Leases().List(t.Context())
	if err != nil || len(left) != 0 {
		t.Errorf("%d leases are left: %v", len(left), err)
	}
	if st, err := s.Content().ListStatuses(t.Context()); err != nil || len(st) != 0 {
		t.Errorf("%d ingests are left: %v", len(st), err)
	}
	if st, _ := os.ReadDir(s.incomingDir()); len(st) != 0 {
		t.Errorf("%d half-written files are left", len(st))
	}
	if n := snapshotsBehind(t, s); n != 0 {
		_ = s.snaps.Walk(t.Context(), func(_ context.Context, i snapshots.Info) error {
			if i.Kind == snapshots.KindActive {
				t.Errorf("snapshot %s is left", i.Name)
			}
			return nil
		})
	}
	blobs, _ := os.ReadDir(filepath.Join(root, "content/blobs/sha256"))
	if len(blobs) != len(list) {
		t.Errorf("%d blobs for %d images", len(blobs), len(list))
	}
}

// A writer that died before the database knew of it leaves data that the next writer of its name would append to.
func TestNamelessIngestsAreSwept(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	left := filepath.Join(root, "content", "ingest", "0123")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "data"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, root)
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", left, err)
	}
}
