package buildsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestScratch(t *testing.T) {
	root := filepath.Join(t.TempDir(), "contexts")
	s, err := OpenScratch(root)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := s.Dir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "locked", "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "locked"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenScratch(root); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(root); len(left) > 0 {
		t.Error("a crash's directories stay", left)
	}
	if err := s.Remove(dir); err != nil {
		t.Error("gone already:", err)
	}
	if err := s.Remove(t.TempDir()); err == nil {
		t.Error("another directory was removed")
	}
}

func TestGuard(t *testing.T) {
	own := func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.ParseIP("192.0.2.7"), Mask: net.CIDRMask(24, 32)}, &net.IPNet{IP: net.ParseIP("2001:db8::7"), Mask: net.CIDRMask(64, 128)}}, nil
	}
	g := &guard{own: own}
	for s, ok := range map[string]bool{
		"127.0.0.1": false, "127.9.9.9": false, "::1": false, "0.0.0.0": false, "::": false, "169.254.169.254": false, "fe80::1%eth0": false,
		"::ffff:127.0.0.1": false, "224.0.0.1": false, "192.0.2.7": false, "::ffff:192.0.2.7": false, "2001:db8::7": false,
		"192.0.2.8": true, "10.1.2.3": true, "2001:db8::8": true, "8.8.8.8": true,
	} {
		err := g.check(netip.MustParseAddr(s))
		if (err == nil) != ok || (err != nil && !errors.Is(err, errLocal)) {
			t.Errorf("%s: %v", s, err)
		}
	}
	if err := (&guard{allowLocal: true, own: own}).check(netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Error(err)
	}
}

func TestGet(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "FROM scratch") })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/ftp", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "ftp://example.com/x", http.StatusFound)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	open := NewRemotes(Config{AllowLocal: true})
	defer open.Close()
	body, err := open.Get(t.Context(), srv.URL+"/file")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil || string(text) != "FROM scratch" {
		t.Fatal(string(text), err)
	}
	for path, want := range map[string]string{
		srv.URL + "/none":    "with status 404 Not Found",
		srv.URL + "/loop":    "redirects more than",
		srv.URL + "/ftp":     "which is no HTTP address",
		"http://":            "could not be recognized as URL",
		"http://a b/":        "could not be recognized as URL",
		"http://host/\x7f":   "could not be recognized as URL",
		"http://127.0.0.1:1": "connection refused",
	} {
		if _, err := open.Get(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	guarded := NewRemotes(Config{})
	defer guarded.Close()
	if _, err := guarded.Get(t.Context(), srv.URL+"/file"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "local address") {
		t.Error(err)
	}
	// A server that is not local redirects to one that is.
	outside := NewRemotes(Config{})
	outside.client.Transport = redirector{outside.guard.transport(), srv.URL + "/file"}
	if _, err := outside.Get(t.Context(), "http://example.com/x"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "local address") {
		t.Error(err)
	}
}

// redirector answers for example.com.
type redirector struct {
	next http.RoundTripper
	to   string
}

func (r redirector) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != "example.com" {
		return r.next.RoundTrip(req)
	}
	w := httptest.NewRecorder()
	http.Redirect(w, req, r.to, http.StatusFound)
	return w.Result(), nil
}

func TestParseRepository(t *testing.T) {
	for remote, want := range map[string]Repository{
		"https://host/a.git":             {"https://host/a.git", "", ""},
		"https://host/a.git#main:sub/x":  {"https://host/a.git", "main", "sub/x"},
		"https://host/a.git#:sub":        {"https://host/a.git", "", "sub"},
		"git://host/a":                   {"git://host/a", "", ""},
		"github.com/moby/moby#v1":        {"https://github.com/moby/moby", "v1", ""},
		"git@host.x:team/a.git#ref":      {"git@host.x:team/a.git", "ref", ""},
		"ssh://git@host/a.git":           {"ssh://git@host/a.git", "", ""},
		"https://host/a.tar.gz":          {},
		"https://host/a.git/x":           {},
		"/tmp/a.git":                     {},
		"file:///tmp/a.git":              {},
		"ext::sh -c x@y:z":               {},
		"--upload-pack=x@h:a":            {},
		"https://host/Dockerfile#a.git":  {},
		"user@-oProxyCommand=x:path/git": {},
	} {
		got, ok := ParseRepository(remote)
		if ok != (want.Address != "") || got != want {
			t.Errorf("%s: %+v %v", remote, got, ok)
		}
	}
}

