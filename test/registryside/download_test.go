package registryside

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/test/harness"
)

const mib = 1 << 20

// stuck answers a blob with its first n bytes, and then with nothing more until release is called.
func stuck(h *hub, l ocispec.Descriptor, n int) (release func()) {
	gate := make(chan struct{})
	h.behave(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, l) {
			return false
		}
		hold(w, r, h.body(l), n, gate)
		return true
	})
	return sync.OnceFunc(func() {
		h.behave(nil)
		close(gate)
	})
}

// hold sends n bytes of a body and waits.
func hold(w http.ResponseWriter, r *http.Request, body []byte, n int, gate chan struct{}) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("ETag", `"`+digest.FromBytes(body).String()+`"`)
	w.Header().Set("Accept-Ranges", "bytes")
	_, _ = w.Write(body[:n])
	_ = http.NewResponseController(w).Flush()
	select {
	case <-gate:
	case <-r.Context().Done():
	}
	panic(http.ErrAbortHandler)
}

// ranges are the Range headers of the requests for a blob.
func ranges(h *hub, l ocispec.Descriptor) []string {
	var out []string
	for _, a := range h.requests(http.MethodGet, "/blobs/"+l.Digest.String()) {
		out = append(out, a.header.Get("Range"))
	}
	return out
}

// TestDownloadsGoOn: what has come of a layer is not fetched again, whatever ended the download.
func TestDownloadsGoOn(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	h := newHub(d)
	t.Run("after kill -9", func(t *testing.T) { afterKill(t, d, h) })
	for name, serve := range map[string]func(http.ResponseWriter, *http.Request, *hub){
		"a server that ignores Range": func(w http.ResponseWriter, r *http.Request, h *hub) {
			r.Header.Del("Range")
			h.answer(w, r)
		},
		"a server that refuses it": func(w http.ResponseWriter, r *http.Request, h *hub) {
			if r.Header.Get("Range") != "" {
				refuse(w, http.StatusRequestedRangeNotSatisfiable, "UNKNOWN")
				return
			}
			h.answer(w, r)
		},
		"a server that has another ETag": func(w http.ResponseWriter, r *http.Request, h *hub) {
			if r.Header.Get("If-Range") != "" { // what is there now is not what the bytes are from
				r.Header.Del("Range")
			}
			h.answer(w, r)
		},
		"a server that gives the wrong part": func(w http.ResponseWriter, r *http.Request, h *hub) {
			if r.Header.Get("Range") != "" {
				r.Header.Set("Range", "bytes=7-")
				r.Header.Del("If-Range")
			}
			h.answer(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			repo := "other" + strconv.Itoa(len(name))
			l := h.simple(repo, "1", 2*mib)[0]
			givenUp(d, h, l, repo)
			h.behave(func(w http.ResponseWriter, r *http.Request) bool {
				if !isBlob(r, l) {
					return false
				}
				serve(w, r, h)
				return true
			})
			defer h.behave(nil)
			h.forget()
			d.OK("pull", h.host+"/"+repo+":1")
			if got := ranges(h, l); len(got) == 0 || got[0] == "" {
				t.Errorf("asked for %q", got)
			}
			if left := beginnings(d); len(left) != 0 {
				t.Errorf("left after the pull: %v", left)
			}
		})
	}
	t.Run("wrong bytes on the disk", func(t *testing.T) {
		l := h.simple("rotten", "1", 2*mib)[0]
		path := givenUp(d, h, l, "rotten")
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("not what was sent"), 1000)
		must(t, err)
		must(t, f.Close())
		h.forget()
		d.OK("pull", h.host+"/rotten:1")
		if got := ranges(h, l); len(got) != 2 || got[0] == "" || got[1] != "" {
			t.Errorf("asked for %q, want a part and then the whole", got)
		}
	})
	t.Run("pruned", func(t *testing.T) {
		givenUp(d, h, h.simple("pruned", "1", 2*mib)[0], "pruned")
		harness.Eventually(t, patience, "the prune tells of a megabyte", func() bool {
			return strings.Contains(post(d, "/images/prune", nil, nil), `"SpaceReclaimed":1048576`)
		})
		if left := beginnings(d); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
	t.Run("what nobody goes on with is removed", func(t *testing.T) {
		l := h.simple("old", "1", 2*mib)[0]
		path := givenUp(d, h, l, "old")
		d.Stop()
		long := time.Now().Add(-25 * time.Hour)
		must(t, os.Chtimes(path, long, long))
		d.Up()
		harness.Eventually(t, patience, "the old beginning is removed", func() bool { return len(beginnings(d)) == 0 })
	})
}

// givenUp ends a pull in the middle of its layer; what has come is on the disk then.
func givenUp(d *harness.Daemon, h *hub, l ocispec.Descriptor, repo string) string {
	d.T.Helper()
	release := stuck(h, l, mib)
	defer release()
	c := begin(d, "pull", h.host+"/"+repo+":1")
	path := have(d, l, mib)
	must(d.T, c.cmd.Process.Kill())
	_ = c.wait(d.T)
	harness.Eventually(d.T, patience, "the daemon has given the pull up", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.gauge[http.MethodGet].now == 0
	})
	return path
}

