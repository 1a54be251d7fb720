package registry_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/distribution"
	"longshore/internal/service/registry"
)

func write(t *testing.T, data []byte, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, data, 0o644))
	return file
}

// layout writes a repository as zot keeps it: manifests that the index lists, some with tags, and blobs.
func layout(t *testing.T, dir string, tags map[string][]byte, untagged [][]byte, blobs ...[]byte) {
	t.Helper()
	var index ocispec.Index
	index.SchemaVersion = 2
	add := func(doc []byte, annotations map[string]string) {
		var m struct{ MediaType string }
		must(t, json.Unmarshal(doc, &m))
		index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: m.MediaType, Digest: sha(doc), Size: int64(len(doc)), Annotations: annotations})
		blobs = append(blobs, doc)
	}
	for tag, doc := range tags {
		add(doc, map[string]string{ocispec.AnnotationRefName: tag})
	}
	for _, doc := range untagged {
		add(doc, nil)
	}
	for _, b := range blobs {
		write(t, b, dir, "blobs", "sha256", sha(b).Encoded())
	}
	raw, err := json.Marshal(index)
	must(t, err)
	write(t, raw, dir, "index.json")
	write(t, []byte(`{"imageLayoutVersion":"1.0.0"}`), dir, "oci-layout")
}

func TestImportZot(t *testing.T) {
	root := t.TempDir()
	config, layer, other := random(50), random(5000), random(60)
	doc := image(nil, config, layer)
	child := image(nil, other)
	list := index(ocispec.Descriptor{MediaType: ociManifest, Digest: sha(child), Size: int64(len(child))},
		ocispec.Descriptor{MediaType: ociManifest, Digest: sha([]byte("sparse")), Size: 6})
	sbom := referrer("application/sbom", doc, config)
	layout(t, filepath.Join(root, "team/app"), map[string][]byte{"v1": doc, "multi": list}, [][]byte{sbom}, config, layer, other, child)
	layout(t, filepath.Join(root, "team/app/nested"), map[string][]byte{"v1": doc, "bad tag": doc}, nil, config, layer)
	layout(t, filepath.Join(root, "Bad"), map[string][]byte{"v1": doc}, nil, config, layer)
	layout(t, filepath.Join(root, "broken"), map[string][]byte{"v1": doc}, nil, config)
	old := time.Now().Add(-100 * time.Hour).Truncate(time.Second)
	must(t, os.Chtimes(filepath.Join(root, "team/app/blobs/sha256", sha(doc).Encoded()), old, old))

	r := newRig(t)
	var seen []string
	o := registry.ImportOptions{Dir: root, Verify: true, Progress: func(p registry.ImportProgress) { seen = append(seen, string(p.Repo)) }}
	got, err := r.Import(ctx, o)
	must(t, err)
	if got.Repositories != 3 || got.Manifests != 5 || got.Tags != 3 || len(got.Skipped) != 3 || got.Done != 0 {
		t.Fatalf("got %+v", got)
	}
	if !slices.Equal(seen, []string{"broken", "team/app", "team/app/nested"}) {
		t.Fatalf("progress: %v", seen)
	}
	for repo, references := range map[distribution.RepoName][]string{
		"team/app":        {"v1", "multi", sha(child).String(), sha(sbom).String()},
		"team/app/nested": {"v1"},
	} {
		for _, reference := range references {
			_, err := r.get(repo, reference)
			must(t, err)
		}
	}
	refs, err := r.Referrers(ctx, "team/app", sha(doc), "")
	must(t, err)
	if len(refs.Descriptors) != 1 {
		t.Fatalf("referrers: %+v", refs)
	}
	infos, err := r.TagInfos(ctx, "team/app", distribution.Page{N: 1, Last: "multi"})
	must(t, err)
	if !infos[0].Pushed.Equal(old) {
		t.Fatalf("pushed %v, want %v", infos[0].Pushed, old)
	}
	sameFile(t, r, "team/app", sha(layer), filepath.Join(root, "team/app/blobs/sha256", sha(layer).Encoded()))

	again, err := r.Import(ctx, o)
	must(t, err)
	if again.Manifests != 0 || again.Blobs != 0 || again.Done != 5 {
		t.Fatalf("again: %+v", again)
	}
}

func sameFile(t *testing.T, r *rig, repo distribution.RepoName, d digest.Digest, file string) {
	t.Helper()
	path, err := r.PathOf(ctx, repo, d)
	must(t, err)
	a, err := os.Stat(path)
	must(t, err)
	b, err := os.Stat(file)
	must(t, err)
	if !os.SameFile(a, b) {
		t.Fatal("the bytes were copied")
	}
}

func TestImportDistribution(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "docker/registry/v2")
	config, layer := random(50), random(5000)
	doc := image(nil, config, layer)
	schema1 := []byte(`{"schemaVersion":1,"name":"x","fsLayers":[]}`)
	file := ""
	for _, b := range [][]byte{config, layer, doc, schema1} {
		hex := sha(b).Encoded()
		file = write(t, b, root, "blobs/sha256", hex[:2], hex, "data")
	}
	link := func(b []byte, path ...string) {
		write(t, []byte(sha(b).String()), append([]string{root, "repositories/team/app"}, path...)...)
	}
	link(doc, "_manifests/revisions/sha256", sha(doc).Encoded(), "link")
	link(schema1, "_manifests/revisions/sha256", sha(schema1).Encoded(), "link")
	must(t, os.MkdirAll(filepath.Join(root, "repositories/team/app/_manifests/revisions/sha256", sha(config).Encoded()), 0o755)) // deleted
	link(doc, "_manifests/tags/v1/current/link")
	link(doc, "_manifests/tags/v1/index/sha256", sha(doc).Encoded(), "link")
	link(schema1, "_manifests/tags/old/current/link")
	link(layer, "_layers/sha256", sha(layer).Encoded(), "link")
	_ = file

	for _, from := range []string{dir, root} {
		r := newRig(t)
		got, err := r.Import(ctx, registry.ImportOptions{Dir: from})
		must(t, err)
		if got.Repositories != 1 || got.Manifests != 1 || got.Tags != 1 || len(got.Skipped) != 1 || !strings.Contains(got.Skipped[0], "schemaVersion") {
			t.Fatalf("got %+v", got)
		}
		m, err := r.get("team/app", "v1")
		must(t, err)
		if m.Digest != sha(doc) || m.MediaType != ociManifest {
			t.Fatalf("got %+v", m)
		}
		hex := sha(layer).Encoded()
		sameFile(t, r, "team/app", sha(layer), filepath.Join(root, "blobs/sha256", hex[:2], hex, "data"))
	}
}

func TestImportRefuses(t *testing.T) {
	r := newRig(t)
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "absent")} {
		if _, err := r.Import(ctx, registry.ImportOptions{Dir: dir}); err == nil {
			t.Fatalf("%s was imported", dir)
		}
	}
	// A blob whose bytes are not those of its name is found out when it is asked for.
	root := t.TempDir()
	config := random(10)
	layout(t, filepath.Join(root, "r"), map[string][]byte{"v1": image(nil, config)}, nil, config)
	write(t, []byte("changed!!!"), root, "r/blobs/sha256", sha(config).Encoded())
	got, err := r.Import(ctx, registry.ImportOptions{Dir: root, Verify: true})
	must(t, err)
	if got.Manifests != 0 || len(got.Skipped) != 1 {
		t.Fatalf("got %+v", got)
	}
}
