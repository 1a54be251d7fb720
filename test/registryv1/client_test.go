// Package registryv1 tests registry API v1 and the index API v1 from outside: the requests and answers of their documents,
// a client written from hub_registry_spec, and what clients of today make of the same content.
package registryv1

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strconv"
	"strings"
	"testing"
	"time"

	"longshore/internal/boot/registryboot"
)

// on serves registry API v1 as "longshore serve" does.
func on(o *registryboot.Options) { o.V1 = true }

// client is a docker of 2013 to 2015, written from the specification of index and registry: it asks the index where a
// repository lives and for a token, and speaks to the registry with that token and the cookie it gets for it.
type client struct {
	t     testing.TB
	index string // host of the index
	http  *http.Client
	// user and password are empty for nobody.
	user, password string
}

func newClient(t testing.TB, host, user, password string) *client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t: t, index: host, user: user, password: password, http: &http.Client{Jar: jar, Timeout: time.Minute}}
}

// image is what a client of that time has on its disk.
type image struct {
	id    string
	json  []byte
	layer []byte
}

func (i image) payload() string {
	h := sha256.New()
	h.Write(i.json)
	h.Write([]byte("\n"))
	h.Write(i.layer)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// answer is an answer with its body read.
type answer struct {
	*http.Response
	body []byte
}

func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s %s: %s, want %d\n%s", a.Request.Method, a.Request.URL, a.Status, status, a.body)
	}
	return a
}

// decode reads a JSON answer.
func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s %s: %v in %q", a.Request.Method, a.Request.URL, err, a.body)
	}
}

// do sends a request; header lists names and values.
func (c *client) do(method, host, path string, body io.Reader, header ...string) answer {
	c.t.Helper()
	a, err := c.try(method, host, path, body, header...)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (c *client) try(method, host, path string, body io.Reader, header ...string) (answer, error) {
	req, err := http.NewRequest(method, "http://"+host+path, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] != "" {
			req.Header.Add(header[i], header[i+1])
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(resp.Body)
	return answer{resp, b}, err
}

// basic is the header of the client's user, or nothing.
func (c *client) basic() []string {
	if c.user == "" {
		return []string{"", ""}
	}
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(c.user, c.password)
	return []string{"Authorization", r.Header.Get("Authorization")}
}

// ask speaks to the index with name and password, and asks for a token.
func (c *client) ask(method, path string, body []byte) answer {
	c.t.Helper()
	return c.do(method, c.index, path, bytes.NewReader(body), append(c.basic(), "X-Docker-Token", "true", "Content-Type", "application/json")...)
}

// session is what the index gave for a registry.
type session struct {
	*client
	host, token string
}

func (c *client) session(a answer) *session {
	c.t.Helper()
	host, _, _ := strings.Cut(a.Header.Get("X-Docker-Endpoints"), ",")
	token := a.Header.Get("X-Docker-Token")
	if host == "" || token == "" {
		c.t.Fatalf("no token or no endpoint in %v", a.Header)
	}
	if w := a.Header.Get("WWW-Authenticate"); w != "Token "+token {
		c.t.Fatalf("WWW-Authenticate is %q, the token %q", w, token)
	}
	return &session{c, host, token}
}

// send speaks to the registry with the token; the jar adds the cookie.
func (s *session) send(method, path string, body io.Reader, header ...string) answer {
	s.t.Helper()
	return s.do(method, s.host, path, body, append([]string{"Authorization", "Token " + s.token}, header...)...)
}

// push is the whole push of a chain, base first. With chunked false nothing tells the layer's length beforehand.
func (c *client) push(name, tag string, chain []image) {
	c.t.Helper()
	s := c.begin(name, chain)
	for _, i := range chain {
		s.pushImage(i)
	}
	s.send("PUT", "/v1/repositories/"+name+"/tags/"+tag, strings.NewReader(`"`+chain[len(chain)-1].id+`"`)).want(c.t, 200)
	c.finish(name, tag, chain)
}

// begin allocates the repository.
func (c *client) begin(name string, chain []image) *session {
	c.t.Helper()
	var list []map[string]string
	for _, i := range chain {
		list = append(list, map[string]string{"id": i.id})
	}
	body, err := json.Marshal(list)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.session(c.ask("PUT", "/v1/repositories/"+name+"/", body).want(c.t, 200))
}

// pushImage is docker's: look, document, layer in chunks, checksum.
func (s *session) pushImage(i image) {
	s.t.Helper()
	base := "/v1/images/" + i.id + "/"
	if s.send("GET", base+"json", nil).StatusCode == 200 {
		return // pushed already
	}
	s.send("PUT", base+"json", bytes.NewReader(i.json)).want(s.t, 200)
	s.send("PUT", base+"layer", unsized(i.layer), "Content-Type", "application/octet-stream").want(s.t, 200)
	s.send("PUT", base+"checksum", nil, "X-Docker-Checksum-Payload", i.payload()).want(s.t, 200)
}

// unsized makes net/http send chunks.
func unsized(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }

// finish tells the index the checksums.
func (c *client) finish(name, tag string, chain []image) {
	c.t.Helper()
	var list []map[string]string
	for n, i := range chain {
		r := map[string]string{"id": i.id, "checksum": i.payload()}
		if n == len(chain)-1 {
			r["Tag"] = tag
		}
		list = append(list, r)
	}
	body, err := json.Marshal(list)
	if err != nil {
		c.t.Fatal(err)
	}
	c.do("PUT", c.index, "/v1/repositories/"+name+"/images", bytes.NewReader(body), append(c.basic(), "X-Docker-Endpoints", c.index)...).want(c.t, 204)
}

// pull is the whole pull of a tag, base first.
func (c *client) pull(name, tag string) []image {
	c.t.Helper()
	a := c.ask("GET", "/v1/repositories/"+name+"/images", nil).want(c.t, 200)
	var listed []struct{ ID, Checksum, Tag string }
	a.decode(c.t, &listed)
	s := c.session(a)
	var id string
	s.send("GET", "/v1/repositories/"+name+"/tags/"+tag, nil).want(c.t, 200).decode(c.t, &id)
	var ancestry []string
	s.send("GET", "/v1/images/"+id+"/ancestry", nil).want(c.t, 200).decode(c.t, &ancestry)
	var chain []image
	for n := len(ancestry) - 1; n >= 0; n-- {
		i := s.pullImage(ancestry[n])
		known := false
		for _, l := range listed {
			if l.ID != i.id {
				continue
			}
			known = true
			if l.Checksum != "" && l.Checksum != i.payload() {
				c.t.Fatalf("image %s has %s, the index says %s", i.id, i.payload(), l.Checksum)
			}
			if want := n == 0; want != (l.Tag == tag) {
				c.t.Fatalf("image %s is listed with tag %q", i.id, l.Tag)
			}
		}
		if !known {
			c.t.Fatalf("the index does not list %s", i.id)
		}
		chain = append(chain, i)
	}
	return chain
}

func (s *session) pullImage(id string) image {
	s.t.Helper()
	a := s.send("GET", "/v1/images/"+id+"/json", nil).want(s.t, 200)
	var doc struct{ ID string }
	a.decode(s.t, &doc)
	if doc.ID != id {
		s.t.Fatalf("image %s has the document of %s", id, doc.ID)
	}
	l := s.send("GET", "/v1/images/"+id+"/layer", nil).want(s.t, 200)
	if size := a.Header.Get("X-Docker-Size"); size != strconv.Itoa(len(l.body)) {
		s.t.Fatalf("image %s has %d bytes, the header says %q", id, len(l.body), size)
	}
	i := image{id: id, json: a.body, layer: l.body}
	if sum := a.Header.Get("X-Docker-Checksum-Payload"); sum != "" && sum != i.payload() {
		s.t.Fatalf("image %s has %s, the header says %s", id, i.payload(), sum)
	}
	return i
}

// delete is the whole deletion.
func (c *client) delete(name string) {
	c.t.Helper()
	s := c.session(c.ask("DELETE", "/v1/repositories/"+name+"/", nil).want(c.t, 202))
	s.send("DELETE", "/v1/repositories/"+name+"/", nil).want(c.t, 200)
	c.do("DELETE", c.index, "/v1/repositories/"+name+"/", nil, append(c.basic(), "X-Docker-Endpoints", s.host)...).want(c.t, 200)
}

// file is an entry of a layer.
type file struct {
	name, body string
	flag       byte
}

// tarOf writes a layer.
func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o755, Typeflag: f.flag, ModTime: time.Unix(1_400_000_000, 0)}
		switch f.flag {
		case 0, tar.TypeReg:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(f.body))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = f.body
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(f.body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// idOf is a name of 64 digits.
func idOf(format string, a ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, format, a...))
	return hex.EncodeToString(sum[:])
}

