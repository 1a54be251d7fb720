package images

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/moby/api/types/container"
	imagetypes "github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"

	"longshore/internal/core/image"
)

func (r *rig) tags(t testing.TB, filters map[string][]string) []string {
	t.Helper()
	list, err := r.List(t.Context(), ListOptions{Filters: filters})
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, s := range list {
		if len(s.RepoTags) == 0 {
			out = append(out, "<none>")
		}
		out = append(out, s.RepoTags...)
	}
	slices.Sort(out)
	return out
}

func deleted(list []imagetypes.DeleteResponse) string {
	var out []string
	for _, d := range list {
		if d.Untagged != "" {
			out = append(out, "-"+d.Untagged)
		} else {
			out = append(out, "x"+d.Deleted[:7])
		}
	}
	return strings.Join(out, " ")
}

func TestTagAndRemove(t *testing.T) {
	running := map[string]bool{}
	r := newRig(t, Config{Container: func(id string) (User, bool) { return User{ID: id, Running: running[id], Ref: "a:1"}, true }})
	ctx := t.Context()
	r.load(t, savedArchive(t, []string{"a:1"}, nil, busyboxLayer(t)))
	img, err := r.Resolve(ctx, "a:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	id := img.ID.Encoded()[:12]
	for _, bad := range [][2]string{{"", ""}, {"A", "b"}, {"a", "b c"}, {"a@" + img.ID.String(), ""}, {"sha256", "x"}} {
		if err := r.Tag(ctx, "a:1", bad[0], bad[1]); !errdefs.IsInvalidArgument(err) {
			t.Errorf("tag %v: %v", bad, err)
		}
	}
	if err := r.Tag(ctx, "missing", "b", ""); !errdefs.IsNotFound(err) || err.Error() != "No such image: missing:latest" {
		t.Errorf("tag of nothing: %v", err)
	}
	if err := r.Tag(ctx, id, "b", "2"); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name  string
		setup func()
		ref   string
		opts  RemoveOptions
		want  string // what was deleted, or the error after "!"
	}{
		{"by ID with two repositories", nil, id, RemoveOptions{}, "!conflict: unable to delete " + id + " (must be forced) - image is referenced in multiple repositories"},
		{"one of two names", nil, "b:2", RemoveOptions{}, "-b:2"},
		{"used by a stopped container", func() { _ = r.Use(ctx, "c1234567890abcdef", img.ID) }, "a:1", RemoveOptions{},
			"!conflict: unable to delete a:1 (must be forced) - container c1234567890a is using its referenced image " + id},
		{"used, by ID", nil, id, RemoveOptions{}, "!conflict: unable to delete " + id + " (must be forced) - image is being used by stopped container c1234567890a"},
		{"used by a running container", func() { running["c1234567890abcdef"] = true }, id, RemoveOptions{Force: true},
			"!conflict: unable to delete " + id + " (cannot be forced) - image is being used by running container c1234567890a"},
		{"name of an image in use, forced", nil, "a:1", RemoveOptions{Force: true}, "-a:1"},
		{"now dangling", func() { _ = r.Drop(ctx, "c1234567890abcdef") }, id, RemoveOptions{}, "xsha256:"},
		{"gone", nil, id, RemoveOptions{}, "!No such image: " + id + ":latest"},
	}
	for _, s := range steps {
		if s.setup != nil {
			s.setup()
		}
		list, err := r.RemoveImage(ctx, s.ref, s.opts)
		got := deleted(list)
		if err != nil {
			got = "!" + err.Error()
		}
		if got != s.want {
			t.Errorf("%s: %s\nwant %s", s.name, got, s.want)
		}
	}
	if got := r.events.actions(); !slices.Equal(got, []string{"load", "tag", "untag", "untag", "delete"}) {
		t.Errorf("events %v", got)
	}
	if err := r.store.GarbageCollect(ctx); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, r.root); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

// blobs counts what is stored on disk.
func blobs(t testing.TB, root string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "content/blobs/sha256"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return len(entries)
}

