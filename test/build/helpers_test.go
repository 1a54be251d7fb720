package build

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore/test/harness"
)

func TestMain(m *testing.M) {
	_ = os.Setenv("DOCKER_BUILDKIT", "0")
	os.Exit(m.Run())
}

// files is a build context: path to text. A path that ends in "/" is a directory, a text "-> x" a symbolic link.
type files map[string]string

// write puts a context on the disk.
func (f files) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range f {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch target, link := strings.CutPrefix(text, "-> "); {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case link:
			err = os.Symlink(target, path)
		default:
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tar is a context as clients send it.
func (f files) tar(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range f {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(1e9, 0), Typeflag: tar.TypeReg}
		if target, link := strings.CutPrefix(text, "-> "); link {
			h.Typeflag, h.Linkname, h.Size, text = tar.TypeSymlink, target, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// start runs a daemon with busybox.
func start(t *testing.T, args ...string) *harness.Daemon {
	t.Helper()
	d := harness.Start(t, args...)
	d.Busybox()
	return d
}

// build runs "docker build" on a context and answers what it wrote.
func build(d *harness.Daemon, f files, args ...string) string {
	d.T.Helper()
	return d.OK(append(append([]string{"build"}, args...), f.write(d.T))...)
}

// has checks that a text has all of the parts, in their order.
func has(t testing.TB, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, p := range parts {
		_, after, ok := strings.Cut(rest, p)
		if !ok {
			t.Errorf("%q is missing, or stands elsewhere, in\n%s", p, text)
			return
		}
		rest = after
	}
}

// answer is what a raw request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// post sends a body to POST /v{version}/build.
func post(d *harness.Daemon, version, query string, body io.Reader, headers ...string) answer {
	d.T.Helper()
	ctx, cancel := context.WithTimeout(d.T.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", "http://d/v"+version+"/build?"+query, body)
	if err != nil {
		d.T.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-tar")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := d.Client().Do(req)
	if err != nil {
		d.T.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.T.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// text is the text of a stream of JSON objects; its error comes last.
func (a answer) text(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	dec := json.NewDecoder(strings.NewReader(a.body))
	for {
		var line struct {
			Stream, Status, Error string
			ErrorDetail           struct{ Code int }
		}
		if err := dec.Decode(&line); err == io.EOF {
			return out.String()
		} else if err != nil {
			t.Fatalf("%v in %s", err, a.body)
		}
		out.WriteString(line.Stream)
		if line.Error != "" {
			fmt.Fprintf(&out, "error %d: %s", line.ErrorDetail.Code, line.Error)
		}
	}
}

func query(pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return q.Encode()
}

// run runs a command in an image that was built.
func run(d *harness.Daemon, image string, command ...string) string {
	d.T.Helper()
	return d.OK(append([]string{"run", "--rm", image}, command...)...)
}

// scratch are the contexts on the daemon's disk.
func scratch(d *harness.Daemon) []string {
	entries, _ := os.ReadDir(filepath.Join(d.DataRoot(), "build-contexts"))
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// harnessWait is how long anything may take on a busy machine.
const harnessWait = 30 * time.Second

// listenIn listens in another network namespace.
func listenIn(netns, address string) (l net.Listener, err error) {
	there, err := os.Open("/run/netns/" + netns)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	done := make(chan struct{})
	go func() { // its thread ends with it, since it never goes back
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err == nil {
			l, err = net.Listen("tcp", address)
		}
	}()
	<-done
	return l, err
}

func base64Text(doc []byte) string { return base64.URLEncoding.EncodeToString(doc) }
