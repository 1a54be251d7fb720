package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"longshore/internal/boot/registryboot"
	"longshore/internal/core/distribution"
	"longshore/internal/service/registry"
)

// registryBench measures registries that all see the same machine.
type registryBench struct {
	dir   string
	peers []*registryPeer
}

type registryRow struct {
	name string
	do   func(*registryBench) error
}

func registryRows() []registryRow {
	return []registryRow{
		{"registry-push", (*registryBench).push},
		{"registry-pull", (*registryBench).pull},
		{"registry-manifest", (*registryBench).manifest},
		{"registry-small", (*registryBench).small},
		{"registry-catalogue", (*registryBench).catalogue}, // leaves what registry-start starts with
		{"registry-start", (*registryBench).restart},
		{"registry-memory", (*registryBench).peak},
		{"registry-gc", (*registryBench).collection},
	}
}

// measureRegistries prints the table of the rows that are wanted.
func measureRegistries(wanted func(string) bool) error {
	rows := slices.DeleteFunc(registryRows(), func(r registryRow) bool { return !wanted(r.name) })
	if len(rows) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("/tmp", "longshore-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &registryBench{dir: dir}
	if b.peers, err = registryPeers(dir); err != nil {
		return err
	}
	defer func() {
		for _, p := range b.peers {
			p.stop()
		}
	}()
	for _, p := range b.here() {
		if _, err := p.start(); err != nil {
			return err
		}
	}
	fmt.Print("\n| registry | Longshore | docker-registry | zot | ratio | target |\n|---|---|---|---|---|---|\n")
	for _, row := range rows {
		if err := row.do(b); err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
	}
	return nil
}

// here are the registries that are installed.
func (b *registryBench) here() []*registryPeer {
	return slices.DeleteFunc(slices.Clone(b.peers), func(p *registryPeer) bool { return p.bin == "" })
}

// quick are the registries that can be filled with tens of thousands of manifests within a minute or two: docker-registry
// takes some 50 a second.
func (b *registryBench) quick() *registryBench {
	peers := slices.Clone(b.peers)
	absent := *peers[1]
	absent.bin = ""
	peers[1] = &absent
	return &registryBench{dir: b.dir, peers: peers}
}

// each measures all registries three times in turn and gives the medians, 0 for those that are not here. A peer that
// fails has an empty column; ours must not.
func (b *registryBench) each(rounds int, f func(p *registryPeer, round int) (float64, error)) ([3]float64, error) {
	var out [3]float64
	got := make([][]float64, len(b.peers))
	failed := map[*registryPeer]bool{}
	for round := range rounds {
		for i, p := range b.peers {
			if p.bin == "" || failed[p] {
				continue
			}
			v, err := f(p, round)
			if err != nil && i == 0 {
				return out, err
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "bench: a column stays empty:", err)
				got[i], failed[p] = nil, true
				continue
			}
			got[i] = append(got[i], v)
		}
	}
	for i, list := range got {
		if len(list) > 0 {
			slices.Sort(list)
			out[i] = list[len(list)/2]
		}
	}
	return out, nil
}

func show(work string, v [3]float64, unit func(float64) string, better, target string) {
	r := func(i int) string {
		if better == "less" {
			return ratio(v[i], v[0])
		}
		return ratio(v[0], v[i])
	}
	print(work, unit(v[0]), unit(v[1]), unit(v[2]), r(1)+" docker-registry, "+r(2)+" zot", target)
}

const mebibyte = 1 << 20

