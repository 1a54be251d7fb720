package registry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
	"longshore/internal/core/retention"
	"longshore/internal/service/registry"
)

func (r *rig) collect(o registry.GCOptions) registry.GCReport {
	r.t.Helper()
	report, err := r.CollectGarbage(ctx, o)
	must(r.t, err)
	return report
}

// stored counts the blobs in the store.
func (r *rig) stored() (n int) {
	r.t.Helper()
	must(r.t, r.store.Walk(ctx, func(blob.Info) error { n++; return nil }))
	return n
}

func TestCollect(t *testing.T) {
	r := newRig(t)
	shared, layer := random(100), random(1000)
	doc := r.pushImage("a", "v1", shared, layer)
	kept := r.pushImage("b", "v1", shared, random(50))
	loose := r.push("a", random(70))
	r.clock.Add(2 * time.Hour)
	dry := r.collect(registry.GCOptions{DryRun: true})
	if dry.Links != 1 || dry.Blobs != 1 || dry.Bytes != 70 || len(dry.Lines) == 0 {
		t.Fatalf("dry run: %+v", dry)
	}
	if r.stored() != 4 {
		t.Fatalf("a dry run took something: %d blobs", r.stored())
	}
	got := r.collect(registry.GCOptions{})
	if got.Links != 1 || got.Blobs != 1 || got.Bytes != 70 {
		t.Fatalf("got %+v", got)
	}
	_, err := r.StatBlob(ctx, "a", loose)
	wantCode(t, err, distribution.CodeBlobUnknown)

	must(t, r.DeleteManifest(ctx, "a", ref(sha(doc).String())))
	if got := r.collect(registry.GCOptions{}); got.Links != 0 {
		t.Fatalf("within the grace period: %+v", got)
	}
	r.clock.Add(25 * time.Hour)
	got = r.collect(registry.GCOptions{})
	if got.Links != 2 || got.Blobs != 1 || got.Bytes != 1000 || got.Repositories != 1 {
		t.Fatalf("got %+v", got)
	}
	_, err = r.Tags(ctx, "a", distribution.All)
	wantCode(t, err, distribution.CodeNameUnknown)
	_, err = r.get("b", sha(kept).String())
	must(t, err)
	if _, err := r.read("b", sha(shared)); err != nil {
		t.Fatal(err)
	}
	if r.stored() != 2 {
		t.Fatalf("%d blobs are left", r.stored())
	}
}

// TestCollectSpares what somebody is using: a blob that a client was told is there, layers of a push that goes on, a
// blob that is being read.
func TestCollectSpares(t *testing.T) {
	r := newRig(t)
	told, read := r.push("told", random(100)), r.push("read", random(300_000))
	r.push("pushing", random(100))
	c, err := r.OpenBlob(ctx, "read", read)
	must(t, err)
	defer c.Close()
	r.clock.Add(50 * time.Minute)
	_, err = r.StatBlob(ctx, "told", told)
	must(t, err)
	id := start(t, r, "pushing")
	_, err = r.AppendUpload(ctx, "pushing", id, chunk(0, random(10)))
	must(t, err)
	r.clock.Add(50 * time.Minute)
	got := r.collect(registry.GCOptions{})
	if got.Links != 1 || got.Blobs != 1 || got.Bytes != 300_000 {
		t.Fatalf("got %+v", got)
	}
	whole, err := io.ReadAll(c)
	must(t, err)
	if sha(whole) != read {
		t.Fatal("an open blob changed")
	}
	r.clock.Add(24 * time.Hour)
	if got := r.collect(registry.GCOptions{}); got.Blobs != 2 {
		t.Fatalf("a day later: %+v", got)
	}
}

// TestCollectSweeps resting uploads and bytes that a crash left without a row.
func TestCollectSweeps(t *testing.T) {
	r := newRig(t)
	id := start(t, r, "r")
	orphan := random(100)
	_, err := r.store.Put(ctx, sha(orphan), -1, bytes.NewReader(orphan))
	must(t, err)
	r.push("r", random(10))
	if got := r.collect(registry.GCOptions{}); got.Blobs != 0 || got.Uploads != 0 {
		t.Fatalf("young things went: %+v", got)
	}
	r.clock.Add(25 * time.Hour)
	must(t, r.index.Touch(ctx, "r", onlyBlob(t, r, orphan), r.clock.Now()))
	got := r.collect(registry.GCOptions{})
	if got.Blobs != 1 || got.Bytes != 100 || got.Uploads != 1 {
		t.Fatalf("got %+v", got)
	}
	_, err = r.Upload(ctx, "r", id)
	wantCode(t, err, distribution.CodeBlobUploadUnknown)
}

