// Package registryside tests what the engine does with registries that are not at their best: connections break, servers
// ask to wait, mirrors are down, proxies stand in between. The registry is the test itself, so that it can count and misbehave.
package registryside

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/test/harness"
)

const patience = 30 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// asked is a request that a hub has seen.
type asked struct {
	method, path string
	header       http.Header
	query        url.Values
}

// hub is a registry whose behaviour a test can change.
type hub struct {
	t      testing.TB
	host   string
	server *httptest.Server

	mu        sync.Mutex
	blobs     map[digest.Digest][]byte
	manifests map[string]ocispec.Descriptor // by "repo:tag" and "repo@digest"
	uploads   map[string][]byte
	seen      []asked
	// script sees each request first; true means that it has answered.
	script func(w http.ResponseWriter, r *http.Request) bool
	gauge  map[string]*gauge // by method
}

// gauge counts what goes on at a time.
type gauge struct{ now, most int }

func newHub(d *harness.Daemon) *hub {
	h := emptyHub(d.T)
	h.server = &httptest.Server{Listener: d.Listen(), Config: &http.Server{Handler: h}}
	h.server.Start()
	d.T.Cleanup(h.server.Close)
	h.host = strings.TrimPrefix(h.server.URL, "http://")
	return h
}

func emptyHub(t testing.TB) *hub {
	return &hub{t: t, blobs: map[digest.Digest][]byte{}, manifests: map[string]ocispec.Descriptor{}, uploads: map[string][]byte{}, gauge: map[string]*gauge{}}
}

// behave sets the script.
func (h *hub) behave(f func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.script = f
}

// forget empties the list of requests.
func (h *hub) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen, h.gauge = nil, map[string]*gauge{}
}

// requests are those with the method whose path has the word in it.
func (h *hub) requests(method, word string) []asked {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []asked
	for _, a := range h.seen {
		if (method == "" || a.method == method) && strings.Contains(a.path, word) {
			out = append(out, a)
		}
	}
	return out
}

// body is a blob's bytes.
func (h *hub) body(d ocispec.Descriptor) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.blobs[d.Digest]
}

func (h *hub) most(method string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.gauge[method]; g != nil {
		return g.most
	}
	return 0
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.seen = append(h.seen, asked{r.Method, r.URL.Path, r.Header.Clone(), r.URL.Query()})
	script := h.script
	h.mu.Unlock()
	if strings.Contains(r.URL.Path, "/blobs/") {
		defer h.count(r.Method)()
	}
	if script == nil || !script(w, r) {
		h.answer(w, r)
	}
}

func (h *hub) count(method string) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.gauge[method]
	if g == nil {
		g = &gauge{}
		h.gauge[method] = g
	}
	g.now++
	g.most = max(g.most, g.now)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		g.now--
	}
}

var route = regexp.MustCompile(`^/v2/(.+)/(blobs|manifests|tags)/(uploads/.*|[^/]+)$`)

// answer does what a registry does.
func (h *hub) answer(w http.ResponseWriter, r *http.Request) {
	m := route.FindStringSubmatch(r.URL.Path)
	switch {
	case r.URL.Path == "/v2/":
	case m == nil:
		http.NotFound(w, r)
	case m[2] == "blobs" && strings.HasPrefix(m[3], "uploads/"):
		h.upload(w, r, m[1], strings.TrimPrefix(m[3], "uploads/"))
	case m[2] == "blobs":
		h.blob(w, r, digest.Digest(m[3]))
	case m[2] == "manifests":
		h.manifest(w, r, m[1], m[3])
	default:
		http.NotFound(w, r)
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"as the test wants"}]}`, code)
}

func (h *hub) blob(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	h.mu.Lock()
	b, ok := h.blobs[d]
	h.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	w.Header().Set("ETag", `"`+d.String()+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (h *hub) manifest(w http.ResponseWriter, r *http.Request, repo, ref string) {
	name := repo + ":" + ref
	if strings.Contains(ref, ":") {
		name = repo + "@" + ref
	}
	if r.Method == http.MethodPut {
		b, _ := io.ReadAll(r.Body)
		d := ocispec.Descriptor{MediaType: r.Header.Get("Content-Type"), Digest: digest.FromBytes(b), Size: int64(len(b))}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.blobs[d.Digest], h.manifests[name], h.manifests[repo+"@"+d.Digest.String()] = b, d, d
		w.Header().Set("Docker-Content-Digest", d.Digest.String())
		w.WriteHeader(http.StatusCreated)
		return
	}
	h.mu.Lock()
	d, ok := h.manifests[name]
	b := h.blobs[d.Digest]
	h.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	w.Header().Set("Content-Type", d.MediaType)
	w.Header().Set("Docker-Content-Digest", d.Digest.String())
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(b)
	}
}

