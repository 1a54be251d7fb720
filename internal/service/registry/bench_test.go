package registry_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/distribution"
	"longshore/internal/service/registry"
)

// BenchmarkPushSmallImage is the durable push of a 4 KB image: config, layer, manifest with a tag; ten clients.
func BenchmarkPushSmallImage(b *testing.B) {
	r := newRig(b)
	var n atomic.Int64
	b.SetParallelism(5)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.pushImage("bench/small", fmt.Sprintf("t%d", n.Add(1)), random(600), random(3000))
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
}

// BenchmarkPushMegabyte is the durable push of blobs of 1 MB; ten clients.
func BenchmarkPushMegabyte(b *testing.B) {
	r := newRig(b)
	b.SetBytes(1 << 20)
	b.SetParallelism(5)
	base := random(1 << 20)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		data := bytes.Clone(base)
		for pb.Next() {
			copy(data, fmt.Sprint(n.Add(1), "."))
			r.push("bench/big", data)
		}
	})
}

// BenchmarkManifest is a pull of one manifest by tag among 1 and 10,000 tags.
func BenchmarkManifest(b *testing.B) {
	for _, tags := range []int{1, 10_000} {
		b.Run(fmt.Sprint(tags), func(b *testing.B) {
			r := newRig(b)
			blobs := [][]byte{random(100), random(100)}
			r.pushImage("bench/tags", "t0", blobs...)
			many(b, r, "bench/tags", tags, image(nil, blobs...))
			reference := ref(fmt.Sprintf("t%d", tags/2))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := r.Manifest(context.Background(), "bench/tags", reference, registry.ManifestOptions{Pull: true}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func many(b *testing.B, r *rig, repo distribution.RepoName, n int, doc []byte) {
	b.Helper()
	tags := make([]distribution.Tag, n)
	for i := range tags {
		tags[i] = distribution.Tag(fmt.Sprintf("t%d", i))
	}
	_, err := r.PutManifest(context.Background(), registry.ManifestPut{Repo: repo, Reference: ref(sha(doc).String()), Tags: tags,
		MediaType: ocispec.MediaTypeImageManifest, Size: -1, Body: bytes.NewReader(doc)})
	must(b, err)
}

// BenchmarkLateCataloguePage is a page of 100 near the end of 10,000 repositories.
func BenchmarkLateCataloguePage(b *testing.B) {
	r := newRig(b)
	blobs := [][]byte{random(100), random(100)}
	for i := range 10_000 {
		repo := distribution.RepoName(fmt.Sprintf("team%d/app%d", i%100, i))
		for _, d := range blobs {
			if i == 0 {
				r.push(repo, d)
				continue
			}
			if _, ok, err := r.MountBlob(context.Background(), registry.Mount{Repo: repo, From: "team0/app0", Digest: sha(d)}); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		_, err := r.put(repo, "latest", ocispec.MediaTypeImageManifest, image(nil, blobs...))
		must(b, err)
	}
	b.ResetTimer()
	for b.Loop() {
		l, err := r.Repositories(context.Background(), distribution.Page{N: 100, Last: "team98/app9800"}, nil)
		if err != nil || len(l.Names) != 100 {
			b.Fatal(len(l.Names), err)
		}
	}
}

// BenchmarkCollectWhilePushing compares the 99th percentile of small pushes with and without a collection of many blobs
// that runs meanwhile.
func BenchmarkCollectWhilePushing(b *testing.B) {
	const garbage = 5_000
	// The clock jumps below, the files' times do not: uploads must not look old.
	r := newRig(b, func(c *registry.Config) { c.UploadTTL = 1000 * time.Hour })
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range garbage / 16 {
				r.push("garbage", fmt.Appendf(nil, "%d-%d", w, i))
			}
		})
	}
	wg.Wait()
	r.clock.Add(48 * time.Hour)
	for b.Loop() {
		quiet := percentile(pushFor(r, func() bool { return false }, 600))
		var done atomic.Bool
		var report registry.GCReport
		wg.Go(func() {
			report, _ = r.CollectGarbage(context.Background(), registry.GCOptions{})
			done.Store(true)
		})
		busy := pushFor(r, done.Load, 1<<30)
		wg.Wait()
		b.ReportMetric(quiet.Seconds()*1000, "quiet-p99-ms")
		b.ReportMetric(percentile(busy).Seconds()*1000, "collecting-p99-ms")
		b.ReportMetric(float64(report.Blobs), "collected")
		b.ReportMetric(float64(len(busy)), "pushes")
	}
}

// pushFor pushes small images from four clients until stop or n pushes, and gives how long each took.
func pushFor(r *rig, stop func() bool, n int64) []time.Duration {
	var mu sync.Mutex
	var times []time.Duration
	var wg sync.WaitGroup
	var count atomic.Int64
	for w := range 4 {
		wg.Go(func() {
			for !stop() && count.Add(1) <= n {
				started := time.Now()
				r.pushImage(distribution.RepoName(fmt.Sprint("bench/r", w)), fmt.Sprint("t", time.Now().UnixNano()))
				took := time.Since(started)
				mu.Lock()
				times = append(times, took)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return times
}

func percentile(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)*99/100]
}

// BenchmarkStart opens a registry of 20,000 manifests.
func BenchmarkStart(b *testing.B) {
	r := newRig(b)
	config := random(10)
	r.push("r", config)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20_000 / 16 {
				doc := image(func(m *ocispec.Manifest) { m.Annotations = map[string]string{"n": fmt.Sprint(w, "-", i)} }, config)
				if _, err := r.put("r", fmt.Sprintf("t%d-%d", w, i), ocispec.MediaTypeImageManifest, doc); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for b.Loop() {
		again := openRig(b, r.dir, newClock())
		if _, err := again.get("r", "t3-100"); err != nil {
			b.Fatal(err)
		}
		again.index.Close()
	}
}
