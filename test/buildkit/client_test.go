package buildkit_test

import (
	"archive/tar"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"golang.org/x/crypto/ssh/agent"

	"longshore/test/harness"
)

// TestClient has one daemon for what BuildKit's client can ask; each part has names of its own.
func TestClient(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	c := connect(t, d)
	for name, part := range map[string]func(*testing.T, *harness.Daemon, *client.Client){
		"image": testImage, "secret": testSecret, "ssh agent": testSSH, "files": testFiles, "archives": testArchives,
		"failure": testFailure, "local cache": testLocalCache, "attestations": testAttestations, "platforms": testPlatforms,
		"workers": testWorkers, "cache mount": testCacheMount, "SBOM": testSBOM,
	} {
		t.Run(name, func(t *testing.T) { part(t, d, c) })
	}
}

func testImage(t *testing.T, d *harness.Daemon, c *client.Client) {
	opt := options(t, lines("FROM busybox AS base", "RUN echo base > /base", "FROM base", "COPY hello.txt /", "LABEL of=test", `CMD ["cat","/base","/hello.txt"]`),
		map[string]string{"hello.txt": "hello\n"})
	opt.Exports = image("docker.io/library/made:1", "docker.io/library/made:2")
	s := must(t, c, opt)
	digest := s.resp.ExporterResponse["containerimage.digest"]
	if got := d.OK("images", "--no-trunc", "-q", "made:1"); got != digest {
		t.Errorf("docker images says %q, the build %q", got, digest)
	}
	if got := d.OK("run", "--rm", "made:2"); got != "base\nhello" {
		t.Errorf("container wrote %q", got)
	}
	if again := must(t, c, opt); again.resp.ExporterResponse["containerimage.digest"] != digest {
		t.Error("a build of the same gave another image")
	}
	opt = options(t, lines("FROM busybox", "RUN echo other > /other"), nil)
	opt.Exports = image("docker.io/library/made:1")
	must(t, c, opt)
	if !strings.Contains(d.OK("images", "-a", "--no-trunc", "made"), digest) {
		t.Error("the image lost its other name")
	}
}

func testSecret(t *testing.T, d *harness.Daemon, c *client.Client) {
	opt := options(t, lines("FROM busybox", "RUN --mount=type=secret,id=token,required=true cat /run/secrets/token | tr a-z A-Z",
		"RUN --mount=type=secret,id=token,env=TOKEN echo env=$TOKEN", "RUN test ! -e /run/secrets/token"), nil)
	opt.Session = []session.Attachable{secretsprovider.FromMap(map[string][]byte{"token": []byte("hidden")})}
	if s := must(t, c, opt); !strings.Contains(s.log, "HIDDEN") || !strings.Contains(s.log, "env=hidden") {
		t.Errorf("log: %s", s.log)
	}
}

func testSSH(t *testing.T, d *harness.Daemon, c *client.Client) {
	keys := agent.NewKeyring()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Add(agent.AddedKey{PrivateKey: key, Comment: "test key"}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(keys, conn)
			}()
		}
	}()
	provider, err := sshprovider.NewSSHAgentProvider([]sshprovider.AgentConfig{{ID: "default", Paths: []string{socket}}})
	if err != nil {
		t.Fatal(err)
	}
	opt := options(t, lines("FROM busybox", "RUN --mount=type=ssh,required=true test -S $SSH_AUTH_SOCK && echo agent at $SSH_AUTH_SOCK"), nil)
	opt.Session = []session.Attachable{provider}
	if s := must(t, c, opt); !strings.Contains(s.log, "agent at /run/buildkit/ssh_agent.0") {
		t.Errorf("log: %s", s.log)
	}
}

func testFiles(t *testing.T, d *harness.Daemon, c *client.Client) {
	out := t.TempDir()
	opt := options(t, lines("FROM busybox AS make", "RUN mkdir /out && echo made > /out/file && chmod 700 /out/file", "FROM scratch", "COPY --from=make /out /"), nil)
	opt.Exports = []client.ExportEntry{{Type: "local", OutputDir: out}}
	must(t, c, opt)
	text, err := os.ReadFile(filepath.Join(out, "file"))
	if err != nil || string(text) != "made\n" {
		t.Errorf("file: %q %v", text, err)
	}
}

func testArchives(t *testing.T, d *harness.Daemon, c *client.Client) {
	for typ, want := range map[string]string{"tar": "made", "oci": "oci-layout", "docker": "manifest.json"} {
		path := filepath.Join(t.TempDir(), typ)
		opt := options(t, lines("FROM busybox", "RUN echo archive > /made"), nil)
		opt.Exports = []client.ExportEntry{{
			Type: typ, Attrs: map[string]string{"name": "docker.io/library/archived:" + typ},
			Output: func(map[string]string) (io.WriteCloser, error) { return os.Create(path) },
		}}
		must(t, c, opt)
		if names := members(t, path); !slices.Contains(names, want) {
			t.Errorf("%s: %q", typ, names)
		}
		if typ == "docker" {
			d.OK("load", "-i", path)
			if got := d.OK("run", "--rm", "archived:docker", "cat", "/made"); got != "archive" {
				t.Errorf("loaded image wrote %q", got)
			}
		}
	}
}

func members(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, h.Name)
	}
}

