package registryv1

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"longshore/internal/boot/registryboot/registrytest"
	"longshore/test/harness"
)

func reference(t testing.TB, host, path string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(host+"/"+path, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pullV2 checks what it pulls: manifest, configuration, and that the layers have the digests that both say.
func pullV2(t testing.TB, host, path string) v1.Image {
	t.Helper()
	img, err := remote.Image(reference(t, host, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img, validate.Fast); err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != len(cfg.RootFS.DiffIDs) {
		t.Fatal(len(layers), cfg.RootFS.DiffIDs, err)
	}
	for n, l := range layers {
		if d := digest.FromBytes(contentOf(t, l)).String(); d != cfg.RootFS.DiffIDs[n].String() {
			t.Fatalf("layer %d has %s, the configuration says %s", n, d, cfg.RootFS.DiffIDs[n])
		}
	}
	return img
}

func pushV2(t testing.TB, host, path string, img v1.Image) {
	t.Helper()
	if err := remote.Write(reference(t, host, path), img); err != nil {
		t.Fatal(err)
	}
}

func unzip(t testing.TB, b []byte) []byte {
	t.Helper()
	if len(b) < 2 || b[0] != 0x1f || b[1] != 0x8b {
		return b
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func contentOf(t testing.TB, l v1.Layer) []byte {
	t.Helper()
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // read to its end
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPulledByClientsOfToday: what an old client pushes is an image of schema 2.
func TestPulledByClientsOfToday(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	chain := chainOf(t, "a")
	c.push("foo/bar", "v1", chain)
	img := pullV2(t, r.Addr, "foo/bar:v1")
	if mt, err := img.MediaType(); err != nil || mt != types.DockerManifestSchema2 {
		t.Fatal(mt, err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Config.Cmd[0] != "/bin/hello" || len(cfg.Config.Env) != 2 || cfg.OS != "linux" || cfg.Architecture != "amd64" || cfg.DockerVersion != "0.6.3" {
		t.Fatalf("%+v", cfg)
	}
	if _, ok := cfg.Config.ExposedPorts["80/tcp"]; !ok || len(cfg.Config.ExposedPorts) != 1 {
		t.Fatal(cfg.Config.ExposedPorts)
	}
	if !cfg.Created.Equal(time.Date(2013, 4, 30, 14, 46, 10, 843673000, time.UTC)) {
		t.Fatal(cfg.Created)
	}
	if len(cfg.History) != 3 || !cfg.History[1].EmptyLayer || cfg.History[2].CreatedBy != "/bin/sh -c echo a top" {
		t.Fatalf("%+v", cfg.History)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatal(layers, err)
	}
	for n, want := range []image{chain[0], chain[2]} {
		if !bytes.Equal(contentOf(t, layers[n]), unzip(t, want.layer)) {
			t.Fatalf("layer %d is not what was pushed", n)
		}
	}
	// A tag that today's clients set on it gives the old ones the old names.
	if err := remote.Tag(reference(t, r.Addr, "foo/bar").Context().Tag("v2"), img); err != nil {
		t.Fatal(err)
	}
	same(t, c.pull("foo/bar", "v2"), chain)
	// A copy in another repository is another's: it has names of its own, and the same files.
	pushV2(t, r.Addr, "copy/of:v1", img)
	got := c.pull("copy/of", "v1")
	if len(got) != 2 || !bytes.Equal(unzip(t, got[1].layer), chain[2].layer) {
		t.Fatal("the copy has other files")
	}
}

// v1Config is the part of an old document that today's configuration has too.
func v1Config(t testing.TB, i image) v1.Config {
	t.Helper()
	var doc struct{ Config v1.Config }
	if err := json.Unmarshal(i.json, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Config
}

func someImage(t testing.TB, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(2000, layers)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.Config(img, v1.Config{Cmd: []string{"/run", "it"}, Env: []string{"PATH=/bin"}, Labels: map[string]string{"a": "b"}, User: "1"})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

// TestPulledByOldClients: what a client of today pushes is a chain of images, one per layer, with names that stay.
func TestPulledByOldClients(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	img := someImage(t, 3)
	pushV2(t, r.Addr, "team/app:v1", img)
	got := c.pull("team/app", "v1")
	wantLayers(t, got, img)
	if cfg := v1Config(t, got[2]); cfg.Cmd[1] != "it" || cfg.Labels["a"] != "b" || cfg.User != "1" || cfg.Env[0] != "PATH=/bin" {
		t.Fatalf("%+v", cfg)
	}
	// The checksums come by themselves.
	harness.Eventually(t, 30*time.Second, "checksums are told", func() bool {
		a := c.do("GET", r.Addr, "/v1/images/"+got[2].id+"/json", nil).want(t, 200)
		return a.Header.Get("X-Docker-Checksum-Payload") == got[2].payload()
	})
	same(t, c.pull("team/app", "v1"), got)
	// The same image elsewhere, and one on the same base, have the same names where they are the same.
	pushV2(t, r.Addr, "other/app:v1", img)
	same(t, c.pull("other/app", "v1"), got)
	layer, err := random.Layer(100, types.DockerLayer)
	if err != nil {
		t.Fatal(err)
	}
	derived, err := mutate.AppendLayers(img, layer)
	if err != nil {
		t.Fatal(err)
	}
	pushV2(t, r.Addr, "team/app:v2", derived)
	more := c.pull("team/app", "v2")
	same(t, more[:2], got[:2])
	if len(more) != 4 || more[2].id == got[2].id {
		t.Fatal("a layer that is the top carries a configuration, one below does not")
	}
	// A restart and a retag by an old client change nothing: the tag gets the manifest that is there.
	before := digestOf(t, r.Addr, "team/app:v1")
	s := c.session(c.ask("PUT", "/v1/repositories/team/app/", nil).want(t, 200))
	s.send("PUT", "/v1/repositories/team/app/tags/again", bytes.NewReader([]byte(`"`+got[2].id+`"`))).want(t, 200)
	if d := digestOf(t, r.Addr, "team/app:again"); d != before {
		t.Fatalf("the new tag has %s, the old one %s", d, before)
	}
	// Pushed on by an old client to another registry's repository, it is the same for clients of today.
	other := registrytest.Start(t, registrytest.Plain, on)
	newClient(t, other.Addr, "", "").push("round/trip", "v1", got)
	back := pullV2(t, other.Addr, "round/trip:v1")
	wantLayers(t, got, back)
	a, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	b, err := back.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	one, err := json.Marshal(a.Config)
	if err != nil {
		t.Fatal(err)
	}
	two, err := json.Marshal(b.Config)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) || a.OS != b.OS || a.Architecture != b.Architecture {
		t.Fatalf("configuration\n%s\nbecame\n%s", one, two)
	}
}

func digestOf(t testing.TB, host, path string) string {
	t.Helper()
	d, err := remote.Head(reference(t, host, path))
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest.String()
}

func wantLayers(t testing.TB, got []image, img v1.Image) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(layers) {
		t.Fatalf("%d images, %d layers", len(got), len(layers))
	}
	for n := range layers {
		if !bytes.Equal(unzip(t, got[n].layer), contentOf(t, layers[n])) {
			t.Fatalf("layer %d is another", n)
		}
	}
}

// TestWhatIsNoOldImage: of an index the linux/amd64 image is shown; artifacts are not; zstd is unpacked on the way; images
// without layers have one.
func TestWhatIsNoOldImage(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	amd, arm := someImage(t, 2), someImage(t, 2)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	if err := remote.WriteIndex(reference(t, r.Addr, "multi/app:v1"), index); err != nil {
		t.Fatal(err)
	}
	wantLayers(t, c.pull("multi/app", "v1"), amd)

	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.example.thing")
	pushV2(t, r.Addr, "multi/app:artifact", artifact)
	var tags map[string]string
	c.do("GET", r.Addr, "/v1/repositories/multi/app/tags", nil).want(t, 200).decode(t, &tags)
	if len(tags) != 1 || tags["v1"] == "" {
		t.Fatal(tags)
	}
	c.do("GET", r.Addr, "/v1/repositories/multi/app/tags/artifact", nil).want(t, 404)

	content := tarOf(t, file{"a", "b", 0}, file{"d/", "", tar.TypeDir})
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := static.NewLayer(content, types.DockerUncompressedLayer)
	diff, err := plain.DiffID()
	if err != nil {
		t.Fatal(err)
	}
	layer := zlayer{static.NewLayer(enc.EncodeAll(content, nil), types.OCILayerZStd), diff}
	z, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
	if err != nil {
		t.Fatal(err)
	}
	z = mutate.ConfigMediaType(z, types.OCIConfigJSON)
	if err := remote.Write(reference(t, r.Addr, "z/std:v1"), z); err != nil {
		t.Fatal(err)
	}
	id := tagID(t, c, r.Addr, "z/std", "v1")
	if got := c.do("GET", r.Addr, "/v1/images/"+id+"/layer", nil).want(t, 200); !bytes.Equal(got.body, content) {
		t.Fatalf("%d bytes", len(got.body))
	}

	none, err := mutate.Config(empty.Image, v1.Config{Cmd: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	pushV2(t, r.Addr, "no/layers:v1", none)
	got := c.pull("no/layers", "v1")
	if len(got) != 1 || !bytes.Equal(got[0].layer, make([]byte, 1024)) || v1Config(t, got[0]).Cmd[0] != "x" {
		t.Fatalf("%d images", len(got))
	}
	c.push("no/more", "v1", got)
	if layers, err := pullV2(t, r.Addr, "no/more:v1").Layers(); err != nil || len(layers) != 0 {
		t.Fatal(layers, err)
	}
}

// zlayer is a layer whose package go-containerregistry does not unpack by itself.
type zlayer struct {
	v1.Layer
	diff v1.Hash
}

func (l zlayer) DiffID() (v1.Hash, error) { return l.diff, nil }

func tagID(t testing.TB, c *client, host, repo, tag string) (id string) {
	t.Helper()
	c.do("GET", host, "/v1/repositories/"+repo+"/tags/"+tag, nil).want(t, http.StatusOK).decode(t, &id)
	return id
}

// TestNamesWithOnePart mean library's, but for those that clients of today have pushed without.
func TestNamesWithOnePart(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	chain := chainOf(t, "a")
	c.push("ubuntu", "v1", chain)
	same(t, c.pull("library/ubuntu", "v1"), chain)
	same(t, c.pull("ubuntu", "v1"), chain)
	pullV2(t, r.Addr, "library/ubuntu:v1")
	img := someImage(t, 1)
	pushV2(t, r.Addr, "bare:v1", img)
	wantLayers(t, c.pull("bare", "v1"), img)
	c.delete("ubuntu")
	c.ask("GET", "/v1/repositories/library/ubuntu/images", nil).want(t, 404)
	// A deletion that was begun and never confirmed does not hide what is pushed later, whoever pushes it.
	c.push("foo/bar", "v1", chain)
	s := c.session(c.ask("DELETE", "/v1/repositories/foo/bar/", nil).want(t, 202))
	c.ask("GET", "/v1/repositories/foo/bar/images", nil).want(t, 404)
	s.send("DELETE", "/v1/repositories/foo/bar/", nil).want(t, 200)
	pushV2(t, r.Addr, "foo/bar:v2", img)
	wantLayers(t, c.pull("foo/bar", "v2"), img)
}