func onlyBlob(t *testing.T, r *rig, but []byte) (d digest.Digest) {
	t.Helper()
	must(t, r.store.Walk(ctx, func(i blob.Info) error {
		if i.Digest != sha(but) {
			d = i.Digest
		}
		return nil
	}))
	return d
}

// TestCollectOneAtATime: a second collection is refused, not queued.
func TestCollectOneAtATime(t *testing.T) {
	r := newRig(t)
	for range 50 {
		r.push("r", random(10))
	}
	r.clock.Add(48 * time.Hour)
	var wg sync.WaitGroup
	var taken atomic.Int64
	for range 4 {
		wg.Go(func() {
			report, err := r.CollectGarbage(ctx, registry.GCOptions{})
			if err != nil && !errdefs.IsConflict(err) {
				t.Error(err)
			}
			taken.Add(int64(report.Blobs))
		})
	}
	wg.Wait()
	if taken.Load() != 50 || r.stored() != 0 {
		t.Fatalf("took %d of 50, %d are left", taken.Load(), r.stored())
	}
}

// TestCollectWhilePushing: with a grace period of nothing, pushes of the very blobs that are being taken come out whole.
func TestCollectWhilePushing(t *testing.T) {
	r := newRig(t)
	r.clock = nil // the real one below
	s, err := registry.New(r.index, r.store, registry.Config{GC: registry.GCConfig{Delay: time.Nanosecond}, UploadTTL: time.Hour})
	must(t, err)
	r.Service = s
	blobs := make([][]byte, 12)
	for i := range blobs {
		blobs[i] = random(2000)
	}
	stop := make(chan struct{})
	var collector sync.WaitGroup
	collector.Go(func() {
		zero := time.Duration(0)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.CollectGarbage(ctx, registry.GCOptions{Delay: &zero}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var pushers sync.WaitGroup
	for w := range 4 {
		pushers.Go(func() {
			repo := distribution.RepoName(fmt.Sprint("r", w))
			for i := range 40 {
				data := blobs[(i*7+w)%len(blobs)]
				if _, err := s.PutBlob(ctx, repo, sha(data), chunk(-1, data)); err != nil && !errdefs.IsUnavailable(err) {
					t.Error(err)
					return
				}
				// A link without bytes would be a broken promise; no link is the grace period's absence.
				got, err := r.read(repo, sha(data))
				if code(err) == distribution.CodeBlobUnknown {
					if _, lerr := r.index.Linked(ctx, repo, sha(data)); lerr == nil {
						if _, serr := r.store.Stat(ctx, sha(data)); serr != nil {
							if _, lerr := r.index.Linked(ctx, repo, sha(data)); lerr == nil {
								t.Errorf("a link without bytes: %v", serr)
							}
						}
					}
					continue
				}
				if err != nil || !bytes.Equal(got, data) {
					t.Error("other bytes came back", err)
				}
			}
		})
	}
	pushers.Wait()
	close(stop)
	collector.Wait()
	wantNoDanglingLink(t, r.index, r.store)
}

// wantNoDanglingLink checks every link and manifest: rows have their bytes.
func wantNoDanglingLink(t *testing.T, x registryindex.Index, s blob.Store) {
	t.Helper()
	future := time.Now().Add(1000 * time.Hour)
	links, err := x.UnusedLinks(ctx, registryindex.Candidate{}, future, 1_000_000)
	must(t, err)
	for _, l := range links {
		i, err := s.Stat(ctx, l.Blob.Digest)
		if err != nil || i.Size != l.Blob.Size {
			t.Errorf("dangling link %s in %s: %v", l.Blob.Digest, l.Repo, err)
		}
	}
}

func retain(p ...retention.Policy) func(*registry.Config) {
	return func(c *registry.Config) { c.GC.Retention = retention.Config{Delay: time.Hour, Policies: p} }
}

func TestRetention(t *testing.T) {
	r := newRig(t, retain(retention.Policy{
		Repositories: []string{"team/**"}, DeleteReferrers: true, DeleteUntagged: true,
		KeepTags: []retention.Rule{{Patterns: []string{"^v"}, MostRecentlyPushedCount: 2, PulledWithin: 2 * time.Hour}, {Patterns: []string{"^keep$"}}},
	}))
	docs := map[string][]byte{}
	for _, tag := range []string{"v1", "v2", "v3", "v4", "keep", "other"} {
		docs[tag] = r.pushImage("team/app", tag)
		r.pushImage("free/app", tag)
		r.clock.Add(time.Minute)
	}
	config := []byte("{}")
	r.push("team/app", config)
	sbom := referrer("application/sbom", docs["other"], config)
	_, err := r.put("team/app", sha(sbom).String(), ociManifest, sbom)
	must(t, err)
	r.clock.Add(3 * time.Hour)
	_, err = r.get("team/app", "v1") // pulled lately
	must(t, err)
	flush(t, r)

	dry := r.collect(registry.GCOptions{DryRun: true})
	if dry.Tags != 2 || !slices.Contains(dry.Lines, "tag: team/app:v2") || !slices.Contains(dry.Lines, "tag: team/app:other") {
		t.Fatalf("dry run: %+v", dry)
	}
	got := r.collect(registry.GCOptions{})
	if got.Tags != 2 || got.Manifests != 3 { // v2, other; then the referrer of the latter
		t.Fatalf("got %+v", got)
	}
	tags, err := r.Tags(ctx, "team/app", distribution.All)
	must(t, err)
	if strings.Join(tags.Names, " ") != "keep v1 v3 v4" {
		t.Fatalf("kept %v", tags.Names)
	}
	tags, err = r.Tags(ctx, "free/app", distribution.All)
	must(t, err)
	if len(tags.Names) != 6 {
		t.Fatalf("without a policy: kept %v", tags.Names)
	}
	_, err = r.get("team/app", sha(docs["other"]).String())
	wantCode(t, err, distribution.CodeManifestUnknown)
}

// flush runs the background until the statistics are written.
func flush(t *testing.T, r *rig) {
	t.Helper()
	short, cancel := context.WithCancel(ctx)
	cancel()
	must(t, r.Run(short))
}

func TestRetentionDryRun(t *testing.T) {
	r := newRig(t, func(c *registry.Config) {
		c.GC.Retention = retention.Config{DryRun: true, Policies: []retention.Policy{{
			Repositories: []string{"**"}, KeepTags: []retention.Rule{{Patterns: []string{"none"}}}}}}
	})
	r.pushImage("r", "v1")
	r.clock.Add(48 * time.Hour)
	if got := r.collect(registry.GCOptions{}); got.Tags != 1 {
		t.Fatalf("got %+v", got)
	}
	_, err := r.get("r", "v1")
	must(t, err)
}

func TestStatistics(t *testing.T) {
	r := newRig(t)
	doc := r.pushImage("r", "v1")
	for range 3 {
		_, err := r.get("r", "v1")
		must(t, err)
	}
	_, err := r.get("r", sha(doc).String())
	must(t, err)
	_, err = r.Manifest(ctx, "r", ref("v1"), registry.ManifestOptions{}) // HEAD does not count
	must(t, err)
	flush(t, r)
	infos, err := r.TagInfos(ctx, "r", distribution.All)
	must(t, err)
	if len(infos) != 1 || infos[0].Pulls != 3 || !infos[0].Pulled.Equal(r.clock.Now()) || infos[0].Digest != sha(doc) {
		t.Fatalf("got %+v", infos)
	}
}

// TestScheduled: Run collects by itself, within the window only.
func TestScheduled(t *testing.T) {
	for window, want := range map[string]bool{"": true, "00:00-23:59": true} {
		r := newRig(t, func(c *registry.Config) {
			c.GC = registry.GCConfig{Enabled: true, Delay: time.Nanosecond, Interval: 10 * time.Millisecond, Window: window}
			c.UploadTTL = time.Nanosecond
		})
		r.push("r", random(100))
		r.clock.Add(time.Second)
		running, cancel := context.WithTimeout(ctx, 10*time.Second)
		done := make(chan error, 1)
		go func() { done <- r.Run(running) }()
		gone := false
		tick := time.NewTicker(5 * time.Millisecond)
		for !gone && running.Err() == nil {
			<-tick.C
			gone = r.stored() == 0
		}
		tick.Stop()
		cancel()
		must(t, <-done)
		if gone != want {
			t.Fatalf("window %q: collected %v", window, gone)
		}
	}
	if _, err := registry.New(nil, nil, registry.Config{GC: registry.GCConfig{Window: "25:00-1:00"}}); err == nil {
		t.Fatal("a bad window was accepted")
	}
}

// TestGarbageOfManifest: nothing of an image goes while any manifest of the repository needs it.
func TestGarbageOfManifest(t *testing.T) {
	r := newRig(t)
	config, layer := random(10), random(20)
	one := r.pushImage("r", "v1", config, layer)
	two := image(func(m *ocispec.Manifest) { m.Annotations = map[string]string{"n": "2"} }, config, layer)
	_, err := r.put("r", "v2", ociManifest, two)
	must(t, err)
	must(t, r.DeleteManifest(ctx, "r", ref(sha(one).String())))
	r.clock.Add(100 * time.Hour)
	if got := r.collect(registry.GCOptions{}); got.Links != 0 || got.Blobs != 0 {
		t.Fatalf("got %+v", got)
	}
	if _, err := os.Stat(r.dir); err != nil {
		t.Fatal(err)
	}
}
