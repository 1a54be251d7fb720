package registry_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
	"longshore/internal/driver/blobdisk"
	"longshore/internal/driver/sqlmeta"
	"longshore/internal/service/registry"
)

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// rig is a registry on a temporary directory.
type rig struct {
	*registry.Service
	t     testing.TB
	dir   string
	clock *clock
	index registryindex.Index
	store blob.Store
}

func newRig(t testing.TB, change ...func(*registry.Config)) *rig {
	t.Helper()
	return openRig(t, t.TempDir(), newClock(), change...)
}

func openRig(t testing.TB, dir string, c *clock, change ...func(*registry.Config)) *rig {
	t.Helper()
	store, err := blobdisk.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := sqlmeta.OpenSQLite(context.Background(), filepath.Join(dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { index.Close() })
	return rigOn(t, dir, c, index, store, change...)
}

func rigOn(t testing.TB, dir string, c *clock, index registryindex.Index, store blob.Store, change ...func(*registry.Config)) *rig {
	t.Helper()
	cfg := registry.Config{Now: c.Now}
	for _, f := range change {
		f(&cfg)
	}
	s, err := registry.New(index, store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{Service: s, t: t, dir: dir, clock: c, index: index, store: store}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func sha(b []byte) digest.Digest { return digest.SHA256.FromBytes(b) }

// push uploads a blob in the way of docker: POST, PATCH, PUT.
func (r *rig) push(repo distribution.RepoName, data []byte) digest.Digest {
	r.t.Helper()
	ctx := context.Background()
	up, err := r.StartUpload(ctx, repo, "")
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.AppendUpload(ctx, repo, up.ID, registry.Chunk{First: -1, Size: -1, Body: bytes.NewReader(data)}); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.FinishUpload(ctx, repo, up.ID, sha(data), registry.Chunk{}); err != nil {
		r.t.Fatal(err)
	}
	return sha(data)
}

// image makes a manifest of blobs; the first is the config.
func image(change func(*ocispec.Manifest), blobs ...[]byte) []byte {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	for i, b := range blobs {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: sha(b), Size: int64(len(b))}
		if i == 0 {
			d.MediaType = ocispec.MediaTypeImageConfig
			m.Config = d
			continue
		}
		m.Layers = append(m.Layers, d)
	}
	if change != nil {
		change(&m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// index makes an image index of manifests.
func index(children ...ocispec.Descriptor) []byte {
	b, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children})
	if err != nil {
		panic(err)
	}
	return b
}

func ref(s string) distribution.Reference {
	r, err := distribution.ParseReference(s)
	if err != nil {
		panic(err)
	}
	return r
}

func (r *rig) put(repo distribution.RepoName, reference string, mediaType string, doc []byte) (registry.ManifestPushed, error) {
	return r.PutManifest(context.Background(), registry.ManifestPut{
		Repo: repo, Reference: ref(reference), MediaType: mediaType, Size: int64(len(doc)), Body: bytes.NewReader(doc)})
}

// pushImage pushes a small image under a tag and gives its manifest.
func (r *rig) pushImage(repo distribution.RepoName, tag string, blobs ...[]byte) []byte {
	r.t.Helper()
	if len(blobs) == 0 {
		blobs = [][]byte{random(200), random(3000)}
	}
	for _, b := range blobs {
		r.push(repo, b)
	}
	doc := image(nil, blobs...)
	if _, err := r.put(repo, tag, ocispec.MediaTypeImageManifest, doc); err != nil {
		r.t.Fatal(err)
	}
	return doc
}

func (r *rig) get(repo distribution.RepoName, reference string) (registry.Manifest, error) {
	return r.Manifest(context.Background(), repo, ref(reference), registry.ManifestOptions{Pull: true})
}

func (r *rig) read(repo distribution.RepoName, d digest.Digest) ([]byte, error) {
	c, err := r.OpenBlob(context.Background(), repo, d)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(c)
}

func code(err error) distribution.Code {
	var e *distribution.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func wantCode(t testing.TB, err error, want distribution.Code) {
	t.Helper()
	if code(err) != want {
		t.Fatalf("got error %v, want code %s", err, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
