package images

import (
	"archive/tar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLoadToRootFS(t *testing.T) {
	r := newRig(t, Config{})
	ctx := t.Context()
	second := tarOf(t, file{name: "etc/.wh.motd"}, file{name: "bin/hello", kind: tar.TypeSymlink, link: "busybox"})
	out := r.load(t, savedArchive(t, []string{"busybox:test"}, map[string]string{"a": "b"}, busyboxLayer(t), second))
	if want := `{"stream":"Loaded image: busybox:test\n"}`; len(out) != 1 || out[0] != want {
		t.Fatalf("load said %v, want %s", out, want)
	}
	list, err := r.List(ctx, ListOptions{SharedSize: true, Manifests: true})
	if err != nil || len(list) != 1 || !slices.Equal(list[0].RepoTags, []string{"busybox:test"}) {
		t.Fatalf("list: %v %+v", err, list)
	}
	ins, err := r.Inspect(ctx, "busybox:test", InspectOptions{})
	if err != nil || ins.Size == 0 || ins.ID != list[0].ID || ins.Config.Cmd[0] != "/bin/sh" {
		t.Fatalf("inspect: %v %+v", err, ins)
	}
	for _, ref := range []string{"busybox:test", ins.ID, ins.ID[7:19], ins.Descriptor.Digest.Encoded()[:6]} {
		img, err := r.Resolve(ctx, ref, nil)
		if err != nil || img.ID.String() != ins.ID {
			t.Fatalf("resolve %q: %v %v", ref, err, img.ID)
		}
	}
	img, _ := r.Resolve(ctx, "busybox:test", nil)
	if err := r.Prepare(ctx, "c1", img); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "m")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.Mount(ctx, "c1", target); err != nil {
		t.Fatal(err)
	}
	defer r.Unmount(ctx, target)
	if _, err := os.Stat(filepath.Join(target, "bin/busybox")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(target, "etc/motd")); !os.IsNotExist(err) {
		t.Errorf("deleted file is there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(target, "etc/new"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	changes, err := r.Changes(ctx, "c1")
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, c := range changes {
		text = append(text, c.Kind.String()+" "+c.Path)
	}
	if got := strings.Join(text, ","); got != "C /etc,A /etc/new" {
		t.Errorf("changes: %s", got)
	}
}

func BenchmarkResolve(b *testing.B) {
	r := newRig(b, Config{})
	r.load(b, savedArchive(b, []string{"busybox:test"}, nil, busyboxLayer(b)))
	for b.Loop() {
		if _, err := r.Resolve(b.Context(), "busybox:test", nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPrepareMount(b *testing.B) {
	r := newRig(b, Config{})
	r.load(b, savedArchive(b, []string{"busybox:test"}, nil, busyboxLayer(b)))
	img, err := r.Resolve(b.Context(), "busybox:test", nil)
	if err != nil {
		b.Fatal(err)
	}
	target := b.TempDir()
	for b.Loop() {
		if err := r.Prepare(b.Context(), "c", img); err != nil {
			b.Fatal(err)
		}
		if err := r.Mount(b.Context(), "c", target); err != nil {
			b.Fatal(err)
		}
		if err := r.Unmount(b.Context(), target); err != nil {
			b.Fatal(err)
		}
		if err := r.Service.Remove(b.Context(), "c"); err != nil {
			b.Fatal(err)
		}
	}
}
