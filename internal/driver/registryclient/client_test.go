package registryclient

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func mustClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ref(t testing.TB, s string) reference.Named {
	t.Helper()
	r, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEndpoints(t *testing.T) {
	c := mustClient(t, Config{Insecure: []string{"plain.example:5000", "10.0.0.0/8"}, Mirrors: []string{"https://mirror.example/sub/"}})
	for domain, want := range map[string]string{
		"docker.io":          "https://mirror.example/sub/v2/x https://registry-1.docker.io/v2/x*",
		"reg.example":        "https://reg.example/v2/x*",
		"plain.example:5000": "https://plain.example:5000/v2/x*!",
		"10.1.2.3:80":        "https://10.1.2.3:80/v2/x*!",
		"localhost:5000":     "https://localhost:5000/v2/x*!",
		"127.0.0.9":          "https://127.0.0.9/v2/x*!",
		"[::1]:5000":         "https://[::1]:5000/v2/x*!",
	} {
		if got := ways(t, c, domain, nil); got != want {
			t.Errorf("%s: %v, want %s", domain, got, want)
		}
	}
}

// ways describes endpoints: "*" is sent the client's credentials, "!" may speak plain HTTP.
func ways(t *testing.T, c *Client, domain string, auth *registry.AuthConfig) string {
	t.Helper()
	list, err := c.endpoints(t.Context(), domain, auth)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		s := e.url("/v2/x")
		if e.home {
			s += "*"
		}
		if e.plain {
			s += "!"
		}
		if tr, ok := e.transport.(*http.Transport); ok && tr.TLSClientConfig.InsecureSkipVerify != e.plain {
			t.Errorf("%s: certificates are not checked: %v", s, tr.TLSClientConfig.InsecureSkipVerify)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestHostsFile(t *testing.T) {
	dir := t.TempDir()
	for host, text := range map[string]string{
		"reg.example": "server = \"https://reg.example\"\n[host.\"https://m1.example/sub\"]\ncapabilities=[\"pull\"]\n" +
			"[host.\"http://m2.example:5000/v2/api\"]\noverride_path=true\n[host.\"http://m2.example:5000/v2/api\".header]\nx-key=\"k\"\n",
		"_default":      "[host.\"https://all.example\"]\ncapabilities=[\"pull\",\"resolve\"]\n",
		"moved.example": "server = \"https://new.example\"\n",
		"docker.io":     "[host.\"https://hub.example\"]\n",
		"bad.example":   "server = [",
		"odd.example":   "[host.\"https://x\"]\ncapabilities=[\"fly\"]\n",
		"empty.example": "",
	} {
		if err := os.Mkdir(filepath.Join(dir, host), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := mustClient(t, Config{CertsDir: dir, Insecure: []string{"plain.example"}, Mirrors: []string{"https://old.example"}})
	for domain, want := range map[string]string{
		"reg.example":   "https://m1.example/sub/v2/x?ns=reg.example http://m2.example:5000/v2/api/x?ns=reg.example https://reg.example/v2/x*",
		"any.example":   "https://all.example/v2/x?ns=any.example https://any.example/v2/x*",
		"plain.example": "https://all.example/v2/x?ns=plain.example https://plain.example/v2/x*!",
		"docker.io":     "https://old.example/v2/x https://hub.example/v2/x?ns=docker.io https://registry-1.docker.io/v2/x*",
		"moved.example": "https://new.example/v2/x",
		"empty.example": "https://empty.example/v2/x*",
	} {
		if got := ways(t, c, domain, nil); got != want {
			t.Errorf("%s: %s, want %s", domain, got, want)
		}
	}
	// Who says that the credentials are the new place's has them sent there.
	if got := ways(t, c, "moved.example", &registry.AuthConfig{ServerAddress: "new.example"}); got != "https://new.example/v2/x*" {
		t.Error(got)
	}
	for _, bad := range []string{"bad.example", "odd.example"} {
		if list, err := c.endpoints(t.Context(), bad, nil); err == nil || !strings.Contains(err.Error(), "hosts.toml") {
			t.Errorf("%s: %v %v", bad, list, err)
		}
	}
	repos, err := c.Repositories(t.Context(), ref(t, "any.example/app"), nil, Push)
	if err != nil || len(repos) != 1 || repos[0].Host() != "any.example" {
		t.Errorf("pushes go to %v %v", repos, err)
	}
	repos, err = c.Repositories(t.Context(), ref(t, "reg.example/app"), nil, Pull)
	if err != nil || len(repos) != 3 || repos[0].Resolves() || !repos[0].Holds() || !repos[1].Resolves() {
		t.Errorf("pulls go to %v %v", repos, err)
	}
}

func TestConfig(t *testing.T) {
	for _, bad := range []Config{{Insecure: []string{"http://x"}}, {Mirrors: []string{"x"}}, {Mirrors: []string{"https://x/?a"}}, {Mirrors: []string{"https://u:p@x/"}}} {
		if _, err := New(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestChallenges(t *testing.T) {
	for in, want := range map[string][]challenge{
		`Basic realm="x"`: {{"basic", map[string]string{"realm": "x"}}},
		`Bearer realm="https://a/t",service="s, \"q\"" , scope="repository:a:pull,push"`: {{"bearer", map[string]string{"realm": "https://a/t", "service": `s, "q"`, "scope": "repository:a:pull,push"}}},
		`Negotiate, Basic realm=x, Bearer realm="y"`:                                     {{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": "x"}}, {"bearer", map[string]string{"realm": "y"}}},
		``: nil, `"`: nil,
		`Bearer realm="unterminated`: {{"bearer", map[string]string{"realm": "unterminated"}}},
	} {
		if got := parseHeader(in); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", in, got, want)
		}
	}
}

// FuzzChallenges looks for panics and endless loops.
func FuzzChallenges(f *testing.F) {
	for _, s := range []string{`Basic realm="x"`, `Bearer a=b,c="d\"`, ",,=", `x "`, "a=b=c d"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) { parseHeader(s) })
}

func TestTagsPages(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case r.URL.Query().Get("last") == "":
			w.Header().Set("Link", `</v2/a/b/tags/list?last=x>; rel="next"`)
			fmt.Fprint(w, `{"tags":["v","x"]}`)
		default:
			fmt.Fprint(w, `{"tags":["z"]}`)
		}
	}))
	defer srv.Close()
	r, err := mustClient(t, Config{}).Repository(t.Context(), ref(t, strings.TrimPrefix(srv.URL, "http://")+"/a/b"), nil, Pull)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tags, err := r.Tags(t.Context())
	if err != nil || !slices.Equal(tags, []string{"v", "x", "z"}) {
		t.Errorf("%v %v", tags, err)
	}
	if next, err := nextPage("http://a/x", `<http://evil/y>; rel="next"`); err == nil {
		t.Errorf("went to %s", next)
	}
}

// FuzzNextPage looks for panics and for pages on other hosts.
func FuzzNextPage(f *testing.F) {
	for _, s := range []string{`</v2/a/tags/list?last=x>; rel="next"`, `<http://evil/y>; rel="next"`, `<//evil>; rel="next"`, `<>; rel="next"`, "<"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		next, err := nextPage("http://a/x", s)
		if u, perr := url.Parse(next); err == nil && next != "" && (perr != nil || u.Host != "a") {
			t.Errorf("%q leads to %s", s, next)
		}
	})
}

// TestCredentialsStayAtHome checks that credentials do not follow a redirect to another host.
func TestCredentialsStayAtHome(t *testing.T) {
	leaked := make(chan string, 4)
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked <- r.Header.Get("Authorization")
		fmt.Fprint(w, "blob")
	}))
	defer cdn.Close()
	others := []string{strings.Replace(cdn.URL, "127.0.0.1", "localhost", 1), cdn.URL} // the second: only the port differs
	other := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, other+"/x", http.StatusTemporaryRedirect)
		}
	}))
	defer srv.Close()
	auth := &registry.AuthConfig{Username: "u", Password: "p"}
	r, err := mustClient(t, Config{}).Repository(t.Context(), ref(t, strings.TrimPrefix(srv.URL, "http://")+"/a"), auth, Pull)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, other = range others {
		rc, err := r.Blob(t.Context(), ocispec.Descriptor{Digest: digest.FromString("blob"), Size: 4}, Start{})
		if err != nil {
			t.Fatal(err)
		}
		_ = rc.Close()
		if h := <-leaked; h != "" {
			t.Errorf("%s got %q", other, h)
		}
	}
}

