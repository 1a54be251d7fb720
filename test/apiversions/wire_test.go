package apiversions

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// client speaks one version of the API, byte by byte.
type client struct {
	t       *testing.T
	d       *harness.Daemon
	version string // "" for paths without prefix
}

func (c client) at(path string) string {
	if c.version == "" {
		return path
	}
	return "/v" + c.version + path
}

// answer is a whole response.
type answer struct {
	status int
	header textproto.MIMEHeader
	body   string
}

// json decodes the body.
func (a answer) json(t *testing.T) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("no JSON: %v in %q", err, a.body)
	}
	return v
}

// object decodes the body of an object.
func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	m, ok := a.json(t).(map[string]any)
	if !ok {
		t.Fatalf("no object: %s", a.body)
	}
	return m
}

// list decodes the body of a list of objects.
func (a answer) list(t *testing.T) []map[string]any {
	t.Helper()
	var v []map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("no list: %v in %q", err, a.body)
	}
	return v
}

// stream is an open exchange: the head has been read.
type stream struct {
	t      *testing.T
	conn   net.Conn
	r      *bufio.Reader
	status int
	header textproto.MIMEHeader
	body   io.Reader
}

// open sends a request as text and reads the answer's head.
func (c client) open(method, path, body string, header ...string) *stream {
	c.t.Helper()
	conn, err := net.Dial("unix", c.d.Socket)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: docker\r\n", method, c.at(path))
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
		if !slices.ContainsFunc(header, func(h string) bool { return strings.HasPrefix(h, "Content-Type:") }) {
			b.WriteString("Content-Type: application/json\r\n")
		}
	}
	b.WriteString("\r\n" + body)
	if _, err := io.WriteString(conn, b.String()); err != nil {
		c.t.Fatal(err)
	}
	s := &stream{t: c.t, conn: conn, r: bufio.NewReader(conn)}
	s.head()
	return s
}

func (s *stream) head() {
	s.t.Helper()
	tp := textproto.NewReader(s.r)
	line, err := tp.ReadLine()
	if err != nil {
		s.t.Fatalf("no answer: %v", err)
	}
	parts := strings.SplitN(line, " ", 3)
	s.status, err = strconv.Atoi(parts[1])
	if err != nil {
		s.t.Fatalf("bad status line %q", line)
	}
	if s.header, err = tp.ReadMIMEHeader(); err != nil {
		s.t.Fatalf("bad headers: %v", err)
	}
	s.body = s.r
	if s.header.Get("Transfer-Encoding") == "chunked" {
		s.body = newChunked(s.r)
	} else if n, err := strconv.Atoi(s.header.Get("Content-Length")); err == nil {
		s.body = io.LimitReader(s.r, int64(n))
	} else if s.status == http.StatusNoContent || s.status == http.StatusNotModified {
		s.body = strings.NewReader("")
	}
}

// newChunked reads a chunked body.
func newChunked(r *bufio.Reader) io.Reader {
	pr, pw := io.Pipe()
	go func() {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				_ = pw.CloseWithError(err)
				return
			}
			n, err := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
			if err != nil || n == 0 {
				_ = pw.CloseWithError(err)
				return
			}
			if _, err := io.CopyN(pw, r, n); err != nil {
				_ = pw.CloseWithError(err)
				return
			}
			_, _ = r.Discard(2)
		}
	}()
	return pr
}

// all reads the rest.
func (s *stream) all() string {
	s.t.Helper()
	b, err := io.ReadAll(s.body)
	if err != nil {
		s.t.Fatalf("body: %v after %q", err, b)
	}
	return string(b)
}

// do is a whole exchange.
func (c client) do(method, path, body string, header ...string) answer {
	c.t.Helper()
	s := c.open(method, path, body, append([]string{"Connection: close"}, header...)...)
	defer s.conn.Close()
	return answer{status: s.status, header: s.header, body: s.all()}
}

// want is do that checks the status.
func (c client) want(status int, method, path, body string, header ...string) answer {
	c.t.Helper()
	a := c.do(method, path, body, header...)
	if a.status != status {
		c.t.Fatalf("%s %s: status %d, want %d: %s\n%s", method, c.at(path), a.status, status, a.body, c.d.Log())
	}
	return a
}

// frame is a part of a framed stream.
func frame(kind byte, text string) string {
	head := make([]byte, 8)
	head[0] = kind
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return string(head) + text
}

// unframe parts a framed stream into standard output and error; ok is false if it is not framed.
func unframe(s string) (stdout, stderr string, ok bool) {
	for len(s) > 0 {
		if len(s) < 8 || s[0] > 2 || s[1] != 0 || s[2] != 0 || s[3] != 0 {
			return "", "", false
		}
		n := int(binary.BigEndian.Uint32([]byte(s[4:8])))
		if len(s) < 8+n {
			return "", "", false
		}
		if s[0] == 2 {
			stderr += s[8 : 8+n]
		} else {
			stdout += s[8 : 8+n]
		}
		s = s[8+n:]
	}
	return stdout, stderr, true
}
