// Package registryindextest is the conformance suite of registryindex.Index: every implementation runs it.
//
//	registryindextest.Run(t, func(t *testing.T) registryindex.Index { … })
package registryindextest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
)

// Run runs the suite. open gives an empty index; it is closed by whoever made it.
func Run(t *testing.T, open func(t *testing.T) registryindex.Index) {
	cases := []struct {
		name string
		run  func(*testing.T, registryindex.Index)
	}{
		{"Links", links}, {"LinkLimit", linkLimit}, {"Mount", mount}, {"Unlink", unlink},
		{"Manifest", manifest}, {"MissingBlobs", missingBlobs}, {"MoveTag", moveTag}, {"DeleteManifest", deleteManifest},
		{"Referrers", referrers}, {"Pages", pages}, {"AwkwardNames", awkwardNames}, {"Untagged", untagged},
		{"Statistics", statistics}, {"Collection", collection}, {"CollectionSpares", collectionSpares},
		{"Guards", guards}, {"ConcurrentTags", concurrentTags}, {"ConcurrentCollection", concurrentCollection},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

var (
	ctx   = context.Background()
	epoch = time.Unix(1_700_000_000, 0)
)

// sum is the digest of a text: a name for a blob that never exists as bytes here.
func sum(format string, a ...any) digest.Digest { return digest.FromString(fmt.Sprintf(format, a...)) }

func blobOf(d digest.Digest, at time.Time) registryindex.Blob {
	return registryindex.Blob{Digest: d, Size: 100, Added: at}
}

func link(t *testing.T, x registryindex.Index, repo string, d digest.Digest, at time.Time) {
	t.Helper()
	must(t, x.Link(ctx, registryindex.Link{Repo: distribution.RepoName(repo), Blob: blobOf(d, at)}))
}

func put(repo string, name string, tags ...string) registryindex.ManifestPut {
	p := registryindex.ManifestPut{Repo: distribution.RepoName(repo), Manifest: registryindex.Manifest{
		Digest: sum("%s", name), MediaType: "application/vnd.oci.image.manifest.v1+json", Size: int64(len(name)),
		Payload: []byte(name), ArtifactType: "application/config", Pushed: epoch,
	}}
	for _, tag := range tags {
		p.Tags = append(p.Tags, distribution.Tag(tag))
	}
	return p
}

func byTag(s string) distribution.Reference { return distribution.Reference{Tag: distribution.Tag(s)} }

func byDigest(d digest.Digest) distribution.Reference { return distribution.Reference{Digest: d} }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantClass(t *testing.T, err error, is func(error) bool, what string) {
	t.Helper()
	if !is(err) {
		t.Fatalf("got %v, want class %s", err, what)
	}
}

func wantEqual(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func links(t *testing.T, x registryindex.Index) {
	d := sum("layer")
	_, err := x.Linked(ctx, "a/b", d)
	wantClass(t, err, errdefs.IsNotFound, "not found")
	link(t, x, "a/b", d, epoch)
	link(t, x, "a/b", d, epoch.Add(time.Hour)) // idempotent
	b, err := x.Linked(ctx, "a/b", d)
	must(t, err)
	if b.Size != 100 || !b.Added.Equal(epoch.Add(time.Hour)) || b.Store != "" {
		t.Fatalf("got %+v", b)
	}
	_, err = x.Linked(ctx, "a/c", d)
	wantClass(t, err, errdefs.IsNotFound, "not found: another repository's link")
	must(t, x.Touch(ctx, "a/b", d, epoch.Add(2*time.Hour)))
	b, err = x.Linked(ctx, "a/b", d)
	must(t, err)
	if !b.Added.Equal(epoch.Add(2 * time.Hour)) {
		t.Fatalf("touched: got %+v", b)
	}
	wantClass(t, x.Touch(ctx, "a/c", d, epoch), errdefs.IsNotFound, "not found")
	blobs, bytes, err := x.Total(ctx)
	must(t, err)
	wantEqual(t, []int64{blobs, bytes}, []int64{1, 100})
}

func linkLimit(t *testing.T, x registryindex.Index) {
	for i := range 3 {
		err := x.Link(ctx, registryindex.Link{Repo: distribution.RepoName(fmt.Sprintf("r%d", i)), Blob: blobOf(sum("x"), epoch), MaxRepos: 2})
		if i < 2 {
			must(t, err)
			continue
		}
		wantClass(t, err, errdefs.IsResourceExhausted, "resource exhausted")
	}
	must(t, x.Link(ctx, registryindex.Link{Repo: "r1", Blob: blobOf(sum("y"), epoch), MaxRepos: 2}))
	p := put("r2", "m")
	p.MaxRepos = 2
	wantClass(t, x.PutManifest(ctx, p), errdefs.IsResourceExhausted, "resource exhausted")
}

func mount(t *testing.T, x registryindex.Index) {
	d := sum("layer")
	l := registryindex.Link{Repo: "to", Blob: registryindex.Blob{Digest: d, Added: epoch}}
	_, err := x.Mount(ctx, l, "from")
	wantClass(t, err, errdefs.IsNotFound, "not found: no repository")
	link(t, x, "from", sum("other"), epoch)
	_, err = x.Mount(ctx, l, "from")
	wantClass(t, err, errdefs.IsNotFound, "not found: no link")
	_, err = x.Tags(ctx, "to", distribution.All)
	wantClass(t, err, errdefs.IsNotFound, "not found: a failed mount makes no repository")
	link(t, x, "from", d, epoch)
	b, err := x.Mount(ctx, l, "from")
	must(t, err)
	if b.Size != 100 {
		t.Fatalf("got %+v", b)
	}
	_, err = x.Linked(ctx, "to", d)
	must(t, err)
	repos, err := x.Linking(ctx, "", d, distribution.Page{N: 10})
	must(t, err)
	wantEqual(t, repos, []distribution.RepoName{"from", "to"})
	repos, err = x.Linking(ctx, "", d, distribution.Page{N: 1, Last: "from"})
	must(t, err)
	wantEqual(t, repos, []distribution.RepoName{"to"})
	// Another store's blob is another blob.
	l.Repo, l.Blob.Store = "elsewhere/to", "elsewhere"
	_, err = x.Mount(ctx, l, "from")
	wantClass(t, err, errdefs.IsNotFound, "not found: another store")
}

func unlink(t *testing.T, x registryindex.Index) {
	d := sum("layer")
	wantClass(t, x.Unlink(ctx, "r", d), errdefs.IsNotFound, "not found: no repository")
	link(t, x, "r", d, epoch)
	p := put("r", "m", "v1")
	p.Blobs = []digest.Digest{d}
	must(t, x.PutManifest(ctx, p))
	wantClass(t, x.Unlink(ctx, "r", d), errdefs.IsFailedPrecondition, "failed precondition: in use")
	must(t, x.DeleteManifest(ctx, "r", p.Manifest.Digest, epoch))
	must(t, x.Unlink(ctx, "r", d))
	wantClass(t, x.Unlink(ctx, "r", d), errdefs.IsNotFound, "not found")
}

func manifest(t *testing.T, x registryindex.Index) {
	_, err := x.Manifest(ctx, "r", byTag("v1"))
	wantClass(t, err, errdefs.IsNotFound, "not found")
	p := put("r", "m", "v1", "latest")
	p.Manifest.Annotations = map[string]string{"key": "välue", "": "empty"}
	p.Manifest.Subject = sum("subject")
	must(t, x.PutManifest(ctx, p))
	for _, ref := range []distribution.Reference{byTag("v1"), byTag("latest"), byDigest(p.Manifest.Digest)} {
		m, err := x.Manifest(ctx, "r", ref)
		must(t, err)
		if !m.Pushed.Equal(epoch) || !m.Pulled.IsZero() {
			t.Fatalf("times: %+v", m)
		}
		m.Pushed = p.Manifest.Pushed
		wantEqual(t, m, p.Manifest)
	}
	_, err = x.Manifest(ctx, "r", byTag("V1"))
	wantClass(t, err, errdefs.IsNotFound, "not found: tags are case-sensitive")
	must(t, x.DeleteTag(ctx, "r", "v1"))
	wantClass(t, x.DeleteTag(ctx, "r", "v1"), errdefs.IsNotFound, "not found")
	_, err = x.Manifest(ctx, "r", byTag("latest"))
	must(t, err)
}

func missingBlobs(t *testing.T, x registryindex.Index) {
	link(t, x, "r", sum("a"), epoch)
	link(t, x, "other", sum("b"), epoch)
	p := put("r", "m", "v1")
	p.Blobs = []digest.Digest{sum("a"), sum("b"), sum("a"), sum("c")}
	err := x.PutManifest(ctx, p)
	var missing *registryindex.MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("got %v", err)
	}
	wantEqual(t, missing.Digests, []digest.Digest{sum("b"), sum("c")})
	_, err = x.Manifest(ctx, "r", byTag("v1"))
	wantClass(t, err, errdefs.IsNotFound, "not found: nothing is left of a refused manifest")
	p.Blobs = []digest.Digest{sum("a"), sum("a")}
	p.OptionalBlobs = []digest.Digest{sum("foreign")}
	p.Children = []digest.Digest{sum("absent"), sum("absent")}
	must(t, x.PutManifest(ctx, p))
	must(t, x.PutManifest(ctx, p)) // again
}

func moveTag(t *testing.T, x registryindex.Index) {
	must(t, x.PutManifest(ctx, put("r", "one", "v1")))
	must(t, x.PutManifest(ctx, put("r", "two", "v1")))
	m, err := x.Manifest(ctx, "r", byTag("v1"))
	must(t, err)
	wantEqual(t, m.Digest, sum("two"))
	_, err = x.Manifest(ctx, "r", byDigest(sum("one")))
	must(t, err)
	infos, err := x.TagInfos(ctx, "r", distribution.All)
	must(t, err)
	if len(infos) != 1 || infos[0].Digest != sum("two") {
		t.Fatalf("got %+v", infos)
	}
}

func deleteManifest(t *testing.T, x registryindex.Index) {
	wantClass(t, x.DeleteManifest(ctx, "r", sum("m"), epoch), errdefs.IsNotFound, "not found: no repository")
	must(t, x.PutManifest(ctx, put("r", "m", "v1", "v2")))
	must(t, x.PutManifest(ctx, put("r", "n", "v3")))
	must(t, x.DeleteManifest(ctx, "r", sum("m"), epoch))
	wantClass(t, x.DeleteManifest(ctx, "r", sum("m"), epoch), errdefs.IsNotFound, "not found")
	tags, err := x.Tags(ctx, "r", distribution.All)
	must(t, err)
	wantEqual(t, tags, []distribution.Tag{"v3"})
}

func referrers(t *testing.T, x registryindex.Index) {
	none, err := x.Referrers(ctx, "nobody", sum("s"), "")
	must(t, err)
	wantEqual(t, len(none), 0)
	for i, kind := range []string{"sbom", "signature", "sbom"} {
		p := put("r", fmt.Sprint("ref", i))
		p.Manifest.Subject, p.Manifest.ArtifactType = sum("s"), kind
		p.Manifest.Annotations = map[string]string{"n": fmt.Sprint(i)}
		must(t, x.PutManifest(ctx, p))
	}
	must(t, x.PutManifest(ctx, put("r", "unrelated")))
	all, err := x.Referrers(ctx, "r", sum("s"), "")
	must(t, err)
	if len(all) != 3 || !slices.IsSortedFunc(all, func(a, b registryindex.Manifest) int { return compare(a.Digest, b.Digest) }) {
		t.Fatalf("got %+v", all)
	}
	sboms, err := x.Referrers(ctx, "r", sum("s"), "sbom")
	must(t, err)
	if len(sboms) != 2 || sboms[0].Annotations["n"] == "" || sboms[0].Payload != nil {
		t.Fatalf("got %+v", sboms)
	}
	must(t, x.DeleteManifest(ctx, "r", sboms[0].Digest, epoch))
	sboms, err = x.Referrers(ctx, "r", sum("s"), "sbom")
	must(t, err)
	wantEqual(t, len(sboms), 1)
	long := put("r", "of a long subject")
	long.Manifest.Subject = digest.SHA512.FromString("s")
	must(t, x.PutManifest(ctx, long))
	for _, subject := range []digest.Digest{long.Manifest.Subject, long.Manifest.Subject[:len("sha512:")+64]} {
		list, err := x.Referrers(ctx, "r", subject, "")
		must(t, err)
		wantEqual(t, len(list), 1)
	}
	list, err := x.Referrers(ctx, "r", digest.SHA512.FromString("t")[:len("sha512:")+64], "")
	must(t, err)
	wantEqual(t, len(list), 0)
}

func compare[S ~string](a, b S) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func pages(t *testing.T, x registryindex.Index) {
	for _, repo := range []string{"b", "a/z", "a", "a-b", "a.b"} {
		must(t, x.PutManifest(ctx, put(repo, "m", "latest")))
	}
	must(t, x.PutManifest(ctx, put("untagged", "m")))
	want := []distribution.RepoName{"a", "a-b", "a.b", "a/z", "b"}
	repos, err := x.Repositories(ctx, distribution.All)
	must(t, err)
	wantEqual(t, repos, want)
	repos, err = x.Repositories(ctx, distribution.Page{N: 2, Last: "a-b"})
	must(t, err)
	wantEqual(t, repos, want[2:4])
	repos, err = x.AllRepositories(ctx, distribution.Page{N: 10, Last: "b"})
	must(t, err)
	wantEqual(t, repos, []distribution.RepoName{"untagged"})
	must(t, x.PutManifest(ctx, put("tags", "m", "b", "B", "a", "_", "1.0", "a-1", "Z", "10")))
	tags := []distribution.Tag{"1.0", "10", "B", "Z", "_", "a", "a-1", "b"}
	got, err := x.Tags(ctx, "tags", distribution.All)
	must(t, err)
	wantEqual(t, got, tags)
	for i := range tags {
		got, err := x.Tags(ctx, "tags", distribution.Page{N: 2, Last: string(tags[i])})
		must(t, err)
		wantEqual(t, len(got), min(2, len(tags)-i-1))
	}
	got, err = x.Tags(ctx, "tags", distribution.Page{N: 0})
	must(t, err)
	wantEqual(t, len(got), 0)
	_, err = x.Tags(ctx, "nobody", distribution.Page{N: 0})
	wantClass(t, err, errdefs.IsNotFound, "not found")
}

func awkwardNames(t *testing.T, x registryindex.Index) {
	for _, s := range []string{"%", "_", "'; DROP TABLE tags; --", "?", "$1"} {
		must(t, x.PutManifest(ctx, put("r", "m", s)))
		_, err := x.Manifest(ctx, "r", byTag(s))
		must(t, err)
	}
}

func untagged(t *testing.T, x registryindex.Index) {
	must(t, x.PutManifest(ctx, put("r", "tagged", "v1")))
	must(t, x.PutManifest(ctx, put("r", "loose")))
	must(t, x.PutManifest(ctx, put("r", "child")))
	list := put("r", "list", "multi")
	list.Children = []digest.Digest{sum("child"), sum("absent")}
	must(t, x.PutManifest(ctx, list))
	for name, subject := range map[string]string{"referrer": "tagged", "orphan": "gone"} {
		p := put("r", name)
		p.Manifest.Subject = sum("%s", subject)
		must(t, x.PutManifest(ctx, p))
	}
	got, err := x.Untagged(ctx, "r")
	must(t, err)
	if len(got) != 1 || got[0].Digest != sum("loose") {
		t.Fatalf("untagged: %+v", got)
	}
	got, err = x.Orphans(ctx, "r")
	must(t, err)
	if len(got) != 1 || got[0].Digest != sum("orphan") {
		t.Fatalf("orphans: %+v", got)
	}
}
