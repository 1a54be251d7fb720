package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/driver/blobdisk"
	"longshore/internal/service/registry"
)

var ctx = context.Background()

func chunk(first int64, data []byte) registry.Chunk {
	return registry.Chunk{First: first, Size: int64(len(data)), Body: bytes.NewReader(data)}
}

func start(t *testing.T, r *rig, repo distribution.RepoName) string {
	t.Helper()
	up, err := r.StartUpload(ctx, repo, "")
	must(t, err)
	return up.ID
}

// leftovers counts what uploads have left in the store.
func (r *rig) leftovers() int {
	files, err := filepath.Glob(filepath.Join(r.dir, "uploads", "*", "*"))
	must(r.t, err)
	return len(files)
}

func TestChunkedUpload(t *testing.T) {
	r := newRig(t)
	data := random(1000)
	id := start(t, r, "r")
	up, err := r.AppendUpload(ctx, "r", id, chunk(0, data[:400]))
	must(t, err)
	if up.Offset != 400 || up.ID != id {
		t.Fatalf("got %+v", up)
	}
	for _, first := range []int64{0, 399, 401} {
		up, err := r.AppendUpload(ctx, "r", id, chunk(first, data[400:500]))
		wantCode(t, err, distribution.CodeBlobUploadInvalid)
		if !errors.Is(err, distribution.ErrRange) || up.Offset != 400 {
			t.Fatalf("chunk at %d: %v, offset %d", first, err, up.Offset)
		}
	}
	up, err = r.Upload(ctx, "r", id)
	must(t, err)
	if up.Offset != 400 {
		t.Fatalf("got %+v", up)
	}
	_, err = r.FinishUpload(ctx, "r", id, sha(data), chunk(300, data[400:]))
	if !errors.Is(err, distribution.ErrRange) {
		t.Fatalf("the last chunk out of order: %v", err)
	}
	info, err := r.FinishUpload(ctx, "r", id, sha(data), chunk(400, data[400:]))
	must(t, err)
	if info.Size != 1000 || info.Digest != sha(data) {
		t.Fatalf("got %+v", info)
	}
	got, err := r.read("r", sha(data))
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Fatal("other bytes came back")
	}
	_, err = r.Upload(ctx, "r", id)
	wantCode(t, err, distribution.CodeBlobUploadUnknown)
	if n := r.leftovers(); n != 0 {
		t.Fatalf("%d leftovers", n)
	}
}

// TestUploadIDs: an ID is good in its repository only, and nothing else is looked up by it.
func TestUploadIDs(t *testing.T) {
	r := newRig(t)
	id := start(t, r, "r")
	for repo, id := range map[distribution.RepoName]string{
		"other": id, "r": strings.ToUpper(id) + "x", "r/a": "../../index.db", "r/b": "", "r/c": strings.Repeat("a", 5000),
		"r/d": "00000000-0000-0000-0000-000000000000", "r/e": "00000000/0000/0000/0000/000000000000",
	} {
		_, err := r.Upload(ctx, repo, id)
		wantCode(t, err, distribution.CodeBlobUploadUnknown)
		_, err = r.AppendUpload(ctx, repo, id, chunk(-1, nil))
		wantCode(t, err, distribution.CodeBlobUploadUnknown)
		_, err = r.FinishUpload(ctx, repo, id, sha(nil), registry.Chunk{})
		wantCode(t, err, distribution.CodeBlobUploadUnknown)
		wantCode(t, r.CancelUpload(ctx, repo, id), distribution.CodeBlobUploadUnknown)
	}
	must(t, r.CancelUpload(ctx, "r", id))
	wantCode(t, r.CancelUpload(ctx, "r", id), distribution.CodeBlobUploadUnknown)
}

// TestUploadWrongDigest: an error of the specification, nothing stored, nothing left.
func TestUploadWrongDigest(t *testing.T) {
	r := newRig(t)
	data, other := random(100), random(100)
	id := start(t, r, "r")
	_, err := r.FinishUpload(ctx, "r", id, sha(other), chunk(-1, data))
	wantCode(t, err, distribution.CodeDigestInvalid)
	_, err = r.PutBlob(ctx, "r", sha(other), chunk(-1, data))
	wantCode(t, err, distribution.CodeDigestInvalid)
	for _, d := range []digest.Digest{sha(data), sha(other)} {
		_, err = r.StatBlob(ctx, "r", d)
		wantCode(t, err, distribution.CodeBlobUnknown)
	}
	if n := r.leftovers(); n != 0 {
		t.Fatalf("%d leftovers", n)
	}
}