func afterKill(t *testing.T, d *harness.Daemon, h *hub) {
	l := h.simple("killed", "1", 8*mib)[0]
	release := stuck(h, l, 5*mib)
	defer release()
	c := begin(d, "pull", h.host+"/killed:1")
	path := have(d, l, 5*mib)
	d.Kill()
	_ = c.wait(t)
	release()
	d.Up()
	fi, err := os.Stat(path)
	must(t, err)
	h.forget()
	d.OK("pull", h.host+"/killed:1")
	if got, want := ranges(h, l), "bytes="+strconv.FormatInt(fi.Size(), 10)+"-"; len(got) != 1 || got[0] != want {
		t.Errorf("asked for %q, want %s", got, want)
	}
	if left := beginnings(d); len(left) != 0 {
		t.Errorf("left after the pull: %v", left)
	}
	d.OK("create", "--name", "killed", h.host+"/killed:1")
	if out := d.OK("export", "-o", filepath.Join(t.TempDir(), "x.tar"), "killed"); out != "" {
		t.Error(out)
	}
	d.OK("rm", "killed")
}

// TestDownloadsAreRepeated: what may pass is tried again, patiently, and what will not is not.
func TestDownloadsAreRepeated(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	h := newHub(d)
	t.Run("layers", func(t *testing.T) { layersAgain(t, d, h) })
	t.Run("reset", func(t *testing.T) { // how much of it arrives is the kernel's affair
		l := h.simple("reset", "1", 2*mib)[0]
		var n atomic.Int32
		h.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlob(r, l) || n.Add(1) > 1 {
				return false
			}
			reset(t, w, h.body(l))
			return true
		})
		d.OK("pull", h.host+"/reset:1")
		if n.Load() < 2 {
			t.Errorf("%d requests", n.Load())
		}
	})
	t.Run("manifest", func(t *testing.T) {
		h.simple("manifest", "1", 1000)
		var n atomic.Int32
		h.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") || n.Add(1) > 1 {
				return false
			}
			later(w, "1")
			return true
		})
		d.OK("pull", h.host+"/manifest:1")
	})
	for status, code := range map[int]string{401: "UNAUTHORIZED", 403: "DENIED", 404: "BLOB_UNKNOWN"} {
		t.Run(code, func(t *testing.T) {
			repo := strings.ToLower(code)
			l := h.simple(repo, "1", 1000)[0]
			h.behave(func(w http.ResponseWriter, r *http.Request) bool {
				if !isBlob(r, l) {
					return false
				}
				refuse(w, status, code)
				return true
			})
			h.forget()
			if r := d.Docker("pull", h.host+"/"+repo+":1"); r.Code == 0 || strings.Contains(r.Out, "Retrying") {
				t.Errorf("%d %s%s", r.Code, r.Out, r.Err)
			}
			if got := ranges(h, l); len(got) != 1 {
				t.Errorf("asked %d times", len(got))
			}
		})
	}
	h.behave(nil)
	d.Fails("connection refused", "pull", "127.0.0.1:1/x") // nobody was ever there: no use waiting
}

