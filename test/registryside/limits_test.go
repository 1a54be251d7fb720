package registryside

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore/test/harness"
)

// slowly gives other requests the time to come, if there are others.
func slowly(http.ResponseWriter, *http.Request) bool {
	<-time.After(30 * time.Millisecond)
	return false
}

// TestLimitsAreTheEngines: the registry counts what is transferred at a time by several pulls, and pushes, together.
func TestLimitsAreTheEngines(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, "--max-concurrent-downloads", "2", "--max-concurrent-uploads", "2")
	h := newHub(d)
	h.behave(slowly)
	var pulls []*command
	for i := range 3 {
		repo := "app" + strconv.Itoa(i)
		h.simple(repo, "1", 1000, 2000, 3000, 4000)
		pulls = append(pulls, begin(d, "pull", h.host+"/"+repo+":1"))
	}
	for _, p := range pulls {
		if err := p.wait(t); err != nil {
			t.Fatalf("%v: %s", err, p)
		}
	}
	if n := h.most(http.MethodGet); n != 2 {
		t.Errorf("%d downloads at a time, want 2", n)
	}
	h.mu.Lock()
	clear(h.blobs)
	h.mu.Unlock()
	h.forget()
	var pushes []*command
	for i := range 3 {
		pushes = append(pushes, begin(d, "push", h.host+"/app"+strconv.Itoa(i)+":1"))
	}
	for _, p := range pushes {
		if err := p.wait(t); err != nil {
			t.Fatalf("%v: %s", err, p)
		}
	}
	if n := h.most(http.MethodPut); n != 2 {
		t.Errorf("%d uploads at a time, want 2", n)
	}
}

// TestSmallPullsAreLetIn: an image whose layers take all slots, and whose server sends nothing any more, does not keep
// another pull waiting, and goes on where it was.
func TestSmallPullsAreLetIn(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	h := newHub(d)
	layers := h.simple("huge", "1", 8*mib, 8*mib, 8*mib, 8*mib)
	h.simple("small", "1", 1000, 2000)
	gate := make(chan struct{})
	release := sync.OnceFunc(func() {
		h.behave(nil)
		close(gate)
	})
	defer release()
	h.behave(func(w http.ResponseWriter, r *http.Request) bool {
		for _, l := range layers {
			if isBlob(r, l) && r.Header.Get("Range") == "" {
				hold(w, r, h.body(l), mib, gate)
				return true
			}
		}
		if strings.Contains(r.Header.Get("Range"), "bytes=") {
			select {
			case <-gate:
			case <-r.Context().Done():
			}
		}
		return false
	})
	huge := begin(d, "pull", h.host+"/huge:1")
	harness.Eventually(t, patience, "three layers are on their way", func() bool {
		n := 0
		for _, size := range beginnings(d) {
			if size >= mib {
				n++
			}
		}
		return n == 3
	})
	small := begin(d, "pull", h.host+"/small:1")
	if err := small.wait(t); err != nil {
		t.Fatalf("%v: %s", err, small)
	}
	release()
	if err := huge.wait(t); err != nil {
		t.Fatalf("%v: %s", err, huge)
	}
	again := 0
	for _, l := range layers {
		for _, r := range ranges(h, l) {
			if r != "" && r != "bytes=0-" {
				again++
			}
		}
	}
	if again == 0 {
		t.Error("no layer made room and went on where it was")
	}
}
