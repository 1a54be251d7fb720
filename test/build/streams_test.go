package build

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"mime/multipart"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files anew")

var hexID = regexp.MustCompile(`sha256:[0-9a-f]{64}|\b[0-9a-f]{12}\b`)

// mask hides what differs from build to build.
func mask(s string) string { return hexID.ReplaceAllString(s, "ID") }

// era is what a client of a version sends and reads.
type era struct {
	version string
	form    bool // the context is a form
}

var eras = []era{{"1.0", true}, {"1.2", true}, {"1.3", false}, {"1.7", false}, {"1.8", false}, {"1.21", false}, {"1.33", false}, {"1.41", false}, {"1.55", false}}

// send makes a request as a client of the era did.
func (e era) send(t *testing.T, f files) (body io.Reader, headers []string) {
	t.Helper()
	if !e.form {
		return bytes.NewReader(f.tar(t)), nil
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range []struct {
		name, file string
		body       []byte
	}{{"Dockerfile", "Dockerfile", []byte(f["Dockerfile"])}, {"Context", "context.tar", f.tar(t)}} {
		part, err := w.CreateFormFile(p.name, p.file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(p.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b, []string{"Content-Type", w.FormDataContentType()}
}

// TestStreams compares what a client of each version reads, byte for byte but for IDs, with the golden files.
func TestStreams(t *testing.T) {
	d := start(t)
	const text = "FROM busybox\nENV A=b\nRUN echo out\nADD f /f\nCMD [\"sh\"]\n"
	good := files{"f": "x"}
	for i, e := range eras {
		var got strings.Builder
		show := func(what, query string, f files) {
			body, headers := e.send(t, f)
			a := post(d, e.version, query, body, headers...)
			fmt.Fprintf(&got, "=== %s: POST /v%s/build?%s\n%d %s\n%s\n", what, e.version, query, a.status, a.header.Get("Content-Type"), mask(a.body))
		}
		name := fmt.Sprintf("t=app%d", i)
		good["Dockerfile"] = strings.Replace(text, "A=b", "A="+e.version, 1)
		show("built", name, good)
		show("from the cache", name, good)
		show("quiet", "q=1", good)
		show("a step fails", "nocache=1", files{"Dockerfile": "FROM busybox\nRUN echo why >&2; exit 7\n"})
		show("the Dockerfile is wrong", "", files{"Dockerfile": "FROM busybox\nNOPE\n"})
		golden := filepath.Join("testdata", "v"+e.version+".golden")
		if *update {
			if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", e.version, got.String(), want)
		}
		if out := run(d, fmt.Sprintf("app%d", i), "cat", "/f"); out != "x" {
			t.Errorf("%s: %q", e.version, out)
		}
	}
}