func testFailure(t *testing.T, d *harness.Daemon, c *client.Client) {
	s := solve(t.Context(), t, c, options(t, lines("FROM busybox", "RUN echo before; exit 7"), nil))
	if s.err == nil || !strings.Contains(s.err.Error(), "exit code: 7") || !strings.Contains(s.log, "before") {
		t.Errorf("error %v, log %s", s.err, s.log)
	}
	s = solve(t.Context(), t, c, options(t, lines("FROM busybox", "RUNN nonsense"), nil))
	if s.err == nil || !strings.Contains(s.err.Error(), "RUNN") {
		t.Errorf("error %v", s.err)
	}
}

func testLocalCache(t *testing.T, d *harness.Daemon, c *client.Client) {
	dir := t.TempDir()
	opt := options(t, lines("FROM busybox", "RUN cat /proc/sys/kernel/random/uuid > /random"), nil)
	opt.CacheExports = []client.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"dest": dir, "mode": "max"}}}
	out := t.TempDir()
	opt.Exports = []client.ExportEntry{{Type: "local", OutputDir: out}}
	must(t, c, opt)
	first, err := os.ReadFile(filepath.Join(out, "random"))
	if err != nil {
		t.Fatal(err)
	}
	d.OK("builder", "prune", "-af")
	opt.CacheExports = nil
	opt.CacheImports = []client.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"src": dir}}}
	s := must(t, c, opt)
	second, err := os.ReadFile(filepath.Join(out, "random"))
	if err != nil || string(first) != string(second) || !strings.Contains(s.log, "CACHED") {
		t.Errorf("%q and %q %v\n%s", first, second, err, s.log)
	}
}

func testAttestations(t *testing.T, d *harness.Daemon, c *client.Client) {
	opt := options(t, lines("FROM busybox", "RUN echo attested > /a"), nil)
	opt.FrontendAttrs["attest:provenance"] = "mode=max"
	opt.Exports = image("docker.io/library/attested:1")
	s := must(t, c, opt)
	if got := d.OK("images", "--no-trunc", "-q", "attested:1"); got != s.resp.ExporterResponse["containerimage.digest"] {
		t.Errorf("docker images says %q", got)
	}
	if got := d.OK("run", "--rm", "attested:1", "cat", "/a"); got != "attested" {
		t.Errorf("container wrote %q", got)
	}
	if got := d.OK("save", "attested:1", "-o", filepath.Join(t.TempDir(), "a.tar")); got != "" {
		t.Errorf("save: %s", got)
	}
}

func testPlatforms(t *testing.T, d *harness.Daemon, c *client.Client) {
	opt := options(t, lines("FROM --platform=$BUILDPLATFORM busybox AS make", "ARG TARGETPLATFORM", "RUN echo for $TARGETPLATFORM > /platform",
		"FROM scratch", "COPY --from=make /platform /"), nil)
	opt.FrontendAttrs["platform"] = "linux/amd64,linux/arm64"
	opt.Exports = image("docker.io/library/many:1")
	must(t, c, opt)
	for platform, want := range map[string]string{"linux/amd64": "for linux/amd64", "linux/arm64": "for linux/arm64"} {
		id := d.OK("create", "--platform", platform, "many:1", "x")
		path := filepath.Join(t.TempDir(), "p")
		d.OK("cp", id+":/platform", path)
		if text, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("%s: %q %v", platform, text, err)
		}
		d.OK("rm", id)
	}
}

func testWorkers(t *testing.T, d *harness.Daemon, c *client.Client) {
	list, err := c.ListWorkers(t.Context())
	if err != nil || len(list) != 1 || len(list[0].Platforms) == 0 {
		t.Errorf("workers: %v %v", list, err)
	}
	if info, err := c.Info(t.Context()); err != nil || info.BuildkitVersion.Version == "" {
		t.Errorf("info: %v %v", info, err)
	}
}

func testCacheMount(t *testing.T, d *harness.Daemon, c *client.Client) {
	for _, want := range []string{"1", "2"} {
		opt := options(t, lines("FROM busybox", "ARG turn", "RUN --mount=type=cache,target=/keep echo x >> /keep/f; echo count=$(wc -l < /keep/f)"), nil)
		opt.FrontendAttrs["build-arg:turn"] = want
		if s := must(t, c, opt); !strings.Contains(s.log, "count="+want) {
			t.Errorf("turn %s: %s", want, s.log)
		}
	}
}

// testSBOM has a scanner of its own: a scanner finds where to write in its environment.
func testSBOM(t *testing.T, d *harness.Daemon, c *client.Client) {
	scanner := options(t, lines("FROM busybox", "COPY statement.json scan.sh /", `CMD ["sh","/scan.sh"]`), map[string]string{
		"statement.json": `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{"spdxVersion":"SPDX-2.3","name":"found"}}`,
		"scan.sh":        "cp /statement.json $BUILDKIT_SCAN_DESTINATION/sbom.spdx.json",
	})
	scanner.Exports = image("docker.io/library/scanner:1")
	must(t, c, scanner)
	opt := options(t, lines("FROM busybox", "RUN echo scanned > /s"), nil)
	opt.FrontendAttrs["attest:sbom"] = "generator=scanner:1"
	opt.Exports = image("docker.io/library/scanned:1")
	must(t, c, opt)
	path := filepath.Join(t.TempDir(), "scanned.tar")
	d.OK("save", "-o", path, "scanned:1")
	f, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(f), "spdx.dev") {
		t.Errorf("no SBOM in the image: %v", err)
	}
	if got := d.OK("run", "--rm", "scanned:1", "cat", "/s"); got != "scanned" {
		t.Errorf("container wrote %q", got)
	}
}