func TestReplacedNameLeavesDangling(t *testing.T) {
	r := newRig(t, Config{})
	r.load(t, savedArchive(t, []string{"a:1"}, nil, busyboxLayer(t)))
	r.load(t, savedArchive(t, []string{"a:1"}, map[string]string{"new": "yes"}, busyboxLayer(t)))
	if got := r.tags(t, nil); !slices.Equal(got, []string{"<none>", "a:1"}) {
		t.Errorf("list %v", got)
	}
	for f, want := range map[string][]string{
		"dangling=true": {"<none>"}, "dangling=false": {"a:1"}, "label=new": {"a:1"}, "label=new=yes": {"a:1"}, "label=new=no": {},
		"label!=new": {"<none>"}, "reference=a": {"a:1"}, "reference=?:*": {"a:1"}, "reference=b": {}, "until=2020-01-01": {}, "until=1s,2020-01-01": {},
		"reference=docker.io/library/a": {"a:1"}, "reference=docker.io/library/*:1": {"a:1"}, "reference=docker.io/*": {}, "until=1h": {"<none>", "a:1"},
		"since=a:1": {}, "before=a:1": {},
	} {
		k, v, _ := strings.Cut(f, "=")
		if k == "label!" {
			k, v = "label!", "new"
		}
		if got := r.tags(t, map[string][]string{k: strings.Split(v, ",")}); !slices.Equal(got, want) {
			t.Errorf("filter %s: %v, want %v", f, got, want)
		}
	}
	for _, f := range []string{"nope=1", "dangling=maybe", "until=soon", "reference=[", "since=missing"} {
		k, v, _ := strings.Cut(f, "=")
		if _, err := r.List(t.Context(), ListOptions{Filters: map[string][]string{k: {v}}}); err == nil {
			t.Errorf("filter %s was taken", f)
		}
	}
	rep, err := r.Prune(t.Context(), nil)
	if err != nil || len(rep.ImagesDeleted) != 2 || rep.SpaceReclaimed == 0 {
		t.Errorf("prune: %+v %v", rep, err)
	}
	if got := r.tags(t, nil); !slices.Equal(got, []string{"a:1"}) {
		t.Errorf("after prune %v", got)
	}
	if rep, err = r.Prune(t.Context(), map[string][]string{"dangling": {"false"}, "label": {"other"}}); err != nil || len(rep.ImagesDeleted) != 0 {
		t.Errorf("prune by another label: %+v %v", rep, err)
	}
	if rep, err = r.Prune(t.Context(), map[string][]string{"dangling": {"false"}}); err != nil || len(r.tags(t, nil)) != 0 {
		t.Errorf("prune all: %+v %v", rep, err)
	}
	if _, err = r.Prune(t.Context(), map[string][]string{"reference": {"x"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("prune by reference: %v", err)
	}
}

func TestCompressedArchives(t *testing.T) {
	plain := savedArchive(t, []string{"a:1"}, nil, busyboxLayer(t))
	pack := func(f func(io.Writer) (io.WriteCloser, error)) []byte {
		var b bytes.Buffer
		w, err := f(&b)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(plain)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	archives := map[string][]byte{
		"gzip": pack(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }),
		"zstd": pack(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"xz":   pack(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
	}
	if bz, err := exec.LookPath("bzip2"); err == nil {
		cmd := exec.CommandContext(t.Context(), bz, "-c", "-1")
		cmd.Stdin = bytes.NewReader(plain)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		archives["bzip2"] = out
	}
	for name, b := range archives {
		r := newRig(t, Config{})
		r.load(t, b)
		if got := r.tags(t, nil); !slices.Equal(got, []string{"a:1"}) {
			t.Errorf("%s: %v", name, got)
		}
		var out []string
		if err := r.Load(t.Context(), bytes.NewReader(b[:len(b)/2]), nil, collect(t, &out)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("half a %s archive: %v", name, err)
		}
	}
}

func TestSaveAndLoadKeepTheDigest(t *testing.T) {
	a, b := newRig(t, Config{}), newRig(t, Config{})
	a.load(t, savedArchive(t, []string{"a:1", "b:2"}, nil, busyboxLayer(t)))
	a.load(t, savedArchive(t, []string{"a:2"}, map[string]string{"x": "y"}, busyboxLayer(t)))
	save := func(names ...string) []byte {
		v, err := a.Save(t.Context(), names, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		var buf bytes.Buffer
		if err := v.Write(t.Context(), &buf); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	out := b.load(t, save("a", "b:2"))
	if len(out) != 3 || !slices.Equal(b.tags(t, nil), []string{"a:1", "a:2", "b:2"}) {
		t.Errorf("loaded %v", out)
	}
	for _, n := range []string{"a:1", "a:2"} {
		x, _ := a.Resolve(t.Context(), n, nil)
		y, err := b.Resolve(t.Context(), n, nil)
		if err != nil || x.ID != y.ID {
			t.Errorf("%s: %s became %s: %v", n, x.ID, y.ID, err)
		}
	}
	img, _ := a.Resolve(t.Context(), "a:1", nil)
	c := newRig(t, Config{})
	if out := c.load(t, save(img.ID.Encoded()[:12])); len(out) != 1 || !strings.Contains(out[0], "Loaded image ID: sha256:") {
		t.Errorf("saved by ID: %v", out)
	}
	if _, err := a.Save(t.Context(), []string{"nope"}, nil); !errdefs.IsNotFound(err) {
		t.Errorf("save of nothing: %v", err)
	}
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(file, save("a:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if sk, err := exec.LookPath("skopeo"); err == nil {
		for _, kind := range []string{"docker-archive:", "oci-archive:"} {
			got, err := exec.CommandContext(t.Context(), sk, "inspect", kind+file).CombinedOutput()
			if err != nil || !strings.Contains(string(got), `"linux"`) {
				t.Errorf("skopeo %s: %v\n%s", kind, err, got)
			}
		}
	}
}

func TestLegacyArchive(t *testing.T) {
	layer := busyboxLayer(t)
	second := tarOf(t, file{name: "etc/x", body: []byte("x")})
	b := tarOf(t,
		file{name: "aaa/", kind: tar.TypeDir, mode: 0o755}, file{name: "aaa/VERSION", body: []byte("1.0")},
		file{name: "aaa/json", body: []byte(`{"id":"aaa","created":"2014-01-01T00:00:00Z","container_config":{"Cmd":"add"}}`)}, file{name: "aaa/layer.tar", body: layer},
		file{name: "bbb/VERSION", body: []byte("1.0")},
		file{name: "bbb/json", body: []byte(`{"id":"bbb","parent":"aaa","created":"2014-01-02T00:00:00Z","os":"linux","architecture":"amd64","config":{"Cmd":["/bin/sh"],"Env":["A=b"]},"container_config":{"Cmd":["touch","x"]}}`)},
		file{name: "bbb/layer.tar", body: second},
		file{name: "repositories", body: []byte(`{"old":{"1.0":"bbb","2.0":"bbb"}}`)})
	r := newRig(t, Config{})
	r.load(t, b)
	img, err := r.Resolve(t.Context(), "old:2.0", nil)
	if err != nil || img.Config.Config.Env[0] != "A=b" || len(img.Config.RootFS.DiffIDs) != 2 {
		t.Fatalf("%+v %v", img, err)
	}
	h, err := r.History(t.Context(), "old:1.0", nil)
	if err != nil || len(h) != 2 || h[0].CreatedBy != "touch x" || h[1].CreatedBy != "add" || !slices.Equal(h[0].Tags, []string{"old:1.0", "old:2.0"}) {
		t.Errorf("history %+v %v", h, err)
	}
}

func TestBadArchivesLeaveNothing(t *testing.T) {
	layer := busyboxLayer(t)
	wrong := savedArchive(t, []string{"a:1"}, nil, layer)
	config := []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`)
	cases := map[string][]byte{
		"empty":          nil,
		"no archive":     []byte("hello"),
		"nothing known":  tarOf(t, file{name: "x", body: []byte("y")}),
		"missing config": tarOf(t, file{name: "manifest.json", body: []byte(`[{"Config":"c.json","Layers":[]}]`)}),
		"missing layer":  tarOf(t, file{name: "c.json", body: config}, file{name: "manifest.json", body: []byte(`[{"Config":"c.json","Layers":["l"]}]`)}),
		"layer count":    tarOf(t, file{name: "c.json", body: config}, file{name: "manifest.json", body: []byte(`[{"Config":"c.json","Layers":[]}]`)}),
		"diff ID":        tarOf(t, file{name: "l", body: layer}, file{name: "c.json", body: config}, file{name: "manifest.json", body: []byte(`[{"Config":"c.json","Layers":["l"]}]`)}),
		"tag":            tarOf(t, file{name: "c.json", body: []byte(`{"rootfs":{}}`)}, file{name: "manifest.json", body: []byte(`[{"Config":"c.json","RepoTags":["A B"],"Layers":[]}]`)}),
		"blob digest":    tarOf(t, file{name: "oci-layout", body: []byte(`{"imageLayoutVersion":"1.0.0"}`)}, file{name: "blobs/sha256/" + strings.Repeat("0", 64), body: []byte("x")}),
		"truncated":      wrong[:len(wrong)/2],
		"link loop":      tarOf(t, file{name: "l", kind: tar.TypeSymlink, link: "m"}, file{name: "m", kind: tar.TypeSymlink, link: "l"}, file{name: "manifest.json", body: []byte(`[{"Config":"l","Layers":[]}]`)}),
		"layout version": tarOf(t, file{name: "oci-layout", body: []byte(`{"imageLayoutVersion":"9"}`)}, file{name: "index.json", body: []byte(`{}`)}),
	}
	r := newRig(t, Config{})
	for name, b := range cases {
		var out []string
		err := r.Load(t.Context(), bytes.NewReader(b), nil, collect(t, &out))
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(r.cat.All()) != 0 {
		t.Error("a bad archive left an image")
	}
	if err := r.store.GarbageCollect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, r.root); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

func TestImport(t *testing.T) {
	r := newRig(t, Config{})
	layer := busyboxLayer(t)
	var gz bytes.Buffer
	zw := gzip.NewWriter(&gz)
	_, _ = zw.Write(layer)
	_ = zw.Close()
	for name, body := range map[string][]byte{"plain": layer, "gzip": gz.Bytes()} {
		var out []string
		err := r.Import(t.Context(), bytes.NewReader(body), ImportOptions{
			Source: "-", Repo: "imp", Tag: name, Message: "hi", Changes: []string{`CMD ["/bin/sh"]`, "ENV A=b", "EXPOSE 80"},
			Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"},
		}, collect(t, &out))
		if err != nil || len(out) != 1 || !strings.HasPrefix(out[0], `{"status":"sha256:`) {
			t.Fatalf("%s: %v %v", name, out, err)
		}
		ins, err := r.Inspect(t.Context(), "imp:"+name, InspectOptions{})
		if err != nil || ins.Comment != "hi" || ins.Config.Env[0] != "A=b" || len(ins.Config.ExposedPorts) != 1 || len(ins.RootFS.Layers) != 1 {
			t.Errorf("%s: %+v %v", name, ins, err)
		}
	}
	var out []string
	for _, o := range []ImportOptions{
		{Source: "-", Repo: "B@d"}, {Source: "-", Changes: []string{"RUN x"}}, {Source: "-", Changes: []string{"NOPE"}}, {Source: "ftp://x/y"},
	} {
		if err := r.Import(t.Context(), bytes.NewReader(layer), o, collect(t, &out)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if err := r.Import(t.Context(), strings.NewReader("no tar"), ImportOptions{Source: "-"}, collect(t, &out)); !errdefs.IsInvalidArgument(err) {
		t.Errorf("import of a text: %v", err)
	}
}

// source plays the containers' side of a commit.
type source struct {
	opts image.CommitOptions
	told []string
}

func (s *source) CommitSource(_ context.Context, ref string, _ bool, f func(image.CommitOptions) error) error {
	return f(s.opts)
}

func (s *source) Committed(_ context.Context, ref, comment, imageID, imageRef string) {
	s.told = append(s.told, ref, comment, imageRef)
}

func TestCommit(t *testing.T) {
	r := newRig(t, Config{})
	ctx := t.Context()
	r.load(t, savedArchive(t, []string{"a:1"}, map[string]string{"l": "1"}, busyboxLayer(t), tarOf(t, file{name: "old/", kind: tar.TypeDir, mode: 0o700}, file{name: "old/f", body: []byte("f")})))
	img, err := r.Resolve(ctx, "a:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Prepare(ctx, "c1", img); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := r.Mount(ctx, "c1", dir); err != nil {
		t.Fatal(err)
	}
	defer r.Unmount(ctx, dir)
	for _, step := range []error{
		os.WriteFile(filepath.Join(dir, "new"), []byte("n"), 0o600), os.Remove(filepath.Join(dir, "etc/motd")),
		os.RemoveAll(filepath.Join(dir, "old")), os.Mkdir(filepath.Join(dir, "old"), 0o755), os.WriteFile(filepath.Join(dir, "old/g"), nil, 0o600),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	src := &source{opts: image.CommitOptions{
		Key: "c1", Container: "c1", Parent: img.ID, ParentManifest: img.Manifest,
		Config: &container.Config{Cmd: []string{"/bin/sh"}, Env: []string{"A=1", "B=2"}, Labels: map[string]string{"l": "1"}, Image: "a:1", Hostname: "h"},
	}}
	id, err := r.CommitContainer(ctx, src, CommitRequest{
		Container: "c1", Repo: "made", Tag: "1", Comment: "why", Author: "me", Changes: []string{"ENV A=3", `ENTRYPOINT ["/bin/busybox"]`, "LABEL m=2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ins, err := r.Inspect(ctx, "made:1", InspectOptions{})
	if err != nil || ins.ID != id.String() || ins.Author != "me" || ins.Comment != "why" || len(ins.RootFS.Layers) != 3 {
		t.Fatalf("%+v %v", ins, err)
	}
	if c := ins.Config; !slices.Equal(c.Env, []string{"A=3", "B=2"}) || len(c.Cmd) != 0 || c.Entrypoint[0] != "/bin/busybox" || c.Labels["l"] != "1" || c.Labels["m"] != "2" {
		t.Errorf("config %+v", c)
	}
	if !slices.Equal(src.told, []string{"c1", "why", "made:1"}) {
		t.Errorf("container was told %v", src.told)
	}
	made, err := r.Resolve(ctx, "made:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Prepare(ctx, "c2", made); err != nil {
		t.Fatal(err)
	}
	dir2 := t.TempDir()
	if err := r.Mount(ctx, "c2", dir2); err != nil {
		t.Fatal(err)
	}
	defer r.Unmount(ctx, dir2)
	for path, there := range map[string]bool{"new": true, "etc/motd": false, "old/f": false, "old/g": true, "bin/busybox": true, ".dockerenv": true} {
		if _, err := os.Lstat(filepath.Join(dir2, path)); (err == nil) != there {
			t.Errorf("%s: %v", path, err)
		}
	}
	list, err := r.Changes(ctx, "c2")
	if err != nil || len(list) != 0 {
		t.Errorf("a fresh container has changes %v %v", list, err)
	}
	rw, all, err := r.Usage(ctx, "c1")
	if err != nil || rw <= 0 || all <= rw {
		t.Errorf("usage %d %d %v", rw, all, err)
	}
}

func TestEverythingSurvivesARestart(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	r := openRig(t, root, Config{})
	r.load(t, savedArchive(t, []string{"a:1"}, nil, busyboxLayer(t)))
	img, err := r.Resolve(t.Context(), "a:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Prepare(t.Context(), "keep", img); err != nil {
		t.Fatal(err)
	}
	// What a killed process leaves: a lease with half a blob and a whole one that nothing names.
	lctx, _, err := r.store.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.WriteBytes(lctx, "x", []byte("orphan"), nil); err != nil {
		t.Fatal(err)
	}
	before := blobs(t, root)
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	again := openRig(t, root, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- again.Run(ctx) }()
	for blobs(t, root) >= before && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := blobs(t, root); n != before-1 {
		t.Errorf("%d blobs, want %d", n, before-1)
	}
	same, err := again.Resolve(t.Context(), "a:1", nil)
	if err != nil || same.ID != img.ID {
		t.Fatalf("%v %v", same.ID, err)
	}
	dir := t.TempDir()
	if err := again.Mount(t.Context(), "keep", dir); err != nil {
		t.Fatal(err)
	}
	if err := again.Unmount(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
}

func TestMultiPlatform(t *testing.T) {
	r, b := newRig(t, Config{}), newRig(t, Config{})
	arch := map[string]string{"amd64": "", "arm64": "v8"}
	var index ocispec.Index
	index.SchemaVersion, index.MediaType = 2, ocispec.MediaTypeImageIndex
	var files []file
	put := func(media string, body []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: media, Digest: digest.FromBytes(body), Size: int64(len(body))}
		files = append(files, file{name: "blobs/sha256/" + d.Digest.Encoded(), body: body})
		return d
	}
	for _, a := range []string{"amd64", "arm64"} {
		layer := tarOf(t, file{name: "arch", body: []byte(a)})
		ld := put(ocispec.MediaTypeImageLayer, layer)
		cfg := put(ocispec.MediaTypeImageConfig, mustJSON(t, map[string]any{"os": "linux", "architecture": a, "variant": arch[a], "rootfs": map[string]any{"type": "layers", "diff_ids": []string{ld.Digest.String()}}}))
		m := put(ocispec.MediaTypeImageManifest, mustJSON(t, map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": cfg, "layers": []any{ld}}))
		m.Platform = &ocispec.Platform{OS: "linux", Architecture: a, Variant: arch[a]}
		index.Manifests = append(index.Manifests, m)
	}
	top := put(ocispec.MediaTypeImageIndex, mustJSON(t, index))
	top.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/multi:1"}
	files = append(files, file{name: "oci-layout", body: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		file{name: "index.json", body: mustJSON(t, map[string]any{"schemaVersion": 2, "manifests": []any{top}})})
	r.load(t, tarOf(t, files...))
	ins, err := r.Inspect(t.Context(), "multi:1", InspectOptions{Manifests: true})
	if err != nil || ins.ID != top.Digest.String() || len(ins.Manifests) != 2 {
		t.Fatalf("%+v %v", ins, err)
	}
	arm := &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	img, err := r.Resolve(t.Context(), "multi:1", arm)
	if err != nil || img.Config.Architecture != "arm64" {
		t.Errorf("%+v %v", img, err)
	}
	if _, err := r.Resolve(t.Context(), "multi:1", &ocispec.Platform{OS: "linux", Architecture: "s390x"}); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	p := newPeer(t, nil)
	if err := r.Tag(t.Context(), "multi:1", p.host+"/multi", "1"); err != nil {
		t.Fatal(err)
	}
	if err := r.Push(t.Context(), PushOptions{Image: p.host + "/multi", Tag: "1"}, func(any) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := b.Pull(t.Context(), PullOptions{Image: p.host + "/multi:1", Platform: arm}, func(any) error { return nil }); err != nil {
		t.Fatal(err)
	}
	got, err := b.Resolve(t.Context(), p.host+"/multi:1", nil)
	if err != nil || got.ID != top.Digest || got.Config.Architecture != "arm64" {
		t.Errorf("%+v %v", got, err)
	}
	err = b.Pull(t.Context(), PullOptions{Image: p.host + "/multi:1", Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}, func(any) error { return nil })
	if !errdefs.IsNotFound(err) || err.Error() != "no matching manifest for linux/s390x in the manifest list entries" {
		t.Errorf("%v", err)
	}
	v, err := r.Save(t.Context(), []string{"multi:1"}, []ocispec.Platform{*arm})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var buf bytes.Buffer
	if err := v.Write(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	c := newRig(t, Config{})
	c.load(t, buf.Bytes())
	if img, err := c.Resolve(t.Context(), "multi:1", arm); err != nil || img.ID != index.Manifests[1].Digest {
		t.Errorf("%v %v", img.ID, err)
	}
	list, err := r.RemoveImage(t.Context(), "multi:1", RemoveOptions{Force: true, Platforms: []ocispec.Platform{*arm}})
	if err != nil || len(list) != 1 || list[0].Deleted != index.Manifests[1].Digest.String() {
		t.Errorf("%v %v", list, err)
	}
	if _, err := r.Resolve(t.Context(), "multi:1", arm); err == nil {
		t.Error("removed platform is there")
	}
	if _, err := json.Marshal(list); err != nil {
		t.Error(err)
	}
}