// newImage is an image as docker 0.6 wrote one.
func newImage(t testing.TB, name string, parent *image, config map[string]any, layer []byte) image {
	t.Helper()
	i := image{id: idOf("%s", name), layer: layer}
	doc := map[string]any{
		"id": i.id, "created": "2013-04-30T17:46:10.843673+03:00", "docker_version": "0.6.3", "architecture": "amd64", "os": "linux",
		"container":        idOf("container of %s", name),
		"container_config": map[string]any{"Cmd": []string{"/bin/sh", "-c", "echo " + name}, "Env": nil, "Dns": nil},
	}
	if parent != nil {
		doc["parent"] = parent.id
	}
	if config != nil {
		doc["config"] = config
	}
	var err error
	if i.json, err = json.MarshalIndent(doc, "", "  "); err != nil {
		t.Fatal(err)
	}
	return i
}

// chainOf is a base, an image without files and one with a configuration.
func chainOf(t testing.TB, name string) []image {
	t.Helper()
	base := newImage(t, name+" base", nil, nil, gzipped(t, tarOf(t, file{"bin/", "", tar.TypeDir}, file{"bin/hello", "#!/bin/sh\necho hello\n", 0}, file{"etc/old", "old", 0})))
	empty := newImage(t, name+" empty", &base, map[string]any{"Env": []string{"A=1"}}, make([]byte, 1024))
	top := newImage(t, name+" top", &empty, map[string]any{
		"Cmd": []string{"/bin/hello"}, "Env": []string{"A=1", "B=2"}, "PortSpecs": []string{"8080:80"}, "Memory": 0, "Volumes": map[string]any{"/data": struct{}{}},
	}, tarOf(t, file{"etc/.wh.old", "", 0}, file{"etc/new", "new of " + name, 0}, file{"bin/hello", "#!/bin/sh\necho changed\n", 0}))
	return []image{base, empty, top}
}

func same(t testing.TB, got, want []image) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d images, want %d", len(got), len(want))
	}
	for n := range got {
		if got[n].id != want[n].id || !bytes.Equal(got[n].json, want[n].json) || !bytes.Equal(got[n].layer, want[n].layer) {
			t.Fatalf("image %d is not as it was sent:\n%s\n%s", n, got[n].json, want[n].json)
		}
	}
}
