package registryside

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/test/harness"
)

// lose removes a blob, so that it is pushed again.
func (h *hub) lose(d ocispec.Descriptor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.blobs, d.Digest)
}

func (h *hub) has(d ocispec.Descriptor) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.blobs[d.Digest]
	return ok
}

// uploadOf tells requests that carry a blob of more than a configuration's size.
func uploadOf(r *http.Request) bool {
	return strings.Contains(r.URL.Path, "/blobs/uploads/") && (r.Method == http.MethodPut || r.Method == http.MethodPatch) && r.ContentLength > 100_000
}

// TestUploadsGoOn: a push that broke sends what is missing, where the registry knows what that is.
func TestUploadsGoOn(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	h := newHub(d)
	layer := h.simple("src", "1", 4*mib)[0]
	d.OK("pull", h.host+"/src:1")
	for name, c := range map[string]struct {
		spoil    func(id string) // what becomes of the beginning
		resumed  bool
		uploaded int // how many uploads were begun for the layer
	}{
		"with what is missing":        {func(string) {}, true, 1},
		"anew, when it is forgotten":  {func(id string) { delete(h.uploads, id) }, false, 2},
		"anew, when it is wrong":      {func(id string) { h.uploads[id][7]++ }, true, 2},
		"anew, when nothing was kept": {func(id string) { h.uploads[id] = nil }, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			h.lose(layer)
			h.forget()
			var n, begun, patched atomic.Int32
			h.behave(func(_ http.ResponseWriter, r *http.Request) bool {
				if uploadOf(r) && r.Method == http.MethodPut && r.Header.Get("Content-Range") == "" {
					begun.Add(1)
				}
				if r.Method == http.MethodPatch {
					patched.Add(1)
				}
				if !uploadOf(r) || n.Add(1) > 1 {
					return false
				}
				id := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
				body, _ := io.ReadAll(io.LimitReader(r.Body, 2*mib))
				h.mu.Lock()
				h.uploads[id] = body
				c.spoil(id)
				h.mu.Unlock()
				panic(http.ErrAbortHandler)
			})
			defer h.behave(nil)
			tag := h.host + "/dst:" + strings.NewReplacer(" ", "-", ",", "").Replace(name)
			d.OK("tag", h.host+"/src:1", tag)
			out := d.OK("push", tag)
			if !strings.Contains(out, layer.Digest.Encoded()[:12]+": Retrying in 1 second") || !strings.Contains(out, layer.Digest.Encoded()[:12]+": Pushed") {
				t.Errorf("push says\n%s", out)
			}
			if !h.has(layer) {
				t.Error("the layer did not arrive")
			}
			if (patched.Load() > 0) != c.resumed || int(begun.Load()) != c.uploaded {
				t.Errorf("%d uploads were begun, %d gone on with", begun.Load(), patched.Load())
			}
			for _, a := range h.requests(http.MethodPatch, "/uploads/") {
				if got := a.header.Get("Content-Range"); !strings.HasPrefix(got, "2097152-") {
					t.Errorf("gone on with from %s", got)
				}
			}
		})
	}
	t.Run("what the registry has no time for", func(t *testing.T) {
		h.lose(layer)
		var blobs, manifests atomic.Int32
		h.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if uploadOf(r) && blobs.Add(1) == 1 || strings.Contains(r.URL.Path, "/manifests/") && r.Method == http.MethodPut && manifests.Add(1) == 1 {
				refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE")
				return true
			}
			return false
		})
		defer h.behave(nil)
		d.OK("tag", h.host+"/src:1", h.host+"/dst:busy")
		d.OK("push", h.host+"/dst:busy")
		if blobs.Load() != 2 || manifests.Load() != 2 || !h.has(layer) {
			t.Errorf("%d blobs, %d manifests", blobs.Load(), manifests.Load())
		}
	})
	t.Run("what it does not want", func(t *testing.T) {
		h.lose(layer)
		var n atomic.Int32
		h.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if !uploadOf(r) {
				return false
			}
			n.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			refuse(w, http.StatusForbidden, "DENIED")
			return true
		})
		defer h.behave(nil)
		d.OK("tag", h.host+"/src:1", h.host+"/dst:denied")
		d.Fails("denied", "push", h.host+"/dst:denied")
		if n.Load() != 1 {
			t.Errorf("sent %d times", n.Load())
		}
	})
}