func (b *registryBench) push() error {
	const blobs = 200
	v, err := b.each(3, func(p *registryPeer, _ int) (float64, error) {
		base := randomBytes(mebibyte)
		data, sums := make([][]byte, blobs), make([]string, blobs)
		for i := range data {
			data[i] = bytes.Clone(base)
			copy(data[i], fmt.Sprintf("%8d", i))
			sums[i] = hexSum(data[i])
		}
		begin := time.Now()
		err := side(10, blobs, func(i int) error { return p.pushBlob("bench/push", sums[i], bytes.NewReader(data[i]), mebibyte) })
		return blobs / time.Since(begin).Seconds(), err
	})
	show("push of 1 MB blobs, 10 at a time", v, mbs, "more", "≥ 1.0 × zot, with fsync")
	return err
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func (b *registryBench) pull() error {
	const pulls = 1000
	data := randomBytes(mebibyte)
	used := map[*registryPeer][]float64{}
	v, err := b.each(3, func(p *registryPeer, _ int) (float64, error) {
		if err := p.pushBytes("bench/pull", data); err != nil {
			return 0, err
		}
		address := p.url + "/v2/bench/pull/blobs/sha256:" + hexSum(data)
		before, begin := p.cpu(), time.Now()
		err := side(10, pulls, func(int) error { return fetch(p.client, address, mebibyte) })
		took := time.Since(begin)
		used[p] = append(used[p], p.cpu()-before)
		return pulls / took.Seconds(), err
	})
	if err != nil {
		return err
	}
	show("pull of 1 MB blobs, 10 at a time", v, mbs, "more", "≥ 1.3 × zot")
	var cost [3]float64
	for i, p := range b.peers {
		if list := used[p]; len(list) > 0 {
			slices.Sort(list)
			cost[i] = list[len(list)/2]
		}
	}
	show("CPU of the server for these 1,000 pulls", cost, func(s float64) string { return fmt.Sprintf("%.2f s", s) }, "less", "≥ 1.3 × less than zot")
	return nil
}

func fetch(c *http.Client, address string, want int64) error {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", indexType)
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err == nil && (resp.StatusCode != http.StatusOK || want > 0 && n != want) {
		err = fmt.Errorf("%s: %s, %d bytes", address, resp.Status, n)
	}
	return err
}

// manifest compares with a server that answers the same bytes from memory.
func (b *registryBench) manifest() error {
	const gets = 10_000
	doc := emptyIndex(0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	memory := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(doc) })} //nolint:gosec // loopback
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = memory.Serve(l)
	}()
	defer func() {
		_ = memory.Close()
		<-done
	}()
	rate := func(c *http.Client, address string) (float64, error) {
		begin := time.Now()
		err := side(10, gets, func(int) error { return fetch(c, address, int64(len(doc))) })
		return gets / time.Since(begin).Seconds(), err
	}
	for _, tags := range []int{1, 10_000} {
		repo := fmt.Sprintf("bench/tags%d", tags)
		b := b
		if tags > 1 {
			b = b.quick()
		}
		v, err := b.each(3, func(p *registryPeer, round int) (float64, error) {
			if round == 0 {
				push := func(i int) error { return p.pushManifest(repo, fmt.Sprintf("t%d", i), indexType, doc) }
				if err := b.fill(p, tags, push); err != nil {
					return 0, err
				}
			}
			base, err := rate(p.client, "http://"+l.Addr().String())
			if err != nil {
				return 0, err
			}
			got, err := rate(p.client, fmt.Sprintf("%s/v2/%s/manifests/t%d", p.url, repo, tags/2))
			return got / base, err
		})
		if err != nil {
			return err
		}
		show(fmt.Sprintf("manifest GET by tag, %d tags, of an in-memory server's", tags), v, part, "more", "≥ 0.5")
	}
	return nil
}

// patience is how long a peer may take to be filled before a row; each tag of a repository costs zot more than the one before.
const patience = 4 * time.Minute

// fill calls push n times, 10 at a time. A peer that takes too long gives an error, which leaves its column empty.
func (b *registryBench) fill(p *registryPeer, n int, push func(i int) error) error {
	begin := time.Now()
	return side(10, n, func(i int) error {
		if p != b.peers[0] && time.Since(begin) > patience {
			return fmt.Errorf("%s took %d of %d manifests in %s", p.name, i, n, patience)
		}
		return push(i)
	})
}

func part(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}

func (b *registryBench) small() error {
	const images = 300
	v, err := b.each(3, func(p *registryPeer, round int) (float64, error) {
		begin := time.Now()
		err := side(10, images, func(i int) error { return p.pushImage("bench/small", fmt.Sprintf("r%dt%d", round, i)) })
		return images / time.Since(begin).Seconds(), err
	})
	show("pushes of 4 KB images, 10 at a time", v, perSecond, "more", "≥ 400 /s, durable")
	return err
}

// pushImage pushes a configuration, a layer and a manifest that nobody has.
func (p *registryPeer) pushImage(repo, tag string) error {
	layer := randomBytes(3000)
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}`, hexSum(layer))
	for _, blob := range [][]byte{config, layer} {
		if err := p.pushBytes(repo, blob); err != nil {
			return err
		}
	}
	const media = "application/vnd.oci.image.manifest.v1+json"
	doc := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%d}]}`,
		media, hexSum(config), len(config), hexSum(layer), len(layer))
	return p.pushManifest(repo, tag, media, doc)
}

// catalogue makes 10,000 repositories with two manifests each, and lists the end of them.
func (b *registryBench) catalogue() error {
	const repos = 10_000
	v, err := b.quick().each(1, func(p *registryPeer, _ int) (float64, error) {
		err := b.fill(p, 2*repos, func(i int) error {
			return p.pushManifest(fmt.Sprintf("c/r%05d", i/2), fmt.Sprintf("t%d", i%2), indexType, emptyIndex(i))
		})
		if err != nil {
			return 0, err
		}
		t, err := times(21, func() error { return fetch(p.client, p.url+"/v2/_catalog?n=100&last=c/r09800", 0) })
		return float64(median(t)), err
	})
	show("catalogue page of 100 late in 10,000", v, duration, "less", "≤ 2 ms")
	return err
}

