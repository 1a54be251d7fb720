package build

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

const df = "FROM busybox\nCOPY . /\n"

// entry is an archive of one odd entry beside a good Dockerfile.
func entry(t *testing.T, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, x := range []tar.Header{{Name: "Dockerfile", Typeflag: tar.TypeReg, Size: int64(len(df)), Mode: 0o644}, h} {
		if err := w.WriteHeader(&x); err != nil {
			t.Fatal(err)
		}
		if x.Size > 0 {
			if _, err := io.WriteString(w, df); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRefused sends what must be refused before anything is built, with words that say why.
func TestRefused(t *testing.T) {
	d := start(t, "--build-context-limit", "1m")
	good := files{"Dockerfile": "FROM busybox\n"}.tar(t)
	text := func(text string) []byte { return files{"Dockerfile": text}.tar(t) }
	for name, c := range map[string]struct {
		query string
		body  []byte
		want  string
	}{
		"syntax":             {"", text("FROM busybox\n\n  FOO bar\n"), "dockerfile parse error on line 3, column 3: unknown instruction: FOO"},
		"flag":               {"", text("FROM busybox\nCOPY --nope a b\n"), "dockerfile parse error on line 2, column 6: unknown flag: --nope"},
		"empty Dockerfile":   {"", text(""), "the Dockerfile (Dockerfile) cannot be empty"},
		"no Dockerfile":      {"", files{"x": ""}.tar(t), "Cannot locate specified Dockerfile: Dockerfile"},
		"other Dockerfile":   {"dockerfile=other", good, "Cannot locate specified Dockerfile: other"},
		"Dockerfile outside": {"dockerfile=../x", good, "forbidden path outside the build context: ../x ()"},
		"no stage":           {"", text("ARG x\n"), "no build stage in current context"},
		"target":             {"target=zz", good, `target stage \"zz\" could not be found`},
		"tag":                {"t=A:b", good, "invalid reference format: repository name (library/A) must be lowercase"},
		"tag with digest":    {"t=a@sha256:" + strings.Repeat("0", 64), good, "build tag cannot contain a digest"},
		"platform":           {"platform=a/b/c/d/e", good, "is an invalid component"},
		"build args":         {"buildargs=x", good, "error reading build args: invalid character 'x' looking for beginning of value"},
		"labels":             {"labels=x", good, "error reading labels: invalid character"},
		"cache-from":         {"cachefrom=x", good, "error reading cache-from: invalid character"},
		"ulimits":            {"ulimits=x", good, "error reading ulimit settings: invalid character"},
		"outputs":            {"outputs=x", good, "error reading outputs: invalid character"},
		"shm size":           {"shmsize=x", good, `invalid value for shmsize: \"x\"`},
		"isolation":          {"isolation=hyperv", good, "unsupported isolation"},
		"version":            {"version=7", good, `invalid version \"7\"`},
		"too large":          {"", files{"Dockerfile": "FROM busybox", "big": strings.Repeat("x", 2<<20)}.tar(t), "the build context is larger than 1MiB (build-context-limit)"},
		"no archive":         {"", bytes.Repeat([]byte{1, 2, 3}, 1000), "Error processing tar file: invalid tar archive"},
		"traversal":          {"", entry(t, tar.Header{Name: "../../../x", Typeflag: tar.TypeReg, Size: int64(len(df)), Mode: 0o644}), "is outside of"},
		"symlink":            {"", entry(t, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../etc/passwd"}), `invalid symlink \"l\" -\u003e \"../../etc/passwd\"`},
		"hard link":          {"", entry(t, tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}), "invalid hardlink"},
		"device":             {"", entry(t, tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}), `\"null\" is a device`},
		"whiteout":           {"", entry(t, tar.Header{Name: ".wh.x", Typeflag: tar.TypeReg}), "has the name of a whiteout"},
		"local remote":       {query("remote", "http://127.0.0.1:1/x"), nil, "leads to a local address of the engine's host, which is not allowed (build-allow-local-remotes)"},
		"local repository":   {query("remote", "http://localhost:1/x.git"), nil, "leads to a local address"},
		"no address":         {query("remote", "/etc/passwd"), nil, "remoteURL (/etc/passwd) could not be recognized as URL"},
	} {
		a := post(d, "1.41", c.query, bytes.NewReader(c.body))
		if a.status != 400 || !strings.Contains(a.body, c.want) && !strings.Contains(a.body, strings.ReplaceAll(c.want, `\u003e`, ">")) {
			t.Errorf("%s: %d %s, want %s", name, a.status, a.body, c.want)
		}
	}
	if left := scratch(d); len(left) > 0 {
		t.Errorf("contexts stay on the disk: %v", left)
	}
	if out := d.OK("images", "-aq"); strings.Count(out, "\n") != 0 {
		t.Errorf("images: %s", out)
	}
	t.Run("redirect to a local address", func(t *testing.T) { redirected(t, d) })
	t.Run("failed steps", func(t *testing.T) { failed(t, d) })
}

// redirected asks a server that is not local to the daemon, which redirects to the daemon's own loopback.
func redirected(t *testing.T, d *harness.Daemon) {
	const outside, inside = "192.0.2.1", "192.0.2.2"
	far := d.NetNS + "-far"
	for _, args := range [][]string{
		{"netns", "add", far}, {"-n", far, "link", "add", "near", "type", "veth", "peer", "name", "far0", "netns", d.NetNS},
		{"-n", far, "addr", "add", outside + "/30", "dev", "near"}, {"-n", far, "link", "set", "near", "up"},
		{"-n", d.NetNS, "addr", "add", inside + "/30", "dev", "far0"}, {"-n", d.NetNS, "link", "set", "far0", "up"},
	} {
		if r := d.Exec(t.Context(), nil, "ip", args...); r.Code != 0 {
			t.Fatalf("ip %v: %s", args, r.Err)
		}
	}
	defer func() {
		ctx := context.WithoutCancel(t.Context())
		d.Exec(ctx, nil, "ip", "-n", d.NetNS, "link", "del", "far0") // the kernel may take its time with the namespace's own
		d.Exec(ctx, nil, "ip", "netns", "del", far)
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "FROM busybox\n") })
	mux.HandleFunc("/there", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/secret", http.StatusFound)
	})
	mux.HandleFunc("/own", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+inside+":1/secret", http.StatusFound)
	})
	srv := httptest.NewUnstartedServer(mux)
	_ = srv.Listener.Close()
	listener, err := listenIn(far, outside+":0")
	if err != nil {
		t.Fatal(err)
	}
	srv.Listener = listener
	srv.Start()
	defer srv.Close()
	harness.Eventually(t, harnessWait, "a remote that is not local is built", func() bool {
		return post(d, "1.41", query("remote", srv.URL+"/ok"), nil).status == 200
	})
	for _, path := range []string{"/there", "/own"} {
		if a := post(d, "1.41", query("remote", srv.URL+path), nil); a.status != 400 || !strings.Contains(a.body, "leads to a local address") {
			t.Errorf("%s: %+v", path, a)
		}
	}
}

