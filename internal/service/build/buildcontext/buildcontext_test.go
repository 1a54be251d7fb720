package buildcontext

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/tonistiigi/fsutil"
	"github.com/ulikunitz/xz"

	"longshore/internal/driver/buildsource"
)

func intake(t testing.TB, cfg Config) (*Intake, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners of unpacked files")
	}
	root := filepath.Join(t.TempDir(), "contexts")
	scratch, err := buildsource.OpenScratch(root)
	if err != nil {
		t.Fatal(err)
	}
	remotes := buildsource.NewRemotes(buildsource.Config{AllowLocal: true})
	t.Cleanup(func() { _ = remotes.Close() })
	return New(cfg, scratch, remotes), root
}

type file struct {
	name, body string
	kind       byte
	link       string
	mode       int64
}

func archive(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.body)), Mode: f.mode, Typeflag: f.kind, Linkname: f.link, ModTime: time.Unix(1e9, 0), Uid: 1234, Gid: 1234}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func list(t testing.TB, f fsutil.FS) []string {
	t.Helper()
	var out []string
	err := f.Walk(t.Context(), "", func(path string, _ fs.DirEntry, err error) error {
		out = append(out, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func compressions(t *testing.T, plain []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{"plain": plain}
	var gz, x, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	_, err1 := g.Write(plain)
	xw, err := xz.NewWriter(&x)
	if err != nil {
		t.Fatal(err)
	}
	_, err2 := xw.Write(plain)
	zw, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	_, err3 := zw.Write(plain)
	if err := errors.Join(err1, err2, err3, g.Close(), xw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	out["gzip"], out["xz"], out["zstd"] = gz.Bytes(), x.Bytes(), zs.Bytes()
	return out
}

func TestArchives(t *testing.T) {
	in, root := intake(t, Config{})
	plain := archive(t,
		file{name: "./", kind: tar.TypeDir, mode: 0o755}, file{name: "Dockerfile", body: "FROM a\n"}, file{name: "dir/", kind: tar.TypeDir, mode: 0o750}, file{name: "dir/f", body: "x", mode: 0o4755},
		file{name: "abs", kind: tar.TypeSymlink, link: "/etc/passwd"}, file{name: "dir/up", kind: tar.TypeSymlink, link: "../Dockerfile"},
		file{name: "hard", kind: tar.TypeLink, link: "dir/f"}, file{name: "pipe", kind: tar.TypeFifo}, file{name: "deep/er/f", body: "y"},
	)
	for name, b := range compressions(t, plain) {
		c, err := in.Take(t.Context(), Source{Body: io.MultiReader(bytes.NewReader(b), strings.NewReader(strings.Repeat("\x00", 1<<20)))})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := []string{"Dockerfile", "abs", "deep", "deep/er", "deep/er/f", "dir", "dir/f", "dir/up", "hard", "pipe"}
		if got := list(t, c.Files); !slices.Equal(got, want) || string(c.Dockerfile) != "FROM a\n" || c.Name != "Dockerfile" {
			t.Errorf("%s: %q %q", name, got, c.Dockerfile)
		}
		st, err := os.Stat(filepath.Join(c.dir, "context/dir/f"))
		if err != nil || st.Mode() != 0o755|fs.ModeSetuid || st.ModTime().Unix() != 1e9 {
			t.Error(st.Mode(), st.ModTime(), err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	empty(t, root)
}

func empty(t *testing.T, root string) {
	t.Helper()
	if left, _ := os.ReadDir(root); len(left) > 0 {
		t.Error("left in scratch:", left)
	}
}

func TestDockerfileAlone(t *testing.T) {
	in, _ := intake(t, Config{})
	for _, text := range []string{"FROM a\nRUN b", "# " + strings.Repeat("ä", 1000), "x"} {
		c, err := in.Take(t.Context(), Source{Body: strings.NewReader(text), Dockerfile: "ignored"})
		if err != nil {
			t.Fatal(err)
		}
		if string(c.Dockerfile) != text || len(list(t, c.Files)) != 0 {
			t.Errorf("%q", c.Dockerfile)
		}
		given, err := c.Give([]byte("FROM edited"))
		if err != nil || !slices.Equal(list(t, given), []string{"Dockerfile"}) {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestIgnored(t *testing.T) {
	in, _ := intake(t, Config{})
	files := []file{
		{name: "Dockerfile", body: "FROM a"}, {name: "sub/other.df", body: "FROM b"}, {name: "a.log", body: "x"}, {name: "keep.log", body: "x"}, {name: "sub/c", body: "x"},
		{name: ".dockerignore", body: "*.log\n# comment\n!keep.log\nDockerfile\n.dockerignore\n"},
	}
	for _, c := range []struct {
		name, text, files, ignore string
		more                      []file
	}{
		{"", "FROM a", "keep.log sub sub/c sub/other.df", "*.log\n!keep.log\nDockerfile\n.dockerignore\n", nil},
		{"sub/other.df", "FROM b", ".dockerignore Dockerfile a.log keep.log sub sub/other.df sub/other.df.dockerignore", "sub/c\n", []file{{name: "sub/other.df.dockerignore", body: "sub/c"}}},
		{"./sub/../Dockerfile", "FROM a", "keep.log sub sub/c sub/other.df", "*.log\n!keep.log\nDockerfile\n.dockerignore\n", nil},
		{"/Dockerfile", "FROM a", "keep.log sub sub/c sub/other.df", "*.log\n!keep.log\nDockerfile\n.dockerignore\n", nil},
	} {
		got, err := in.Take(t.Context(), Source{Body: bytes.NewReader(archive(t, append(slices.Clone(files), c.more...)...)), Dockerfile: c.name})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if text := strings.Join(list(t, got.Files), " "); text != c.files || string(got.Dockerfile) != c.text {
			t.Errorf("%s: %s, %s", c.name, text, got.Dockerfile)
		}
		given, err := got.Give(got.Dockerfile)
		if err != nil {
			t.Fatal(err)
		}
		r, err := given.Open("Dockerfile.dockerignore")
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(r); err != nil || string(text) != c.ignore {
			t.Errorf("%s: ignores %q", c.name, text)
		}
		if err := errors.Join(r.Close(), got.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestRefused(t *testing.T) {
	in, root := intake(t, Config{Limit: 1000})
	df := file{name: "Dockerfile", body: "FROM a"}
	pack := func(f ...file) []byte { return archive(t, append([]file{df}, f...)...) }
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body       []byte
		dockerfile string
		want       string
	}{
		"traversal":          {pack(file{name: "../../x", body: "x"}), "", `"../../x" is outside of "/"`},
		"symlink out":        {pack(file{name: "d/l", kind: tar.TypeSymlink, link: "../../etc"}), "", `invalid symlink "d/l" -> "../../etc"`},
		"hard link out":      {pack(file{name: "l", kind: tar.TypeLink, link: "../x"}), "", `invalid hardlink "l" -> "../x"`},
		"hard link to none":  {pack(file{name: "l", kind: tar.TypeLink, link: "none"}), "", `hard link "l" in archive`},
		"hard link by link":  {pack(file{name: "l", kind: tar.TypeSymlink, link: secret}, file{name: "h", kind: tar.TypeLink, link: "l/x"}), "", "hard link"},
		"character device":   {pack(file{name: "null", kind: tar.TypeChar}), "", `"null" is a device`},
		"block device":       {pack(file{name: "sda", kind: tar.TypeBlock}), "", `"sda" is a device`},
		"whiteout":           {pack(file{name: "a/.wh.b"}), "", `"a/.wh.b" has the name of a whiteout`},
		"too large":          {pack(file{name: "a", body: strings.Repeat("x", 600)}, file{name: "b", body: strings.Repeat("x", 600)}), "", "larger than 1000B (build-context-limit)"},
		"cut":                {pack(file{name: "a", body: "xxx"})[:1300], "", "invalid tar archive"},
		"broken gzip":        {[]byte("\x1f\x8b\x08\x00broken"), "", "Error processing tar file"},
		"binary":             {bytes.Repeat([]byte{1, 2, 3}, 1000), "", "Error processing tar file: invalid tar archive"},
		"file as directory":  {pack(file{name: "f", body: "x"}, file{name: "f/g", body: "x"}), "", "Error processing tar file"},
		"no Dockerfile":      {archive(t, file{name: "x"}), "", "Cannot locate specified Dockerfile: Dockerfile"},
		"none of that name":  {pack(), "other", "Cannot locate specified Dockerfile: other"},
		"empty body":         {nil, "", "Cannot locate specified Dockerfile: Dockerfile"},
		"outside":            {pack(), "../Dockerfile", "forbidden path outside the build context: ../Dockerfile ()"},
		"Dockerfile is none": {archive(t, file{name: "Dockerfile", kind: tar.TypeDir}), "", "it is no regular file"},
		"Dockerfile is pipe": {archive(t, file{name: "Dockerfile", kind: tar.TypeFifo}), "", "it is no regular file"},
		"Dockerfile is link": {archive(t, file{name: "Dockerfile", kind: tar.TypeSymlink, link: secret}), "", "Cannot locate specified Dockerfile"},
		"ignore pattern":     {pack(file{name: ".dockerignore", body: "[a"}), "", "error parsing .dockerignore"},
		"large Dockerfile":   {[]byte(strings.Repeat("# x\n", 1<<20)), "", "Dockerfile is larger than 2MiB"},
		"long name":          {pack(file{name: strings.Repeat("x", 300)}), "", "file name too long"},
	} {
		_, err := in.Take(t.Context(), Source{Body: bytes.NewReader(c.body), Dockerfile: c.dockerfile})
		if err == nil || !strings.Contains(err.Error(), c.want) || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := in.Take(gone, Source{Body: bytes.NewReader(pack())}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if text, err := os.ReadFile(secret); err != nil || string(text) != "before" {
		t.Error("changed:", string(text), err)
	}
	empty(t, root)
}

// TestLinksInside writes through links of the context: they lead inside it.
func TestLinksInside(t *testing.T) {
	in, _ := intake(t, Config{})
	c, err := in.Take(t.Context(), Source{Body: bytes.NewReader(archive(t,
		file{name: "real/", kind: tar.TypeDir, mode: 0o755}, file{name: "l", kind: tar.TypeSymlink, link: "/real"}, file{name: "l/f", body: "x"},
		file{name: "Dockerfile", kind: tar.TypeSymlink, link: "/real/df"}, file{name: "real/df", body: "FROM a"}))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := list(t, c.Files); !slices.Contains(got, "real/f") || string(c.Dockerfile) != "FROM a" {
		t.Error(got)
	}
}

func form(t *testing.T, parts ...string) *multipart.Reader {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		p, err := w.CreateFormFile(parts[i], "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(p, parts[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return multipart.NewReader(&b, w.Boundary())
}

func TestForm(t *testing.T) {
	in, root := intake(t, Config{})
	tarball := string(compressions(t, archive(t, file{name: "f", body: "x"}, file{name: "Dockerfile", body: "FROM other"}))["xz"])
	for name, parts := range map[string][]string{
		"with context": {"Dockerfile", "FROM a", "Context", tarball}, "in another order": {"Context", tarball, "other", "x", "Dockerfile", "FROM a"}, "alone": {"Dockerfile", "FROM a"},
	} {
		c, err := in.Take(t.Context(), Source{Form: form(t, parts...)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(c.Dockerfile) != "FROM a" || (name != "alone") != slices.Contains(list(t, c.Files), "f") {
			t.Errorf("%s: %s", name, c.Dockerfile)
		}
		_ = c.Close()
	}
	for _, f := range []*multipart.Reader{form(t), form(t, "Context", tarball), multipart.NewReader(strings.NewReader("--x"), "x")} {
		if _, err := in.Take(t.Context(), Source{Form: f}); !errdefs.IsInvalidArgument(err) {
			t.Error(err)
		}
	}
	empty(t, root)
}

func TestRemote(t *testing.T) {
	in, root := intake(t, Config{})
	mux := http.NewServeMux()
	mux.HandleFunc("/df", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "FROM a") })
	mux.HandleFunc("/tar", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(compressions(t, archive(t, file{name: "sub/Dockerfile", body: "FROM b"}, file{name: "f", body: "x"}))["gzip"])
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for path, want := range map[string]string{"/df": "FROM a", "/tar": "FROM b"} {
		c, err := in.Take(t.Context(), Source{Remote: srv.URL + path, Dockerfile: "sub/Dockerfile"})
		if err != nil {
			t.Fatal(err)
		}
		if string(c.Dockerfile) != want {
			t.Errorf("%s: %s", path, c.Dockerfile)
		}
		_ = c.Close()
	}
	for _, remote := range []string{"ftp://x/y", "/etc/passwd", "client-session", srv.URL + "/none", srv.URL + "/repo.git"} {
		if _, err := in.Take(t.Context(), Source{Remote: remote}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", remote, err)
		}
	}
	empty(t, root)
}

// FuzzTake feeds anything: what is refused leaves nothing, what is taken stays in its directory.
func FuzzTake(f *testing.F) {
	in, root := intake(f, Config{Limit: 1 << 20})
	for _, b := range [][]byte{archive(f, file{name: "Dockerfile", body: "FROM a"}), []byte("FROM a"), archive(f, file{name: "../x"}), archive(f, file{name: "l", kind: tar.TypeSymlink, link: "/"}, file{name: "l/x/Dockerfile", body: "x"})} {
		f.Add(b, "Dockerfile")
	}
	around := filepath.Dir(root)
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		c, err := in.Take(t.Context(), Source{Body: bytes.NewReader(body), Dockerfile: name})
		if err == nil {
			list(t, c.Files)
			err = c.Close()
			if err != nil {
				t.Fatal(err)
			}
		} else if !errdefs.IsInvalidArgument(err) {
			t.Fatalf("class of %v", err)
		}
		if left, _ := os.ReadDir(around); len(left) != 1 {
			t.Fatal("something was written outside:", left)
		}
		empty(t, root)
	})
}
