package ocispec

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/boot/registryboot/registrytest"
)

// raw sends bytes as they are and reads one answer; nil when the connection is cut.
func raw(t *testing.T, addr, text string) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, _ = io.WriteString(c, text) // the server may stop reading
	_ = c.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil
	}
	_ = resp.Body.Close()
	return resp
}

// intact says that the registry still works and that a repository is still unknown.
func (r *repo) intact(nothing string) {
	r.t.Helper()
	content := random(20)
	r.has(r.blob(content).Digest, content)
	if nothing != "" {
		open(r.t, r.Registry, nothing).want(open(r.t, r.Registry, nothing).do("GET", "/tags/list", nil), 404)
	}
}

func TestEndlessHeaders(t *testing.T) {
	r := start(t)
	c, err := net.Dial("tcp", r.Addr)
	must(t, err)
	defer c.Close() //nolint:errcheck // the server has closed it
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ")
	must(t, err)
	sent, piece := 0, bytes.Repeat([]byte("a"), 1<<20)
	for sent < 1<<30 {
		n, err := c.Write(piece)
		if sent += n; err != nil {
			break
		}
	}
	if sent > 64<<20 {
		t.Errorf("%d bytes of header were taken", sent)
	}
	if resp := raw(t, r.Addr, "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("a", 200<<10)+"\r\n\r\n"); resp != nil && resp.StatusCode != 431 {
		t.Errorf("%d", resp.StatusCode)
	}
	r.intact("")
}

func TestHostileRequests(t *testing.T) {
	r := start(t)
	d := digest.FromString("x").String()
	for _, text := range []string{
		"POST /v2/a/blobs/uploads/?digest=" + d + " HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
		"POST /v2/a/blobs/uploads/?digest=" + d + " HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"POST /v2/a/blobs/uploads/?digest=" + d + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
		"PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n{}",
		"PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
		"PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
		"GET /v2/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v2/a/blobs/../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v2/..%2f..%2fetc/tags/list HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v2/a%00/tags/list HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v2/\xff\xfe/tags/list HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v2/%ff%fe/tags/list HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v2/a/tags/list?n=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v2/a/tags/list?n=99999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET " + strings.Repeat("/v2", 30000) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"PATCH /v2/a/blobs/uploads/../../../x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		"FROB /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + strings.Repeat("A", 60<<10) + "\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		resp := raw(t, r.Addr, text)
		if resp != nil && (resp.StatusCode < 300 || resp.StatusCode >= 500) && !strings.Contains(text, "Basic") && resp.StatusCode != 501 {
			t.Errorf("%.80q: %d", text, resp.StatusCode)
		}
	}
	r.intact("a")
}

// TestLyingLengths: bodies that end before what was announced store nothing.
func TestLyingLengths(t *testing.T) {
	r := start(t)
	content := random(100)
	d := digest.FromBytes(content).String()
	cut := func(head string) {
		t.Helper()
		c, err := net.Dial("tcp", r.Addr)
		must(t, err)
		_, err = io.WriteString(c, head+" HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n\r\n"+string(content))
		must(t, err)
		must(t, c.(*net.TCPConn).CloseWrite())
		_, _ = io.Copy(io.Discard, c)
		must(t, c.Close())
	}
	cut("POST /v2/team/app/blobs/uploads/?digest=" + d)
	r.want(r.do("HEAD", "/blobs/"+d, nil), 404)
	cut("PUT /v2/team/app/manifests/v1")
	r.want(r.do("HEAD", "/manifests/v1", nil), 404)
	at := r.begin()
	cut("PUT /v2/team/app" + at + "?digest=" + d)
	r.want(r.do("HEAD", "/blobs/"+d, nil), 404)
	at = r.begin()
	cut("PATCH /v2/team/app" + at) // what came is kept, and told
	registrytest.Eventually(t, "the upload stands at the bytes that came", func() bool {
		a := r.do("GET", at, nil)
		return a.StatusCode == 204 && a.Header.Get("Range") == "0-99"
	})
	r.want(r.do("PUT", at+"?digest="+d, nil), 201)
	r.has(digest.Digest(d), content)
	r.noStrays(1) // the cut PUT's session goes on
}

// noStrays counts what open uploads hold on disk.
func (r *repo) noStrays(want int) {
	r.t.Helper()
	registrytest.Eventually(r.t, "no upload is left behind", func() bool {
		found := 0
		err := filepath.WalkDir(filepath.Join(r.Dir, "root", "_longshore", "uploads"), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				found++
			}
			return nil
		})
		return err == nil && found == want
	})
}

