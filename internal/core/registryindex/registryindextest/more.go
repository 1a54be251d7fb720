package registryindextest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/containerd/errdefs"

	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
)

func statistics(t *testing.T, x registryindex.Index) {
	link(t, x, "r", sum("layer"), epoch)
	must(t, x.PutManifest(ctx, put("r", "m", "v1", "v2")))
	later := epoch.Add(time.Hour)
	pulls := []registryindex.Pull{
		{Repo: "r", Digest: sum("m"), Tag: "v1", Count: 2, Last: later},
		{Repo: "r", Digest: sum("m"), Count: 1, Last: epoch},
		{Repo: "nobody", Digest: sum("m"), Tag: "v1", Count: 1, Last: later},
	}
	must(t, x.Pulled(ctx, pulls))
	m, err := x.Manifest(ctx, "r", byTag("v1"))
	must(t, err)
	if m.Pulls != 3 || !m.Pulled.Equal(later) {
		t.Fatalf("manifest: %d pulls, last %v", m.Pulls, m.Pulled)
	}
	infos, err := x.TagInfos(ctx, "r", distribution.All)
	must(t, err)
	if infos[0].Pulls != 2 || !infos[0].Pulled.Equal(later) || infos[1].Pulls != 0 || !infos[1].Pulled.IsZero() {
		t.Fatalf("tags: %+v", infos)
	}
	// A push moves the tag and keeps its count.
	must(t, x.PutManifest(ctx, put("r", "n", "v1")))
	infos, err = x.TagInfos(ctx, "r", distribution.Page{N: 1})
	must(t, err)
	if infos[0].Pulls != 2 || infos[0].Digest != sum("n") {
		t.Fatalf("tags after a push: %+v", infos)
	}
	r, err := x.Repository(ctx, "r")
	must(t, err)
	if r.Tags != 2 || r.Manifests != 2 || r.Bytes != 102 || !r.Updated.Equal(epoch) {
		t.Fatalf("repository: %+v", r)
	}
	_, err = x.Repository(ctx, "nobody")
	wantClass(t, err, errdefs.IsNotFound, "not found")
}

// collect runs a whole collection of rows and gives the digests of the blobs that went.
func collect(t *testing.T, x registryindex.Index, before time.Time, n int) []digest.Digest {
	t.Helper()
	var after registryindex.Candidate
	for {
		links, err := x.UnusedLinks(ctx, after, before, n)
		must(t, err)
		dropped, err := x.DropLinks(ctx, links, before)
		must(t, err)
		wantEqual(t, dropped, len(links))
		if len(links) < n {
			break
		}
		after = links[len(links)-1]
	}
	var gone []digest.Digest
	var last digest.Digest
	for {
		blobs, err := x.UnlinkedBlobs(ctx, "", last, before, n)
		must(t, err)
		dropped, err := x.DropBlobs(ctx, blobs, before)
		must(t, err)
		for _, b := range dropped {
			gone = append(gone, b.Digest)
		}
		if len(blobs) < n {
			return gone
		}
		last = blobs[len(blobs)-1].Digest
	}
}

func collection(t *testing.T, x registryindex.Index) {
	var want []digest.Digest
	for i := range 25 {
		d := sum("layer %d", i)
		for _, repo := range []string{"a", "b"} {
			link(t, x, repo, d, epoch)
			if i%5 == 0 {
				p := put(repo, fmt.Sprint("m", i))
				p.Blobs = []digest.Digest{d}
				must(t, x.PutManifest(ctx, p))
			}
		}
		if i%5 != 0 {
			want = append(want, d)
		}
	}
	slices.Sort(want)
	wantEqual(t, collect(t, x, epoch.Add(time.Second), 4), want)
	wantEqual(t, collect(t, x, epoch.Add(time.Second), 4), []digest.Digest(nil))
	known, err := x.Known(ctx, "", []digest.Digest{sum("layer 0"), sum("layer 1")})
	must(t, err)
	wantEqual(t, known, map[digest.Digest]bool{sum("layer 0"): true})
	for i := 0; i < 25; i += 5 {
		for _, repo := range []distribution.RepoName{"a", "b"} {
			must(t, x.DeleteManifest(ctx, repo, sum("m%d", i), epoch.Add(time.Minute)))
		}
	}
	wantEqual(t, len(collect(t, x, epoch.Add(time.Second), 4)), 0) // the grace period began with the deletion
	wantEqual(t, len(collect(t, x, epoch.Add(time.Hour), 4)), 5)
	n, err := x.DropEmptyRepositories(ctx, epoch)
	must(t, err)
	wantEqual(t, n, 0) // too young
	n, err = x.DropEmptyRepositories(ctx, epoch.Add(time.Hour))
	must(t, err)
	wantEqual(t, n, 2)
}

