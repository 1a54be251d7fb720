package registryv1

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore/internal/boot/registryboot/registrytest"
)

// filesBelow reads every file of a folder.
func filesBelow(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		out[path] = data
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestBadInput: what cannot be an image is refused with the old words, and leaves nothing.
func TestBadInput(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	id := idOf("a")
	put := func(kind, body string, status int, header ...string) {
		t.Helper()
		c.do("PUT", r.Addr, "/v1/images/"+id+"/"+kind, unsized([]byte(body)), header...).want(t, status)
	}
	for _, doc := range []string{
		"", "{", "null", "[]", `"x"`, `{}`, `{"id": 1}`, `{"id": "` + idOf("b") + `"}`, `{"id": "` + strings.ToUpper(id) + `"}`,
		`{"id": "` + id + `", "id": "` + id + `"}`, `{"id": "` + id + `", "parent": "x"}`, `{"id": "` + id + `", "parent": 7}`,
		`{"id": "` + id + `", "parent": "` + id + `"}`, `{"id": "` + id + `"} {}`, "{\"id\": \"" + id + "\xff\"}",
		`{"id": "` + id + `", "x": "` + strings.Repeat("y", 1<<20) + `"}`, strings.Repeat("[", 100_000),
	} {
		put("json", doc, 400)
	}
	good := `{"id": "` + id + `"}`
	put("json", good, 400, "X-Docker-Checksum", "md5:123")
	put("json", good, 400, "X-Docker-Checksum", "sha256:123")
	put("json", good, 200)
	layer := tarOf(t, file{"a", "b", 0})
	whole := gzipped(t, layer)
	broken := bytes.Clone(whole)
	broken[len(broken)/2] ^= 0xff
	for name, body := range map[string][]byte{
		"text": []byte(strings.Repeat("not a tar", 1000)), "much text": bytes.Repeat([]byte("not a tar"), 1<<20), "half a gzip": whole[:len(whole)/2],
		"a tar and much text after a broken header": append(tarOf(t, file{"a", "b", 0})[:1024], bytes.Repeat([]byte("x"), 8<<20)...), "a broken gzip": broken,
		"half a tar": tarOf(t, file{"a", strings.Repeat("b", 5000), 0})[:3000], "a gzip of text": gzipped(t, []byte(strings.Repeat("x", 2000))), "a gzip's beginning": {0x1f, 0x8b, 8},
		"zstd's beginning": {0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0}, "bzip2's beginning": []byte("BZh9xxxx"), "xz' beginning": []byte("\xfd7zXZ\x00\x00\x00"),
	} {
		a := c.do("PUT", r.Addr, "/v1/images/"+id+"/layer", unsized(body))
		if a.StatusCode != 400 || !strings.Contains(string(a.body), "Layer format not supported") {
			t.Errorf("%s: %s: %s", name, a.Status, a.body)
		}
	}
	put("layer", string(whole), 400, "X-Docker-Checksum", "tarsum+sha256:"+id)
	put("layer", string(whole), 400, "X-Docker-Checksum-Payload", "sha256:"+id)
	put("layer", string(whole), 400, "X-Docker-Checksum", "tarsum.v9+sha256:"+id)
	c.do("PUT", r.Addr, "/v1/repositories/foo/bar/tags/v1", strings.NewReader(`"`+id+`"`)).want(t, 409) // still without a layer
	put("layer", string(whole), 200)
	put("checksum", "", 400, "X-Docker-Checksum", "tarsum.v1+sha256:"+id)
	for _, body := range []string{"", "x", id, `["` + id + `"]`, `"` + id + `" "`, `"` + strings.Repeat("a", 5000) + `"`} {
		c.do("PUT", r.Addr, "/v1/repositories/foo/bar/tags/v1", strings.NewReader(body)).want(t, 400)
	}
	for _, path := range []string{
		"/v1/repositories/", "/v1/repositories//tags", "/v1/repositories/FOO/bar/tags", "/v1/repositories/../../etc/tags", "/v1/repositories/_v1/x/tags",
		"/v1/repositories/foo/bar%00/tags", "/v1/images/..%2f..%2fx/json", "/v1/images/" + id, "/v1/images/" + id + "/json/x", "/v1/" + strings.Repeat("x", 5000),
	} {
		if a := c.do("GET", r.Addr, path, nil); a.StatusCode != 400 && a.StatusCode != 404 && a.StatusCode != 301 {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
	c.do("PUT", r.Addr, "/v1/repositories/foo/bar/", strings.NewReader(strings.Repeat(" ", 5<<20))).want(t, 413)
	c.do("GET", r.Addr, "/v1/repositories/foo/bar/tags", nil).want(t, 404)
	// After all that, the image can be pushed.
	c.do("PUT", r.Addr, "/v1/repositories/foo/bar/tags/v1", strings.NewReader(`"`+id+`"`)).want(t, 200)
	pullV2(t, r.Addr, "foo/bar:v1")
}

// endless fails in the middle, as a client that dies does.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	if e.n -= len(p); e.n < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// TestClientDies amid a layer: the image is as it was, and can be pushed again.
func TestClientDies(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	chain := chainOf(t, "a")
	i := chain[0]
	c.do("PUT", r.Addr, "/v1/images/"+i.id+"/json", bytes.NewReader(i.json)).want(t, 200)
	if _, err := c.try("PUT", r.Addr, "/v1/images/"+i.id+"/layer", &endless{1 << 20}); err == nil {
		t.Fatal("the request did not fail")
	}
	// The server may still be noticing.
	deadline := time.Now().Add(30 * time.Second)
	for {
		a := c.do("PUT", r.Addr, "/v1/images/"+i.id+"/layer", unsized(i.layer))
		if a.StatusCode == 200 {
			break
		}
		if a.StatusCode != 409 || time.Now().After(deadline) {
			t.Fatalf("%s: %s", a.Status, a.body)
		}
	}
	c.do("PUT", r.Addr, "/v1/repositories/foo/bar/tags/v1", strings.NewReader(`"`+i.id+`"`)).want(t, 200)
	same(t, c.pull("foo/bar", "v1"), chain[:1])
}

// TestManyAtOnce: clients that push the same images, and others, to the same repository and to others.
func TestManyAtOnce(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	shared := chainOf(t, "shared")
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			c := newClient(t, r.Addr, "", "")
			own := chainOf(t, fmt.Sprint("own ", n%3))
			for round := range 3 {
				pushUntil(c, "foo/bar", fmt.Sprint("own-", n%3), own)
				pushUntil(c, "foo/bar", "shared", shared)
				pushUntil(c, fmt.Sprint("foo/r", n%4), fmt.Sprint("v", round), shared)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	c := newClient(t, r.Addr, "", "")
	same(t, c.pull("foo/bar", "shared"), shared)
	for n := range 3 {
		same(t, c.pull("foo/bar", fmt.Sprint("own-", n)), chainOf(t, fmt.Sprint("own ", n)))
		pullV2(t, r.Addr, fmt.Sprint("foo/bar:own-", n))
	}
}

// pushUntil pushes, and waits where another is pushing the same image: 409 says so.
func pushUntil(c *client, name, tag string, chain []image) {
	fail := func(a answer, err error) { c.t.Errorf("push %s:%s: %v %v %s", name, tag, err, a.Response, a.body) }
	a, err := c.try("PUT", c.index, "/v1/repositories/"+name+"/", nil, "X-Docker-Token", "true")
	if err != nil || a.StatusCode != 200 {
		fail(a, err)
		return
	}
	token := "Token " + a.Header.Get("X-Docker-Token")
	deadline := time.Now().Add(30 * time.Second)
	for _, i := range chain {
		base := "/v1/images/" + i.id + "/"
		for {
			a, err := c.try("GET", c.index, base+"json", nil, "Authorization", token)
			if err != nil || time.Now().After(deadline) {
				fail(a, err)
				return
			}
			if a.StatusCode == 200 {
				break
			}
			for _, step := range []struct{ kind, body, sum string }{{"json", string(i.json), ""}, {"layer", string(i.layer), ""}, {"checksum", "", i.payload()}} {
				a, err = c.try("PUT", c.index, base+step.kind, unsized([]byte(step.body)), "Authorization", token, "X-Docker-Checksum-Payload", step.sum)
				if err != nil || a.StatusCode != 200 && a.StatusCode != 409 && a.StatusCode != 404 {
					fail(a, err)
					return
				}
				if a.StatusCode != 200 {
					time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond) // another is at it
					break
				}
			}
		}
	}
	a, err = c.try("PUT", c.index, "/v1/repositories/"+name+"/tags/"+tag, strings.NewReader(`"`+chain[len(chain)-1].id+`"`), "Authorization", token)
	if err != nil || a.StatusCode != 200 {
		fail(a, err)
	}
}

// TestNothingInBetween: a tag is seen with everything of its image, or not at all, also when the registry ends at any time.
func TestNothingInBetween(t *testing.T) {
	dir := t.TempDir()
	chain := chainOf(t, "a")
	r := registrytest.StartIn(t, dir, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	s := c.begin("foo/bar", chain)
	for _, i := range chain {
		s.pushImage(i)
		c.do("GET", r.Addr, "/v1/repositories/foo/bar/tags", nil).want(t, 404)
	}
	r.Stop()
	r = registrytest.StartIn(t, dir, registrytest.Plain, on)
	c = newClient(t, r.Addr, "", "")
	c.do("GET", r.Addr, "/v1/repositories/foo/bar/tags", nil).want(t, 404)
	c.push("foo/bar", "v1", chain)
	same(t, c.pull("foo/bar", "v1"), chain)
}

// TestSwitchedOff: without the key and outside of "longshore serve" there is no /v1/.
func TestSwitchedOff(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain)
	if a := r.Do(t, "GET", "/v1/_ping", nil); a.StatusCode != 404 {
		t.Fatal(a.Status)
	}
	r = registrytest.Start(t, strings.Replace(registrytest.Plain, `"http"`, `"extensions": {"v1": {"enable": true, "standalone": false, "endpoints": ["a.example.com", "b.example.com:5000"]}}, "http"`, 1))
	if a := r.Do(t, "GET", "/v1/_ping", nil); a.StatusCode != 200 || a.Header.Get("X-Docker-Registry-Standalone") != "False" {
		t.Fatal(a.Status, a.Header)
	}
	if a := r.Do(t, "PUT", "/v1/repositories/foo/bar/", nil); a.Header.Get("X-Docker-Endpoints") != "a.example.com, b.example.com:5000" {
		t.Fatal(a.Status, a.Header)
	}
	if a := r.Do(t, "GET", "/v1/repositories/foo/bar/tags", nil); a.StatusCode != 401 {
		t.Fatal(a.Status)
	}
	r = registrytest.Start(t, strings.Replace(registrytest.Plain, `"http"`, `"extensions": {"v1": {"enable": false}}, "http"`, 1), on)
	if a := r.Do(t, "GET", "/v1/_ping", nil); a.StatusCode != 404 {
		t.Fatal(a.Status)
	}
}