// failed builds fail at a step: its output, then the error with its exit code.
func failed(t *testing.T, d *harness.Daemon) {
	for name, c := range map[string]struct{ text, want string }{
		"exit code":     {"FROM busybox\nRUN echo before; exit 7\nRUN echo never\n", "Step 2/3 : RUN echo before; exit 7\n ---> Running in ID\nbefore\nerror 7: The command '/bin/sh -c echo before; exit 7' returned a non-zero code: 7"},
		"exec form":     {"FROM busybox\nRUN [\"false\"]\n", "Step 2/2 : RUN [\"false\"]\n ---> Running in ID\nerror 1: The command 'false' returned a non-zero code: 1"},
		"shell":         {"FROM busybox\nSHELL [\"/bin/ash\", \"-ec\"]\nRUN exit 3\n", "error 3: The command '/bin/ash -ec exit 3' returned a non-zero code: 3"},
		"missing file":  {"FROM busybox\nCOPY none /\n", "error 0: COPY failed: file not found in build context or excluded by .dockerignore: stat none: file does not exist"},
		"in a stage":    {"FROM busybox AS a\nRUN exit 5\nFROM busybox\nCOPY --from=a /x /\n", "error 5: The command '/bin/sh -c exit 5' returned a non-zero code: 5"},
		"missing image": {"FROM 127.0.0.1:1/none\nRUN x\n", "Step 1/2 : FROM 127.0.0.1:1/none\nerror 0: "},
	} {
		a := post(d, "1.41", "nocache=1", bytes.NewReader(files{"Dockerfile": c.text}.tar(t)))
		if text := mask(a.text(t)); a.status != 200 || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d\n%s\nwant\n%s", name, a.status, text, c.want)
		}
	}
	dir := files{"Dockerfile": "FROM busybox\nRUN echo before; exit 7\n"}.write(t)
	r := d.Docker("build", "-t", "half", dir)
	if r.Code != 7 || !strings.Contains(r.Out, "before") {
		t.Errorf("the client gives the step's exit code: %+v", r)
	}
	if out := d.OK("images", "-q", "half"); out != "" {
		t.Errorf("half an image: %s", out)
	}
	if _, err := os.Stat(filepath.Join(d.DataRoot(), "build-contexts")); err != nil {
		t.Error(err)
	}
}