// TestTLS pulls from a registry with a private authority: refused without its certificate, fine with docker's
// certificate directory.
func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"tags":["a"]}`) }))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "https://")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, host, "ca.crt"), cert, 0o600); err != nil {
		t.Fatal(err)
	}
	for certs, ok := range map[string]bool{"": false, dir: true} {
		c := mustClient(t, Config{CertsDir: certs})
		tr, err := c.transport(host, true)
		if err != nil {
			t.Fatal(err)
		}
		s := c.session(endpoint{base: url.URL{Scheme: "https", Host: host}, root: "/v2", transport: tr}, nil)
		err = s.Ping(t.Context())
		if (err == nil) != ok {
			t.Errorf("with certificates %q: %v", certs, err)
		}
		s.Close()
	}
}

// TestSearchAsksTheIndex: without a host the configured index is asked, with what the client has for Docker Hub, and without it
// where that is refused.
func TestSearchAsksTheIndex(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		asked = append(asked, user)
		if user == "stranger" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"results":[{"name":%q}]}`, r.URL.Query().Get("q"))
	}))
	defer srv.Close()
	c := mustClient(t, Config{Index: strings.TrimPrefix(srv.URL, "http://")})
	for user, want := range map[string]string{"": `[""]`, "friend": `["friend"]`, "stranger": `["stranger" ""]`} {
		asked = nil
		var auth *registry.AuthConfig
		if user != "" {
			auth = &registry.AuthConfig{Username: user, Password: "x"}
		}
		out, err := c.Search(t.Context(), "box", 7, auth)
		if err != nil || len(out) != 1 || out[0].Name != "box" || fmt.Sprintf("%q", asked) != want {
			t.Errorf("%q: %+v %v, asked as %q", user, out, err, asked)
		}
	}
}

func TestSearch(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"results":[{"name":%q,"star_count":3}]}`, r.URL.Query().Get("q")+r.URL.Query().Get("n"))
	}))
	defer srv.Close()
	out, err := mustClient(t, Config{}).Search(t.Context(), strings.TrimPrefix(srv.URL, "http://")+"/box", 7, nil)
	if err != nil || len(out) != 1 || out[0].Name != "box7" || out[0].StarCount != 3 {
		t.Errorf("%+v %v", out, err)
	}
}