// upload is the whole of the upload protocol; a body that breaks off is kept as far as it came.
func (h *hub) upload(w http.ResponseWriter, r *http.Request, repo, id string) {
	location := func(id string) { w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id+"?state=x") }
	if r.Method == http.MethodPost {
		h.mu.Lock()
		defer h.mu.Unlock()
		id = strconv.Itoa(len(h.uploads) + 1)
		h.uploads[id] = nil
		location(id)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	h.mu.Lock()
	have, ok := h.uploads[id]
	h.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
		return
	}
	if cr := r.Header.Get("Content-Range"); cr != "" && !strings.HasPrefix(cr, strconv.Itoa(len(have))+"-") {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID")
		return
	}
	body, err := io.ReadAll(r.Body)
	have = append(have, body...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uploads[id] = have
	location(id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(len(have)-1, 0)))
	switch {
	case err != nil:
		return
	case r.Method == http.MethodGet:
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPatch:
		w.WriteHeader(http.StatusAccepted)
	case digest.FromBytes(have).String() != r.URL.Query().Get("digest"):
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID")
	default:
		h.blobs[digest.FromBytes(have)] = have
		delete(h.uploads, id)
		w.WriteHeader(http.StatusCreated)
	}
}

// put stores bytes.
func (h *hub) put(mediaType string, b []byte) ocispec.Descriptor {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	h.blobs[d.Digest] = b
	return d
}

// name points a name at a manifest or index that is stored.
func (h *hub) name(repo, tag string, d ocispec.Descriptor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.manifests[repo+":"+tag], h.manifests[repo+"@"+d.Digest.String()] = d, d
}

// layer is a tar of random bytes, stored, with its diff ID.
func (h *hub) layer(size int) (ocispec.Descriptor, digest.Digest) {
	b := tarOf(h.t, randomBytes(size))
	return h.put(ocispec.MediaTypeImageLayer, b), digest.FromBytes(b)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8(sha256.Sum256([]byte(strconv.FormatInt(time.Now().UnixNano(), 36))))
	_, _ = src.Read(b)
	return b
}

func tarOf(t testing.TB, body []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(body)
	return tarNamed(t, "data-"+hex.EncodeToString(sum[:4]), body)
}

func tarNamed(t testing.TB, name string, body []byte) []byte {
	t.Helper()
	return archive(t, map[string][]byte{name: body})
}

// archive is a tar of files.
func archive(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, body := range files {
		must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}))
		_, err := w.Write(body)
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return b
}

// image makes an image of layers and names it.
func (h *hub) image(repo, tag, arch string, layers []ocispec.Descriptor, diffs []digest.Digest) ocispec.Descriptor {
	cfg := h.put(ocispec.MediaTypeImageConfig, encode(h.t, map[string]any{
		"os": "linux", "architecture": arch, "config": map[string]any{"Cmd": []string{"/x"}}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	}))
	m := h.put(ocispec.MediaTypeImageManifest, encode(h.t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": cfg, "layers": layers,
	}))
	h.name(repo, tag, m)
	return m
}

// simple is an image of random layers of the sizes.
func (h *hub) simple(repo, tag string, sizes ...int) []ocispec.Descriptor {
	var layers []ocispec.Descriptor
	var diffs []digest.Digest
	for _, n := range sizes {
		l, d := h.layer(n)
		layers, diffs = append(layers, l), append(diffs, d)
	}
	h.image(repo, tag, "amd64", layers, diffs)
	return layers
}

func isBlob(r *http.Request, d ocispec.Descriptor) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/blobs/"+d.Digest.String())
}

// cut lets the answer break off after n bytes of its body.
func cut(w http.ResponseWriter, n int) http.ResponseWriter { return &cutting{w, n} }

type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// command is a docker CLI that goes on in the background.
type command struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
	end chan error
}

func (c *command) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *command) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

func (c *command) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-c.end:
		return err
	case <-time.After(2 * patience):
		t.Fatalf("docker does not end:\n%s", c)
		return nil
	}
}

func begin(d *harness.Daemon, args ...string) *command {
	d.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &command{cmd: exec.CommandContext(ctx, "docker", args...), end: make(chan error, 1)}
	c.cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+d.Socket, "DOCKER_CONFIG="+filepath.Join(d.Dir, "cli"))
	c.cmd.Stdout, c.cmd.Stderr = c, c
	must(d.T, c.cmd.Start())
	go func() { c.end <- c.cmd.Wait() }()
	d.T.Cleanup(cancel)
	return c
}

// beginnings are the broken downloads on the disk.
func beginnings(d *harness.Daemon) map[string]int64 {
	out := map[string]int64{}
	entries, _ := os.ReadDir(filepath.Join(d.DataRoot(), "downloads"))
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			out[filepath.Join(d.DataRoot(), "downloads", e.Name())] = fi.Size()
		}
	}
	return out
}

// have waits until that much of a blob is on the disk, and gives its file.
func have(d *harness.Daemon, l ocispec.Descriptor, n int64) string {
	d.T.Helper()
	path := filepath.Join(d.DataRoot(), "downloads", "sha256-"+l.Digest.Encoded())
	harness.Eventually(d.T, patience, fmt.Sprintf("%d bytes of %s are here", n, l.Digest), func() bool { return beginnings(d)[path] >= n })
	return path
}

// quiet is the log of a server whose clients are expected to go away.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