// TestUploadWrongSize: a body that is not as long as promised ends the upload.
func TestUploadWrongSize(t *testing.T) {
	r := newRig(t)
	data := random(100)
	for _, size := range []int64{99, 101, 0, 1 << 60} {
		id := start(t, r, "r")
		_, err := r.AppendUpload(ctx, "r", id, registry.Chunk{First: 0, Size: size, Body: bytes.NewReader(data)})
		wantCode(t, err, distribution.CodeSizeInvalid)
		_, err = r.PutBlob(ctx, "r", sha(data), registry.Chunk{First: -1, Size: size, Body: bytes.NewReader(data)})
		wantCode(t, err, distribution.CodeSizeInvalid)
	}
	if n := r.leftovers(); n != 0 {
		t.Fatalf("%d leftovers", n)
	}
}

// TestClientGoesAway amid a chunk: what has arrived stays, and the upload goes on after a restart.
func TestClientGoesAway(t *testing.T) {
	r := newRig(t)
	data := random(100_000)
	id := start(t, r, "r")
	gone := io.MultiReader(bytes.NewReader(data[:60_000]), iotestErr{io.ErrUnexpectedEOF})
	_, err := r.AppendUpload(ctx, "r", id, registry.Chunk{First: 0, Size: 100_000, Body: gone})
	wantCode(t, err, distribution.CodeBlobUploadInvalid)
	again := openRig(t, r.dir, r.clock)
	up, err := again.Upload(ctx, "r", id)
	must(t, err)
	if up.Offset != 60_000 {
		t.Fatalf("offset %d", up.Offset)
	}
	_, err = again.FinishUpload(ctx, "r", id, sha(data), chunk(up.Offset, data[up.Offset:]))
	must(t, err)
	got, err := again.read("r", sha(data))
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Fatal("other bytes came back")
	}
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

func TestSinglePost(t *testing.T) {
	r := newRig(t)
	data := random(5000)
	_, err := r.PutBlob(ctx, "r", sha(data), chunk(-1, data))
	must(t, err)
	d512 := digest.SHA512.FromBytes(data)
	_, err = r.PutBlob(ctx, "r", d512, registry.Chunk{First: -1, Size: -1, Body: bytes.NewReader(data)})
	must(t, err)
	for _, d := range []digest.Digest{sha(data), d512} {
		got, err := r.read("r", d)
		must(t, err)
		if !bytes.Equal(got, data) {
			t.Fatal("other bytes came back")
		}
	}
	_, err = r.StartUpload(ctx, "r", "md5")
	wantCode(t, err, distribution.CodeDigestInvalid)
	up, err := r.StartUpload(ctx, "r", digest.SHA512)
	must(t, err)
	_, err = r.FinishUpload(ctx, "r", up.ID, d512, chunk(0, data))
	must(t, err)
}

func TestMount(t *testing.T) {
	r := newRig(t)
	d := r.push("secret/app", random(100))
	m := registry.Mount{Repo: "public/app", From: "secret/app", Digest: d}
	deny := func(repo distribution.RepoName) bool { return !strings.HasPrefix(string(repo), "secret/") }
	m.May = deny
	for _, from := range []distribution.RepoName{"secret/app", "", "absent"} {
		m.From = from
		_, ok, err := r.MountBlob(ctx, m)
		if ok || err != nil {
			t.Fatalf("a blob was mounted from where the client may not read: %v", err)
		}
	}
	_, err := r.StatBlob(ctx, "public/app", d)
	wantCode(t, err, distribution.CodeBlobUnknown)
	m.May, m.From = nil, "secret/app"
	info, ok, err := r.MountBlob(ctx, m)
	if err != nil || !ok || info.Size != 100 {
		t.Fatal(info, ok, err)
	}
	// Without "from", from any repository that the client may read.
	m.Repo, m.From, m.May = "third/app", "", deny
	_, ok, err = r.MountBlob(ctx, m)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	got, err := r.read("third/app", d)
	must(t, err)
	if sha(got) != d {
		t.Fatal("other bytes came back")
	}
}