func TestAbortedUploads(t *testing.T) {
	r := start(t)
	before := runtime.NumGoroutine()
	for range 20 {
		pr, pw := io.Pipe()
		req, err := http.NewRequest("POST", r.URL("/v2/team/app/blobs/uploads/?digest="+digest.FromString("x").String()), pr)
		must(t, err)
		go func() {
			_, _ = pw.Write(random(50_000))
			_ = pw.CloseWithError(io.ErrClosedPipe)
		}()
		if resp, err := r.Client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode < 400 {
				t.Errorf("%d", resp.StatusCode)
			}
		}
	}
	r.noStrays(0)
	r.Client.CloseIdleConnections()
	registrytest.Eventually(t, "the goroutines of cut requests end", func() bool { return runtime.NumGoroutine() < before+10 })
	r.intact("")
}

// TestClientsThatTakeNothing: a client that asks for a blob and does not read it holds up nobody.
func TestClientsThatTakeNothing(t *testing.T) {
	r := start(t)
	content := random(20 << 20)
	d := r.blob(content).Digest
	for range 20 {
		c, err := net.Dial("tcp", r.Addr)
		must(t, err)
		defer c.Close() //nolint:errcheck // it is cut off
		_, err = io.WriteString(c, "GET /v2/team/app/blobs/"+d.String()+" HTTP/1.1\r\nHost: x\r\n\r\n")
		must(t, err)
	}
	r.has(d, content)
}

func TestHostileManifests(t *testing.T) {
	r := start(t)
	good, _ := r.manifest(nil)
	for name, body := range map[string]string{
		"duplicate keys":   strings.Replace(string(good), `{"`, `{"mediaType":"application/x","`, 1),
		"deep nesting":     `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","annotations":` + strings.Repeat(`{"a":`, 100_000) + `1` + strings.Repeat(`}`, 100_000) + `}`,
		"not UTF-8":        strings.Replace(string(good), `"schemaVersion"`, "\"\xff\xfe\":1,\"schemaVersion\"", 1),
		"negative size":    strings.Replace(string(good), `"size":100`, `"size":-100`, 1),
		"huge size":        strings.Replace(string(good), `"size":100`, `"size":1e400`, 1),
		"digest traversal": strings.Replace(string(good), `"digest":"sha256:`, `"digest":"../../`, 1),
		"wrong version":    strings.Replace(string(good), `"schemaVersion":2`, `"schemaVersion":1`, 1),
		"a list":           `[` + string(good) + `]`,
	} {
		a := r.do("PUT", "/manifests/bad", []byte(body), mediaType(ocispec.MediaTypeImageManifest))
		if a.StatusCode < 400 || a.StatusCode >= 500 {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.Text)
		}
	}
	r.want(r.do("GET", "/manifests/bad", nil), 404)
	a := r.do("PUT", "/manifests/bad", good, mediaType("text/html"))
	if a.StatusCode < 400 || a.StatusCode >= 500 {
		t.Errorf("a type that is none: %d", a.StatusCode)
	}
}

// TestTwoWritersOnOneTag and many writers on many: the last wins, none is lost.
func TestManyWriters(t *testing.T) {
	r := start(t)
	const writers, each = 16, 25
	bodies := make([][]byte, writers)
	for i := range bodies {
		bodies[i], _ = r.manifest(nil)
	}
	var wg sync.WaitGroup
	for i, body := range bodies {
		wg.Go(func() {
			for j := range each {
				for _, tag := range []string{"shared", fmt.Sprintf("w%d-%d", i, j)} {
					a := r.do("PUT", "/manifests/"+tag, body, mediaType(ocispec.MediaTypeImageManifest))
					if a.StatusCode != 201 {
						t.Errorf("%s: %d %s", tag, a.StatusCode, a.Text)
					}
				}
			}
		})
	}
	wg.Wait()
	var list tagList
	must(t, json.Unmarshal([]byte(r.do("GET", "/tags/list", nil).Text), &list))
	if len(list.Tags) != writers*each+1 {
		t.Errorf("%d tags", len(list.Tags))
	}
	shared := r.want(r.do("GET", "/manifests/shared", nil), 200)
	if digest.FromString(shared.Text).String() != shared.Header.Get("Docker-Content-Digest") {
		t.Error("a mixture")
	}
}