// collectionSpares: what is asserted or used between the look and the deletion stays.
func collectionSpares(t *testing.T, x registryindex.Index) {
	before := epoch.Add(time.Hour)
	for _, name := range []string{"touched", "used", "mounted", "linked"} {
		link(t, x, "r", sum("%s", name), epoch)
	}
	candidates, err := x.UnusedLinks(ctx, registryindex.Candidate{}, before, 10)
	must(t, err)
	wantEqual(t, len(candidates), 4)
	must(t, x.Touch(ctx, "r", sum("touched"), before.Add(time.Second)))
	p := put("r", "m")
	p.Blobs = []digest.Digest{sum("used")}
	must(t, x.PutManifest(ctx, p))
	n, err := x.DropLinks(ctx, candidates, before)
	must(t, err)
	wantEqual(t, n, 2)

	blobs, err := x.UnlinkedBlobs(ctx, "", "", before, 10)
	must(t, err)
	wantEqual(t, len(blobs), 2)
	link(t, x, "r", sum("linked"), before.Add(time.Second))
	dropped, err := x.DropBlobs(ctx, blobs, before)
	must(t, err)
	if len(dropped) != 1 || dropped[0].Digest != sum("mounted") {
		t.Fatalf("dropped %+v", dropped)
	}
}

func guards(t *testing.T, x registryindex.Index) {
	a, b := sum("a"), sum("b")
	one, err := x.Share(ctx, "", a)
	must(t, err)
	two, err := x.Share(ctx, "", a)
	must(t, err)
	held, release, err := x.TryExclude(ctx, "", []digest.Digest{a, b})
	must(t, err)
	wantEqual(t, held, []digest.Digest{b})
	release()
	one()
	two()
	held, release, err = x.TryExclude(ctx, "", []digest.Digest{a, b})
	must(t, err)
	wantEqual(t, held, []digest.Digest{a, b})
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := x.Share(short, "", a); err == nil {
		t.Fatal("an excluded digest was shared")
	}
	other, err := x.Share(ctx, "elsewhere", a)
	must(t, err)
	other()
	got := make(chan error, 1)
	go func() {
		again, err := x.Share(ctx, "", a)
		if err == nil {
			again()
		}
		got <- err
	}()
	release()
	must(t, <-got)
}

// concurrentTags: sixteen writers on one repository lose no tag, and on one tag the last wins.
func concurrentTags(t *testing.T, x registryindex.Index) {
	const writers, each = 16, 40
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("w%d-%d", w, i)
				d := sum("layer %s", name)
				if err := x.Link(ctx, registryindex.Link{Repo: "r", Blob: blobOf(d, epoch)}); err != nil {
					t.Error(err)
				}
				p := put("r", name, name, "shared")
				p.Blobs = []digest.Digest{d}
				if err := x.PutManifest(ctx, p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	tags, err := x.Tags(ctx, "r", distribution.All)
	must(t, err)
	wantEqual(t, len(tags), writers*each+1)
	_, err = x.Manifest(ctx, "r", byTag("shared"))
	must(t, err)
}

// concurrentCollection: pushes of blobs that are being collected end with every link having its blob.
func concurrentCollection(t *testing.T, x registryindex.Index) {
	const blobs = 20
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			before := epoch.Add(time.Hour)
			links, err := x.UnusedLinks(ctx, registryindex.Candidate{}, before, 100)
			if err == nil {
				_, err = x.DropLinks(ctx, links, before)
			}
			var list []registryindex.Blob
			if err == nil {
				list, err = x.UnlinkedBlobs(ctx, "", "", before, 100)
			}
			if err == nil {
				_, err = x.DropBlobs(ctx, list, before)
			}
			if err == nil {
				_, err = x.DropEmptyRepositories(ctx, before)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	var pushers sync.WaitGroup
	for w := range 4 {
		pushers.Go(func() {
			for i := range 60 {
				d := sum("blob %d", i%blobs)
				repo := distribution.RepoName(fmt.Sprint("r", (i+w)%3))
				if err := x.Link(ctx, registryindex.Link{Repo: repo, Blob: blobOf(d, epoch)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	pushers.Wait()
	close(stop)
	wg.Wait()
	for i := range blobs {
		link(t, x, "last", sum("blob %d", i), epoch)
		_, err := x.Linked(ctx, "last", sum("blob %d", i))
		must(t, err)
	}
}
