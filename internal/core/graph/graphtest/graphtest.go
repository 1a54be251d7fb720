// Package graphtest is the conformance suite of graph.Store: every implementation runs it.
//
//	graphtest.Run(t, func(t *testing.T) graphtest.Rig { … })
package graphtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
	"longshore/internal/core/registryindex"
)

// Rig is a store with the index that it shares a database with, both empty.
type Rig struct {
	Index registryindex.Index
	Graph graph.Store
}

var (
	ctx   = context.Background()
	epoch = time.Unix(1_400_000_000, 0)
)

// Run runs the suite; open gives an empty rig.
func Run(t *testing.T, open func(t *testing.T) Rig) {
	for name, test := range map[string]func(*testing.T, Rig){
		"Push": push, "Begin": begin, "Chains": chains, "Collection": collection, "Unlink": unlink, "Delete": deletion,
		"Tops": tops, "Concurrent": concurrent, "Hub": hub, "Search": search, "Unsummed": unsummed,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func id(n int) imagev1.ID { return imagev1.ID(fmt.Sprintf("%064x", n)) }

func sum(s string) digest.Digest { return digest.FromString(s) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func class(t *testing.T, err error, is func(error) bool) {
	t.Helper()
	if !is(err) {
		t.Fatalf("got %v", err)
	}
}

func link(t *testing.T, r Rig, repo distribution.RepoName, d digest.Digest, at time.Time) {
	t.Helper()
	must(t, r.Index.Link(ctx, registryindex.Link{Repo: repo, Blob: registryindex.Blob{Digest: d, Size: 1, Added: at}}))
}

func image(n int, layer string) graph.Image {
	i := graph.Image{ID: id(n), JSON: []byte(`{"id":"x"}`), State: graph.Complete, Added: epoch, DiffID: imagev1.EmptyDiffID}
	if layer != "" {
		i.Layer, i.DiffID, i.Encoding, i.Size = sum(layer), sum("unpacked "+layer), graph.Gzip, 1
	}
	if n > 1 {
		i.Parent = id(n - 1)
	}
	return i
}

// names is a repository, a manifest's name and its tags.
type names struct {
	repo distribution.RepoName
	name string
	tags []distribution.Tag
}

func manifest(t *testing.T, r Rig, n names, blobs ...digest.Digest) digest.Digest {
	t.Helper()
	must(t, r.Index.PutManifest(ctx, registryindex.ManifestPut{Repo: n.repo, Tags: n.tags, Blobs: blobs, Manifest: registryindex.Manifest{
		Digest: sum(n.name), MediaType: "m", Payload: []byte(n.name), Pushed: epoch}}))
	return sum(n.name)
}

// push is the way of an image from its document to its completion.
func push(t *testing.T, r Rig) {
	want := graph.Image{ID: id(2), Parent: id(1), JSON: []byte("{ \"id\": 2}\n"), Announced: "sha256:x", Added: epoch}
	must(t, r.Graph.BeginImage(ctx, "r", want, 0))
	got, err := r.Graph.Image(ctx, "r", id(2))
	must(t, err)
	same(t, got, want)
	finish := func(i *graph.Image) error {
		i.Layer, i.DiffID, i.Encoding, i.Size, i.Payload = sum("l"), sum("d"), graph.Plain, 7, "sha256:p"
		i.State, i.Added = graph.Uploaded, epoch.Add(time.Second)
		return nil
	}
	class(t, r.Graph.ChangeImage(ctx, "r", id(2), finish), errdefs.IsNotFound) // the layer is not linked
	link(t, r, "r", sum("l"), epoch)
	must(t, r.Graph.ChangeImage(ctx, "r", id(2), finish))
	must(t, finish(&want))
	got, err = r.Graph.Image(ctx, "r", id(2))
	must(t, err)
	same(t, got, want)
	stop := errors.New("stop")
	err = r.Graph.ChangeImage(ctx, "r", id(2), func(i *graph.Image) error { i.Size = 99; return stop })
	class(t, err, func(err error) bool { return errors.Is(err, stop) })
	got, err = r.Graph.Image(ctx, "r", id(2))
	must(t, err)
	same(t, got, want)
	for _, repo := range []distribution.RepoName{"other", "nobody"} {
		_, err = r.Graph.Image(ctx, repo, id(2))
		class(t, err, errdefs.IsNotFound)
		class(t, r.Graph.ChangeImage(ctx, repo, id(2), finish), errdefs.IsNotFound)
	}
	must(t, r.Graph.BeginImage(ctx, "a", graph.Image{ID: id(2), JSON: []byte("{}"), Added: epoch}, 0))
	repos, err := r.Graph.Holding(ctx, id(2), 10)
	must(t, err)
	if !slices.Equal(repos, []distribution.RepoName{"a", "r"}) {
		t.Fatal(repos)
	}
}

func same(t *testing.T, got, want graph.Image) {
	t.Helper()
	if !got.Added.Equal(want.Added) {
		t.Fatalf("added %v, want %v", got.Added, want.Added)
	}
	got.Added, want.Added = time.Time{}, time.Time{}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Fatalf("got %+v\nwant %+v", got, want)
	}
}

// begin: what an unfinished push has left is replaced, what is complete is not.
func begin(t *testing.T, r Rig) {
	link(t, r, "r", sum("l"), epoch)
	must(t, r.Graph.BeginImage(ctx, "r", graph.Image{ID: id(1), JSON: []byte("first"), Added: epoch}, 0))
	set := func(s graph.State) func(*graph.Image) error {
		return func(i *graph.Image) error { i.Layer, i.State = sum("l"), s; return nil }
	}
	must(t, r.Graph.ChangeImage(ctx, "r", id(1), set(graph.Uploaded)))
	must(t, r.Graph.BeginImage(ctx, "r", graph.Image{ID: id(1), JSON: []byte("second"), Added: epoch}, 0))
	got, err := r.Graph.Image(ctx, "r", id(1))
	must(t, err)
	same(t, got, graph.Image{ID: id(1), JSON: []byte("second"), Added: epoch})
	must(t, r.Graph.ChangeImage(ctx, "r", id(1), set(graph.Complete)))
	class(t, r.Graph.BeginImage(ctx, "r", graph.Image{ID: id(1), JSON: []byte("third"), Added: epoch}, 0), errdefs.IsAlreadyExists)
	class(t, r.Graph.BeginImage(ctx, "more", graph.Image{ID: id(1), JSON: []byte("x"), Added: epoch}, 1), errdefs.IsResourceExhausted)
}

func chains(t *testing.T, r Rig) {
	link(t, r, "r", sum("a"), epoch)
	link(t, r, "r", sum("b"), epoch)
	m := manifest(t, r, names{"r", "m", []distribution.Tag{"v1"}}, sum("a"), sum("b"))
	list := []graph.Image{image(1, "a"), image(2, ""), image(3, "b")}
	list[1].Empty = true
	class(t, r.Graph.PutChain(ctx, "r", sum("nothing"), list), errdefs.IsNotFound)
	class(t, r.Graph.PutChain(ctx, "r", m, append(list, image(4, "unlinked"))), errdefs.IsNotFound)
	_, err := r.Graph.Chain(ctx, "r", m)
	class(t, err, errdefs.IsNotFound) // nothing is left of what failed
	must(t, r.Graph.PutChain(ctx, "r", m, list))
	must(t, r.Graph.PutChain(ctx, "r", m, list))
	got, err := r.Graph.Chain(ctx, "r", m)
	must(t, err)
	if len(got) != 3 {
		t.Fatalf("%+v", got)
	}
	for n := range list {
		same(t, got[n], list[n])
	}
	top, err := r.Graph.Standing(ctx, "r", id(3))
	must(t, err)
	if top != m {
		t.Fatal(top)
	}
	_, err = r.Graph.Standing(ctx, "r", id(1)) // it lies below another
	class(t, err, errdefs.IsNotFound)
	// The same files in another package are the same image; other files are not.
	link(t, r, "r", sum("c"), epoch)
	again := image(1, "c")
	again.DiffID = list[0].DiffID
	n := manifest(t, r, names{"r", "n", nil}, sum("c"))
	must(t, r.Graph.PutChain(ctx, "r", n, []graph.Image{again}))
	got, err = r.Graph.Chain(ctx, "r", n)
	must(t, err)
	same(t, got[0], list[0])
	class(t, r.Graph.PutChain(ctx, "r", n, []graph.Image{image(1, "c")}), errdefs.IsAlreadyExists)
	// What was being pushed under the name is completed by it.
	must(t, r.Graph.BeginImage(ctx, "r", graph.Image{ID: id(7), JSON: []byte("mine"), Added: epoch}, 0))
	must(t, r.Graph.PutChain(ctx, "r", n, []graph.Image{image(7, "c")}))
	now, err := r.Graph.Image(ctx, "r", id(7))
	must(t, err)
	same(t, now, image(7, "c"))
}

// collection: an image holds its layer as long as a manifest stands for it, and goes with the layer's link else.
func collection(t *testing.T, r Rig) {
	link(t, r, "r", sum("a"), epoch)
	link(t, r, "r", sum("empty"), epoch)
	link(t, r, "r", sum("loose"), epoch)
	m := manifest(t, r, names{"r", "m", []distribution.Tag{"v1"}}, sum("a"))
	empty := image(2, "empty")
	empty.Empty = true
	must(t, r.Graph.PutChain(ctx, "r", m, []graph.Image{image(1, "a"), empty}))
	must(t, r.Graph.BeginImage(ctx, "r", graph.Image{ID: id(9), JSON: []byte("x"), Added: epoch}, 0))
	must(t, r.Graph.ChangeImage(ctx, "r", id(9), func(i *graph.Image) error { i.Layer = sum("loose"); return nil }))
	must(t, r.Graph.BeginImage(ctx, "r", graph.Image{ID: id(8), JSON: []byte("x"), Added: epoch}, 0))

	wantDropped(t, r, epoch, 0) // within the grace period
	wantDropped(t, r, epoch.Add(time.Second), 1)
	_, err := r.Graph.Image(ctx, "r", id(9))
	class(t, err, errdefs.IsNotFound)
	for _, n := range []int{1, 2, 8} {
		_, err := r.Graph.Image(ctx, "r", id(n))
		must(t, err)
	}
	later := epoch.Add(time.Hour)
	must(t, r.Index.DeleteManifest(ctx, "r", m, later))
	wantDropped(t, r, later, 0) // the grace period begins with the deletion
	_, err = r.Graph.Image(ctx, "r", id(1))
	must(t, err)
	wantDropped(t, r, later.Add(time.Second), 2)
	for _, n := range []int{1, 2} {
		_, err := r.Graph.Image(ctx, "r", id(n))
		class(t, err, errdefs.IsNotFound)
	}
	// A document without a layer waits a day longer, and keeps its repository.
	repos, err := r.Index.DropEmptyRepositories(ctx, later)
	must(t, err)
	if repos != 0 {
		t.Fatal(repos)
	}
	repos, err = r.Index.DropEmptyRepositories(ctx, epoch.Add(25*time.Hour))
	must(t, err)
	if repos != 1 {
		t.Fatal(repos)
	}
}

func wantDropped(t *testing.T, r Rig, before time.Time, want int) {
	t.Helper()
	links, err := r.Index.UnusedLinks(ctx, registryindex.Candidate{}, before, 100)
	must(t, err)
	n, err := r.Index.DropLinks(ctx, links, before)
	must(t, err)
	if n != want || len(links) != want {
		t.Fatalf("%d of %v were dropped, want %d", n, links, want)
	}
}

// unlink: a blob that only an unfinished push needs can be deleted.
func unlink(t *testing.T, r Rig) {
	link(t, r, "r", sum("l"), epoch)
	must(t, r.Graph.BeginImage(ctx, "r", graph.Image{ID: id(1), JSON: []byte("x"), Added: epoch}, 0))
	must(t, r.Graph.ChangeImage(ctx, "r", id(1), func(i *graph.Image) error { i.Layer = sum("l"); return nil }))
	must(t, r.Index.Unlink(ctx, "r", sum("l")))
	_, err := r.Graph.Image(ctx, "r", id(1))
	class(t, err, errdefs.IsNotFound)
	link(t, r, "r", sum("e"), epoch)
	m := manifest(t, r, names{"r", "m", nil})
	must(t, r.Graph.PutChain(ctx, "r", m, []graph.Image{image(1, "e")}))
	class(t, r.Index.Unlink(ctx, "r", sum("e")), errdefs.IsFailedPrecondition)
}

func deletion(t *testing.T, r Rig) {
	class(t, r.Index.DeleteRepository(ctx, "r", epoch), errdefs.IsNotFound)
	for _, repo := range []distribution.RepoName{"r", "s"} {
		link(t, r, repo, sum("a"), epoch)
		m := manifest(t, r, names{repo, "m", []distribution.Tag{"v1", "v2"}}, sum("a"))
		must(t, r.Graph.PutChain(ctx, repo, m, []graph.Image{image(1, "a")}))
	}
	later := epoch.Add(time.Hour)
	must(t, r.Index.DeleteRepository(ctx, "r", later))
	_, err := r.Graph.Image(ctx, "r", id(1))
	class(t, err, errdefs.IsNotFound)
	tags, err := r.Index.Tags(ctx, "r", distribution.All)
	must(t, err)
	if len(tags) != 0 {
		t.Fatal(tags)
	}
	if _, err := r.Graph.Image(ctx, "s", id(1)); err != nil {
		t.Fatal(err)
	}
	wantDropped(t, r, later, 0)
	wantDropped(t, r, later.Add(1), 1)
	n, err := r.Index.DropEmptyRepositories(ctx, later)
	must(t, err)
	if n != 1 {
		t.Fatal(n)
	}
}

func tops(t *testing.T, r Rig) {
	_, err := r.Graph.Tops(ctx, "r")
	class(t, err, errdefs.IsNotFound)
	link(t, r, "r", sum("a"), epoch)
	m := manifest(t, r, names{"r", "m", []distribution.Tag{"v2", "latest"}}, sum("a"))
	manifest(t, r, names{"r", "n", []distribution.Tag{"other"}}, sum("a"))
	must(t, r.Graph.PutChain(ctx, "r", m, []graph.Image{image(1, "a"), image(2, "")}))
	got, err := r.Graph.Tops(ctx, "r")
	must(t, err)
	var text []string
	for _, top := range got {
		text = append(text, fmt.Sprint(top.Tag, " ", top.Top, " ", top.MediaType, " ", top.Pushed.Equal(epoch)))
	}
	want := []string{"latest " + string(id(2)) + " m true", "other  m true", "v2 " + string(id(2)) + " m true"}
	if !slices.Equal(text, want) {
		t.Fatal(text)
	}
}

// concurrent changes of one image follow one another.
func concurrent(t *testing.T, r Rig) {
	must(t, r.Graph.BeginImage(ctx, "r", graph.Image{ID: id(1), JSON: []byte("x"), Added: epoch}, 0))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if err := r.Graph.ChangeImage(ctx, "r", id(1), func(i *graph.Image) error { i.Size++; return nil }); err != nil {
					t.Error(err)
				}
				err := r.Graph.ChangeRepository(ctx, "r", epoch, func(r *graph.Repository) error { r.Stars++; return nil })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	i, err := r.Graph.Image(ctx, "r", id(1))
	must(t, err)
	repo, err := r.Graph.Repository(ctx, "r")
	must(t, err)
	if i.Size != 40 || repo.Stars != 40 {
		t.Fatal(i.Size, repo.Stars)
	}
}

func hub(t *testing.T, r Rig) {
	_, err := r.Graph.Repository(ctx, "foo/bar")
	class(t, err, errdefs.IsNotFound)
	want := graph.Repository{
		Name: "foo/bar", Description: "é", Stars: 3, Trusted: true, Private: true, Deleted: epoch,
		Images: []graph.Record{{ID: id(1), Checksum: "c", Tag: "t"}, {ID: id(2)}},
	}
	must(t, r.Graph.ChangeRepository(ctx, "foo/bar", epoch, func(r *graph.Repository) error { *r = want; return nil }))
	want.Created = epoch
	got, err := r.Graph.Repository(ctx, "foo/bar")
	must(t, err)
	if !got.Created.Equal(epoch) || !got.Deleted.Equal(epoch) {
		t.Fatal(got.Created, got.Deleted)
	}
	got.Created, got.Deleted = epoch, epoch
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Fatalf("got %+v", got)
	}
	stop := errors.New("stop")
	err = r.Graph.ChangeRepository(ctx, "new", epoch, func(*graph.Repository) error { return stop })
	class(t, err, func(err error) bool { return errors.Is(err, stop) })
	_, err = r.Graph.Repository(ctx, "new")
	class(t, err, errdefs.IsNotFound)
	must(t, r.Graph.ForgetRepository(ctx, "foo/bar"))
	must(t, r.Graph.ForgetRepository(ctx, "foo/bar"))
	_, err = r.Graph.Repository(ctx, "foo/bar")
	class(t, err, errdefs.IsNotFound)
}

func search(t *testing.T, r Rig) {
	for _, repo := range []distribution.RepoName{"library/ubuntu", "team/ubuntu_base", "team/ubuntuxbase", "team/other", "hidden/ubuntu"} {
		link(t, r, repo, sum("a"), epoch)
		manifest(t, r, names{repo, "m", []distribution.Tag{"v1"}}, sum("a"))
	}
	link(t, r, "untagged/ubuntu", sum("a"), epoch)
	change := func(name distribution.RepoName, f func(*graph.Repository)) {
		must(t, r.Graph.ChangeRepository(ctx, name, epoch, func(r *graph.Repository) error { f(r); return nil }))
	}
	change("team/other", func(r *graph.Repository) { r.Description, r.Stars = "Like Ubuntu, 100%", 5 })
	change("team/ubuntuxbase", func(r *graph.Repository) { r.Trusted = true })
	change("hidden/ubuntu", func(r *graph.Repository) { r.Deleted = epoch })
	change("library/ubuntu", func(r *graph.Repository) { r.Deleted = epoch.Add(-1) }) // and pushed again since
	for term, want := range map[string]string{
		"UBUNTU": "team/other library/ubuntu team/ubuntu_base team/ubuntuxbase*", "ubuntu_b": "team/ubuntu_base", "100%": "team/other",
		"%": "team/other", "nothing": "", "'; --": "",
		"": "team/other library/ubuntu team/ubuntu_base team/ubuntuxbase*",
	} {
		var got []string
		must(t, r.Graph.Search(ctx, term, func(f graph.Found) error {
			name := string(f.Name)
			if f.Trusted {
				name += "*"
			}
			got = append(got, name)
			return nil
		}))
		if strings.Join(got, " ") != want {
			t.Errorf("%q finds %v, want %s", term, got, want)
		}
	}
}

func unsummed(t *testing.T, r Rig) {
	link(t, r, "r", sum("a"), epoch)
	m := manifest(t, r, names{"r", "m", nil}, sum("a"))
	done := image(2, "a")
	done.Payload = "sha256:x"
	must(t, r.Graph.PutChain(ctx, "r", m, []graph.Image{image(1, "a"), done, image(3, "")}))
	must(t, r.Graph.BeginImage(ctx, "r", graph.Image{ID: id(5), JSON: []byte("x"), Added: epoch}, 0))
	got, err := r.Graph.Unsummed(ctx, 10)
	must(t, err)
	if fmt.Sprint(got) != fmt.Sprint([]graph.Place{{Repo: "r", ID: id(1)}, {Repo: "r", ID: id(3)}}) {
		t.Fatal(got)
	}
}