func duration(v float64) string { return ms(time.Duration(v)) }

func (b *registryBench) restart() error {
	b = b.quick()
	v, err := b.each(3, func(p *registryPeer, _ int) (float64, error) {
		p.stop()
		t, err := p.start()
		return float64(t), err
	})
	if err != nil {
		return err
	}
	show("start with 20,000 manifests", v, duration, "less", "≤ 100 ms")
	<-time.After(2 * time.Second) // idle is what is measured
	v, err = b.each(1, func(p *registryPeer, _ int) (float64, error) { return p.memory("VmRSS:"), nil })
	show("idle RSS with them", v, megabyte, "less", "≤ 40 MB")
	return err
}

func megabyte(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f MB", v)
}

// peak is the most memory that fifty uploads of 100 MB at once take.
func (b *registryBench) peak() error {
	const uploads, chunks = 50, 100
	chunk := randomBytes(mebibyte)
	body := func(i int) io.Reader {
		parts := []io.Reader{strings.NewReader(fmt.Sprintf("%8d", i))}
		for range chunks {
			parts = append(parts, bytes.NewReader(chunk))
		}
		return io.MultiReader(parts...)
	}
	sums := make([]string, uploads)
	for i := range sums {
		h := sha256.New()
		if _, err := io.Copy(h, body(i)); err != nil {
			return err
		}
		sums[i] = fmt.Sprintf("%x", h.Sum(nil))
	}
	v, err := b.each(1, func(p *registryPeer, _ int) (float64, error) {
		p.stop()
		if _, err := p.start(); err != nil {
			return 0, err
		}
		err := side(uploads, uploads, func(i int) error { return p.pushBlob("bench/big", sums[i], body(i), 8+chunks*mebibyte) })
		most := p.memory("VmHWM:")
		p.stop()
		if err == nil {
			err = os.RemoveAll(filepath.Join(p.dir, "root")) // gigabytes
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(p.dir, "root"), 0o700)
		}
		if err == nil {
			_, err = p.start()
		}
		return most, err
	})
	show("peak RSS, 50 × 100 MB uploads at once", v, megabyte, "less", "≤ 120 MB")
	return err
}

// collection compares pushes beside a collection of 100,000 blobs with pushes before it. The registry runs in this
// process, to be told when to collect; nobody else collects while pushes go on.
func (b *registryBench) collection() error {
	const blobs = 100_000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	cfg := registryboot.Embedded(filepath.Join(b.dir, "gc"), "0")
	ctx, cancel := context.WithCancel(context.Background())
	r, err := registryboot.New(ctx, cfg, registryboot.Options{Listener: l, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		cancel()
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	err = side(64, blobs, func(i int) error {
		data := fmt.Appendf(nil, "blob %d", i)
		_, err := r.Service().PutBlob(ctx, distribution.RepoName(fmt.Sprintf("gc/r%d", i%100)), digest.FromBytes(data),
			registry.Chunk{First: -1, Size: int64(len(data)), Body: bytes.NewReader(data)})
		return err
	})
	if err != nil {
		return err
	}
	p := &registryPeer{name: "ours", url: "http://" + l.Addr().String(), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	normal, err := p.pushTimes(func() bool { return false }, 500)
	if err != nil {
		return err
	}
	collected := make(chan error, 1)
	var report registry.GCReport
	go func() {
		var now time.Duration
		var err error
		report, err = r.Service().CollectGarbage(ctx, registry.GCOptions{Delay: &now})
		collected <- err
	}()
	var failed error
	over := false
	during, err := p.pushTimes(func() bool {
		select {
		case failed = <-collected:
			over = true
		default:
		}
		return over
	}, 1<<20)
	if err == nil && !over {
		failed = <-collected
	}
	if err != nil || failed != nil {
		return fmt.Errorf("collect: %w", errors.Join(err, failed))
	}
	p99 := func(d []time.Duration) float64 { return float64(d[len(d)*99/100]) }
	print(fmt.Sprintf("p99 of pushes beside a collection of %d blobs", report.Blobs), duration(p99(during)), "–", "–",
		ratio(p99(during), p99(normal))+" of "+duration(p99(normal))+" without", "≤ 2 × normal")
	return nil
}

// pushTimes pushes blobs one after another until stop or limit, and gives the sorted times.
func (p *registryPeer) pushTimes(stop func() bool, limit int) ([]time.Duration, error) {
	var out []time.Duration
	for len(out) < limit && (len(out) == 0 || !stop()) {
		data := randomBytes(4096)
		begin := time.Now()
		if err := p.pushBytes("gc/live", data); err != nil {
			return nil, err
		}
		out = append(out, time.Since(begin))
	}
	slices.Sort(out)
	return out, nil
}
