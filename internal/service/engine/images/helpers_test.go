package images

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/events"
	digest "github.com/opencontainers/go-digest"

	"longshore/internal/driver/ctdstore"
)

// recorder keeps published events.
type recorder struct {
	mu   sync.Mutex
	list []events.Message
}

func (r *recorder) Publish(_ context.Context, m events.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, m)
}

func (r *recorder) actions() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, m := range r.list {
		out = append(out, string(m.Action))
	}
	return out
}

type rig struct {
	*Service
	store  *ctdstore.Store
	events *recorder
	root   string
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: overlayfs, device files and owners")
	}
}

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	needRoot(t)
	return openRig(t, t.TempDir(), cfg)
}

func openRig(t testing.TB, root string, cfg Config) *rig {
	t.Helper()
	store, err := ctdstore.Open(t.Context(), root, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	rec := &recorder{}
	svc, err := New(store, testClient(t), rec, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{svc, store, rec, root}
}

// file is an entry of a test archive.
type file struct {
	name string
	body []byte
	mode int64
	kind byte
	link string
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body)), Typeflag: f.kind, Linkname: f.link}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// busyboxLayer is a layer with a static busybox, or with a text where there is none.
func busyboxLayer(t testing.TB) []byte {
	t.Helper()
	bin, err := os.ReadFile("/bin/busybox")
	if err != nil {
		bin = []byte("no busybox here")
	}
	return tarOf(t, file{name: "bin/", kind: tar.TypeDir, mode: 0o755},
		file{name: "bin/busybox", body: bin, mode: 0o755},
		file{name: "bin/sh", kind: tar.TypeSymlink, link: "busybox"},
		file{name: "etc/", kind: tar.TypeDir, mode: 0o755},
		file{name: "etc/motd", body: []byte("hello\n")})
}

// savedArchive is an archive of docker save with the given layers.
func savedArchive(t testing.TB, tags []string, labels map[string]string, layers ...[]byte) []byte {
	t.Helper()
	var diffs []digest.Digest
	var files []file
	var names []string
	for _, l := range layers {
		d := digest.FromBytes(l)
		diffs = append(diffs, d)
		names = append(names, d.Encoded()+"/layer.tar")
		files = append(files, file{name: d.Encoded() + "/layer.tar", body: l})
	}
	config := mustJSON(t, map[string]any{
		"architecture": "amd64", "os": "linux", "created": "2024-05-06T07:08:09Z",
		"config": map[string]any{"Cmd": []string{"/bin/sh"}, "Env": []string{"PATH=/bin"}, "Labels": labels},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
		"history": []map[string]any{
			{"created": "2024-05-06T07:08:08Z", "created_by": "ADD rootfs"},
			{"created": "2024-05-06T07:08:09Z", "created_by": "CMD sh", "empty_layer": true},
		},
	})
	name := digest.FromBytes(config).Encoded() + ".json"
	files = append(files, file{name: name, body: config}, file{name: "manifest.json", body: mustJSON(t, []map[string]any{
		{"Config": name, "RepoTags": tags, "Layers": names},
	})})
	return tarOf(t, files...)
}

func (r *rig) load(t testing.TB, archive []byte) []string {
	t.Helper()
	var out []string
	err := r.Load(t.Context(), bytes.NewReader(archive), nil, collect(t, &out))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// collect gathers what a client would see, as JSON lines.
func collect(t testing.TB, out *[]string) Emit {
	var mu sync.Mutex
	return func(v any) error {
		mu.Lock()
		defer mu.Unlock()
		*out = append(*out, string(mustJSON(t, v)))
		return nil
	}
}