func TestDeleteBlob(t *testing.T) {
	r := newRig(t)
	config, layer := random(10), random(20)
	doc := r.pushImage("r", "v1", config, layer)
	err := r.DeleteBlob(ctx, "r", sha(layer))
	wantCode(t, err, distribution.CodeDenied)
	if !errors.Is(err, distribution.ErrMethod) {
		t.Fatalf("class of %v", err)
	}
	must(t, r.DeleteManifest(ctx, "r", ref(sha(doc).String())))
	must(t, r.DeleteBlob(ctx, "r", sha(layer)))
	wantCode(t, r.DeleteBlob(ctx, "r", sha(layer)), distribution.CodeBlobUnknown)
	_, err = r.StatBlob(ctx, "r", sha(layer))
	wantCode(t, err, distribution.CodeBlobUnknown)
	if _, err := r.StatBlob(ctx, "r", sha(config)); err != nil {
		t.Fatal(err)
	}
}

func TestMaxRepos(t *testing.T) {
	r := newRig(t, func(c *registry.Config) { c.MaxRepos = 1 })
	d := r.push("one", random(10))
	_, err := r.PutBlob(ctx, "two", sha(nil), chunk(-1, nil))
	if !errdefs.IsResourceExhausted(err) || code(err) != distribution.CodeTooManyRequests {
		t.Fatalf("got %v", err)
	}
	_, _, err = r.MountBlob(ctx, registry.Mount{Repo: "two", From: "one", Digest: d})
	wantCode(t, err, distribution.CodeTooManyRequests)
	_, err = r.put("two", "v1", "application/vnd.oci.image.index.v1+json", index())
	wantCode(t, err, distribution.CodeTooManyRequests)
	r.push("one", random(11))
}

// TestLinkIn: the engine gives and takes blobs as hard links.
func TestLinkIn(t *testing.T) {
	r := newRig(t)
	data := random(1000)
	file := filepath.Join(t.TempDir(), "blob")
	must(t, os.WriteFile(file, data, 0o444))
	_, err := r.LinkIn(ctx, "r", sha(data), file)
	must(t, err)
	path, err := r.PathOf(ctx, "r", sha(data))
	must(t, err)
	a, err := os.Stat(file)
	must(t, err)
	b, err := os.Stat(path)
	must(t, err)
	if !os.SameFile(a, b) {
		t.Fatal("the bytes were copied")
	}
	_, err = r.PathOf(ctx, "other", sha(data))
	wantCode(t, err, distribution.CodeBlobUnknown)
}

// TestPlacements: repositories below a prefix lie in their own store, and blobs do not leak from one to the other.
func TestPlacements(t *testing.T) {
	other := newRig(t)
	r := newRig(t, func(c *registry.Config) {
		c.Placements = []registry.Placement{{Prefix: "a", Name: "a", Store: other.store}}
	})
	data := random(100)
	r.push("a/x", data)
	if _, err := r.store.Stat(ctx, sha(data)); !errdefs.IsNotFound(err) {
		t.Fatalf("in the default store: %v", err)
	}
	if _, err := other.store.Stat(ctx, sha(data)); err != nil {
		t.Fatal(err)
	}
	_, ok, err := r.MountBlob(ctx, registry.Mount{Repo: "ab/x", From: "a/x", Digest: sha(data)})
	if ok || err != nil {
		t.Fatalf("mounted across stores: %v", err)
	}
	_, ok, err = r.MountBlob(ctx, registry.Mount{Repo: "a", From: "a/x", Digest: sha(data)})
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	got, err := r.read("a", sha(data))
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Fatal("other bytes came back")
	}
}

// TestPlacementsInOnePlace: two paths to one folder are one store, and collecting the one does not take the other's.
func TestPlacementsInOnePlace(t *testing.T) {
	dir := t.TempDir()
	same, err := blobdisk.New(dir + "/.")
	must(t, err)
	r := openRig(t, dir, newClock(), func(c *registry.Config) {
		c.Placements = []registry.Placement{{Prefix: "a", Name: "a", Store: same}}
	})
	ours, theirs := r.pushImage("b/x", "v1"), r.pushImage("a/x", "v1")
	r.clock.Add(48 * time.Hour)
	if got := r.collect(registry.GCOptions{}); got.Blobs != 0 {
		t.Fatalf("got %+v", got)
	}
	if r.stored() != 4 {
		t.Fatalf("%d blobs of 4 are left", r.stored())
	}
	for repo, doc := range map[distribution.RepoName][]byte{"b/x": ours, "a/x": theirs} {
		_, err := r.get(repo, sha(doc).String())
		must(t, err)
	}
}
