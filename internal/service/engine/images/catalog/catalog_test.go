package catalog

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func hexDigest(prefix string) digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, prefix+strings.Repeat("0", 64-len(prefix)))
}

func entryOf(target digest.Digest, manifest, config digest.Digest, names ...string) *Entry {
	var list []images.Image
	for _, n := range names {
		list = append(list, images.Image{Name: n})
	}
	if len(list) == 0 {
		list = []images.Image{{Name: DanglingName(target)}}
	}
	e := &Entry{Target: ocispec.Descriptor{Digest: target}}
	e.Manifests = []*Manifest{{Desc: ocispec.Descriptor{Digest: manifest}, Config: ocispec.Descriptor{Digest: config}}}
	return e.WithNames(list)
}

func fill(c *Catalog, list ...*Entry) {
	c.Change(func(func(digest.Digest) *Entry) map[digest.Digest]*Entry {
		out := map[digest.Digest]*Entry{}
		for _, e := range list {
			out[e.ID()] = e
		}
		return out
	})
}

func TestFind(t *testing.T) {
	var c Catalog
	if _, err := c.Find("x"); !errdefs.IsNotFound(err) {
		t.Errorf("empty catalog: %v", err)
	}
	one := entryOf(hexDigest("aaaa1"), hexDigest("aaaa2"), hexDigest("cccc1"), "docker.io/library/one:latest", "reg.example/x/one:1")
	two := entryOf(hexDigest("aaaa3"), hexDigest("bbbb1"), hexDigest("cccc2"), "docker.io/library/beef:latest")
	none := entryOf(hexDigest("beef1"), hexDigest("beef1"), hexDigest("cccc3"))
	fill(&c, one, two, none)
	for ref, want := range map[string]*Entry{
		"one": one, "one:latest": one, "docker.io/library/one": one, "reg.example/x/one:1": one,
		"one@" + hexDigest("aaaa1").String(): one, "one:other@" + hexDigest("aaaa1").String(): one,
		hexDigest("aaaa1").String(): one, hexDigest("aaaa1").Encoded(): one, "aaaa1": one, "sha256:aaaa1": one,
		"beef": two, "beef1": none, "aaaa": nil, "aaaa2": one, "bbbb": two, "cccc1": one, hexDigest("cccc2").String(): two,
		"one:2": nil, "two@" + hexDigest("aaaa1").String(): nil, hexDigest("dddd").String(): nil, "aaa": nil,
		DanglingName(hexDigest("beef1")): nil,
	} {
		f, err := c.Find(ref)
		if f.Entry != want || (want == nil) != (err != nil) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for ref, want := range map[string]string{
		"aaaa": "ambiguous reference", "gone": "No such image: gone:latest", "reg.example/a:1": "No such image: reg.example/a:1",
		hexDigest("dddd").String(): "No such image: " + hexDigest("dddd").String(),
	} {
		if _, err := c.Find(ref); !errdefs.IsNotFound(err) || err.Error() != want {
			t.Errorf("%s: %v, want %s", ref, err, want)
		}
	}
	for _, ref := range []string{"", "A", "a b", "a:", "a@sha256:1", "-"} {
		if _, err := c.Find(ref); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	fill(&c, two.WithNames(nil))
	if _, err := c.Find("beef"); err != nil {
		t.Errorf("a short ID that a name hid: %v", err)
	}
}

// TestReadersNeverWait changes the catalog while others look things up.
func TestReadersNeverWait(t *testing.T) {
	var c Catalog
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = c.Find("n1")
					c.All()
				}
			}
		})
	}
	for i := range 200 {
		d := hexDigest(fmt.Sprintf("%04x", i))
		fill(&c, entryOf(d, d, d, fmt.Sprintf("docker.io/library/n%d:latest", i)))
	}
	close(stop)
	wait.Wait()
	if len(c.All()) != 200 {
		t.Errorf("%d images", len(c.All()))
	}
}