// repository serves a repository with two branches and a submodule over HTTP.
func repository(t *testing.T) (address string) {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		t.Skip("no git")
	}
	top := t.TempDir()
	srv := httptest.NewServer(&cgi.Handler{Path: program, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + top, "GIT_HTTP_EXPORT_ALL=1"}})
	t.Cleanup(srv.Close)
	script := `set -e
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@a
git init -q -b main sub && cd sub && echo inner > inner && git add . && git commit -qm s && cd ..
git clone -q --bare sub sub.git
git init -q -b main work && cd work && mkdir dir && echo one > dir/f && ln -s /etc dir/out && ln -s dir link && git add . && git commit -qm 1 && git tag v1
echo two > dir/f && git commit -qam 2 && git checkout -q -b other && git -c protocol.file.allow=always submodule --quiet add ` + srv.URL + `/sub.git mod && git commit -qm 3 && git checkout -q main && cd ..
git clone -q --bare work repo.git`
	c := exec.Command("sh", "-c", script)
	c.Dir = top
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return srv.URL + "/repo.git"
}

func TestClone(t *testing.T) {
	address := repository(t)
	r := NewRemotes(Config{AllowLocal: true})
	defer r.Close()
	for _, c := range []struct{ ref, folder, file, want string }{
		{"", "", "dir/f", "two"}, {"main", "dir", "f", "two"}, {"v1", "/dir/", "f", "one"}, {"other", "", "mod/inner", "inner"},
		{"", "link", "f", "two"}, {"other", "mod", "inner", "inner"},
	} {
		files, err := r.Clone(t.Context(), Repository{address, c.ref, c.folder}, t.TempDir())
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if text, err := os.ReadFile(filepath.Join(files, c.file)); err != nil || strings.TrimSpace(string(text)) != c.want {
			t.Errorf("%+v: %q %v", c, text, err)
		}
	}
	for _, c := range []struct{ ref, folder, want string }{
		{"none", "", "error fetching"}, {"--upload-pack=x", "", "invalid git reference"}, {"", "none", "not within git root"},
		{"", "dir/f", "not a directory"}, {"", "../..", "not within git root"}, {"", "dir/out", "not within git root"},
	} {
		if _, err := r.Clone(t.Context(), Repository{address, c.ref, c.folder}, t.TempDir()); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Clone(gone, Repository{Address: address}, t.TempDir()); err == nil {
		t.Error("cloned without a client")
	}
}

func TestCloneGuarded(t *testing.T) {
	address := repository(t)
	r := NewRemotes(Config{})
	defer r.Close()
	if _, err := r.Clone(t.Context(), Repository{Address: address}, t.TempDir()); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "local address") {
		t.Error(err)
	}
	for _, a := range []string{"git://127.0.0.1/x", "root@localhost:x.git", "ssh://git@[::1]/x.git"} {
		if _, err := r.Clone(t.Context(), Repository{Address: a}, t.TempDir()); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "local address") {
			t.Errorf("%s: %v", a, err)
		}
	}
	// The proxy forwards to addresses that are not the host's.
	open := NewRemotes(Config{})
	open.guard.allowLocal = true
	files, err := open.Clone(t.Context(), Repository{Address: address, Ref: "other"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(files, "mod", "inner")); err != nil {
		t.Error(err)
	}
}