// layersAgain pulls side by side images whose layers fail once, each in its way.
func layersAgain(t *testing.T, d *harness.Daemon, h *hub) {
	type trouble struct {
		fail  func(w http.ResponseWriter, r *http.Request)
		again bool // with the part that is missing
		says  string
		done  atomic.Bool
	}
	all := map[string]*trouble{
		"cut":         {fail: func(w http.ResponseWriter, r *http.Request) { h.answer(cut(w, mib), r) }, again: true, says: "Retrying in 1 second"},
		"503":         {fail: func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "UNAVAILABLE") }, says: "Retrying in 1 second"},
		"408":         {fail: func(w http.ResponseWriter, _ *http.Request) { refuse(w, 408, "UNKNOWN") }, says: "Retrying in 1 second"},
		"429-seconds": {fail: func(w http.ResponseWriter, _ *http.Request) { later(w, "2") }, says: "Retrying in 2 seconds"},
		"429-date": {fail: func(w http.ResponseWriter, _ *http.Request) {
			later(w, time.Now().Add(3*time.Second).UTC().Format(http.TimeFormat))
		}, says: "seconds"},
	}
	layers := map[string]ocispec.Descriptor{}
	for name := range all {
		layers[name] = h.simple("r"+name, "1", 2*mib)[0]
	}
	h.behave(func(w http.ResponseWriter, r *http.Request) bool {
		for name, c := range all {
			if isBlob(r, layers[name]) && !c.done.Swap(true) {
				c.fail(w, r)
				return true
			}
		}
		return false
	})
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, id := d.Docker("pull", h.host+"/r"+name+":1"), layers[name].Digest.Encoded()[:12]
			if r.Code != 0 || !strings.Contains(r.Out, id+": Retrying in ") || !strings.Contains(r.Out, c.says) {
				t.Errorf("no word of %q in\n%s%s", c.says, r.Out, r.Err)
			}
			if got := ranges(h, layers[name]); len(got) != 2 || (got[1] != "") != c.again {
				t.Errorf("asked for %q", got)
			}
		})
	}
}

func later(w http.ResponseWriter, when string) {
	w.Header().Set("Retry-After", when)
	refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS")
}

// reset begins an answer and ends the connection as a crashed server's kernel does.
func reset(t *testing.T, w http.ResponseWriter, body []byte) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n")
	_, _ = c.Write(body[:mib])
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// TestDownloadAttempts: max-download-attempts counts, and changes while the engine runs.
func TestDownloadAttempts(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	file := filepath.Join(d.Dir, "daemon.json")
	must(t, os.WriteFile(file, []byte(`{"max-download-attempts": 2}`), 0o600))
	d.Up()
	h := newHub(d)
	l := h.simple("app", "1", 1000)[0]
	h.behave(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, l) {
			return false
		}
		refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE")
		return true
	})
	attempts := func() int {
		h.forget()
		d.Fails("as the test wants", "pull", h.host+"/app:1")
		return len(ranges(h, l))
	}
	if n := attempts(); n != 2 {
		t.Errorf("%d attempts with 2 in the file", n)
	}
	must(t, os.WriteFile(file, []byte(`{"max-download-attempts": 1}`), 0o600))
	must(t, syscall.Kill(d.PID(), syscall.SIGHUP))
	harness.Eventually(t, patience, "the file is read again", func() bool { return strings.Contains(d.Log(), "configuration reloaded") })
	if n := attempts(); n != 1 {
		t.Errorf("%d attempts with 1 in the file", n)
	}
	harness.Eventually(t, patience, "the event tells of it", func() bool {
		return strings.Contains(d.OK("events", "--since", "0", "--until", strconv.FormatInt(time.Now().Unix()+1, 10), "--filter", "type=daemon"), "max-download-attempts=1")
	})
}
