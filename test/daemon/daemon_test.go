// Package daemon tests the daemon's own settings with real peers: TLS clients, systemd's protocols, Prometheus' text
// format, an OpenTelemetry collector.
package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"longshore/test/harness"
)

const patience = 30 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	a := &authority{key: key, dir: t.TempDir(), cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	must(t, err)
	write(t, a.dir+"/ca.pem", "CERTIFICATE", der)
	return a
}

func write(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// issue writes name.pem and name-key.pem.
func (a *authority) issue(t *testing.T, name string, usage x509.ExtKeyUsage) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}, a.cert, &key.PublicKey, a.key)
	must(t, err)
	write(t, a.dir+"/"+name+".pem", "CERTIFICATE", der)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	write(t, a.dir+"/"+name+"-key.pem", "PRIVATE KEY", keyDER)
}

// TestTLS: only clients with a certificate of the daemon's authority get in, and streams work over TLS.
func TestTLS(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	a.issue(t, "server", x509.ExtKeyUsageServerAuth)
	a.issue(t, "client", x509.ExtKeyUsageClientAuth)
	other.issue(t, "client", x509.ExtKeyUsageClientAuth)
	d := harness.Start(t, "-H", "tcp://127.0.0.1", "--tlsverify", "--tlscacert", a.dir+"/ca.pem", "--tlscert", a.dir+"/server.pem", "--tlskey", a.dir+"/server-key.pem")
	d.Busybox()
	docker := func(who *authority, args ...string) harness.Result {
		return d.InNet("docker", append([]string{"-H", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", a.dir + "/ca.pem",
			"--tlscert", who.dir + "/client.pem", "--tlskey", who.dir + "/client-key.pem"}, args...)...)
	}
	if r := docker(a, "run", "--rm", "busybox", "echo", "over TLS"); r.Out != "over TLS\n" {
		t.Errorf("%+v", r)
	}
	if r := docker(other, "ps"); r.Code == 0 {
		t.Errorf("a client of another authority got in: %+v", r)
	}
	if r := d.InNet("docker", "-H", "tcp://127.0.0.1:2376", "ps"); r.Code == 0 {
		t.Errorf("a client without TLS got in: %+v", r)
	}
	if r := d.InNet("curl", "-sk", "https://127.0.0.1:2376/_ping"); r.Code == 0 {
		t.Errorf("a client without a certificate got in: %+v", r)
	}
}

// TestTLSWithoutVerification: with tls alone the daemon shows a certificate and asks for none.
func TestTLSWithoutVerification(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue(t, "server", x509.ExtKeyUsageServerAuth)
	d := harness.Start(t, "-H", "tcp://127.0.0.1:2376", "--tls", "--tlscert", a.dir+"/server.pem", "--tlskey", a.dir+"/server-key.pem")
	if r := d.InNet("docker", "-H", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", a.dir+"/ca.pem", "version", "-f", "{{.Server.Os}}"); r.Out != "linux\n" {
		t.Errorf("%+v", r)
	}
	if r := d.InNet("curl", "-s", "https://127.0.0.1:2376/_ping"); r.Code == 0 {
		t.Errorf("a client that trusts others got in: %+v", r)
	}
	if r := d.InNet("curl", "-s", "http://127.0.0.1:2376/_ping"); r.Out == "OK" {
		t.Errorf("a client without TLS got in: %+v", r)
	}
}

// TestReload: SIGHUP puts into force what can change, tells of it, and leaves everything alone when the file is wrong.
func TestReload(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	config := func(text string) {
		t.Helper()
		must(t, os.WriteFile(d.Dir+"/daemon.json", []byte(text), 0o600))
		must(t, syscall.Kill(d.PID(), syscall.SIGHUP))
	}
	ask := func() string {
		return d.OK("info", "--format", `{{.Labels}} {{.Debug}} {{.LiveRestoreEnabled}} {{.DefaultRuntime}} {{.RegistryConfig.Mirrors}}`)
	}
	d.Busybox()
	before := ask()
	config(`{"labels": ["a=b"], "debug": true, "live-restore": false, "registry-mirrors": ["http://127.0.0.1:1"], "default-runtime": "runc", "mtu": 1400}`)
	harness.Eventually(t, patience, "settings in force", func() bool { return ask() == "[a=b] true false runc [http://127.0.0.1:1/]" })
	harness.Eventually(t, patience, "an event", func() bool {
		return d.OK("events", "--since", "1h", "--until", "0s", "--filter", "type=daemon", "--format", `{{.Action}} {{index .Actor.Attributes "labels"}}`) == `reload ["a=b"]`
	})
	config(`{"default-shm-size": "32m", "default-ipc-mode": "shareable", "default-cgroupns-mode": "private"}`)
	harness.Eventually(t, patience, "defaults of new containers", func() bool {
		id := d.OK("create", "busybox")
		return d.OK("inspect", "-f", "{{.HostConfig.ShmSize}} {{.HostConfig.IpcMode}} {{.HostConfig.CgroupnsMode}}", id) == "33554432 shareable private"
	})
	tool, err := exec.LookPath("runc")
	must(t, err)
	const away = "192.0.2.1:5000"
	config(`{"runtimes": {"mine": {"path": "` + tool + `"}}, "insecure-registries": ["` + away + `"], "features": {"buildkit": false}, "shutdown-timeout": 7, "max-concurrent-downloads": 2}`)
	harness.Eventually(t, patience, "a runtime more", func() bool { return d.Docker("run", "--rm", "--runtime", "mine", "busybox", "true").Code == 0 })
	if out := d.OK("info", "-f", `{{with index .RegistryConfig.IndexConfigs "`+away+`"}}{{.Name}} {{.Secure}}{{end}}`); out != away+" false" {
		t.Errorf("registries: %s", out)
	}
	if resp, err := d.Client().Get("http://d/_ping"); err != nil || resp.Header.Get("Builder-Version") == "2" {
		t.Errorf("features: %v", err)
	}
	config(`{"runtimes": {}, "features": {}}`)
	harness.Eventually(t, patience, "without it", func() bool {
		return strings.Contains(d.Docker("run", "--rm", "--runtime", "mine", "busybox", "true").Err, "unknown or invalid runtime name: mine")
	})
	config(`{"labels": ["c=d"], "live-restore": "perhaps"}`)
	harness.Eventually(t, patience, "a complaint", func() bool { return strings.Contains(d.Log(), "configuration not reloaded") })
	if out := ask(); !strings.HasPrefix(out, "[a=b] true") {
		t.Errorf("after a wrong file: %s", out)
	}
	config(`{"labels": [], "debug": false, "live-restore": true}`)
	harness.Eventually(t, patience, "the old settings", func() bool { return strings.HasPrefix(ask(), "[] false true runc") })
	if !strings.HasPrefix(before, "[] false true") {
		t.Errorf("before: %s", before)
	}
}

// TestMetrics: dockerd's names and true figures.
func TestMetrics(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, "--metrics-addr", "127.0.0.1:9323")
	d.Busybox()
	d.OK("run", "-d", "--name", "ill", "--health-cmd", "false", "--health-interval", "100ms", "busybox", "sleep", "1000")
	var text string
	for _, want := range []string{
		`engine_daemon_container_states_containers{state="running"} 1`, `engine_daemon_container_actions_seconds_count{action="start"} 1`,
		`engine_daemon_container_actions_seconds_count{action="create"} 1`, `engine_daemon_engine_info{`, "engine_daemon_engine_cpus_cpus ",
		"engine_daemon_engine_memory_bytes ", "engine_daemon_events_total ", "engine_daemon_health_checks_failed_total ", "process_resident_memory_bytes ",
	} {
		harness.Eventually(t, patience, want, func() bool {
			text = d.InNet("curl", "-s", "http://127.0.0.1:9323/metrics").Out
			return strings.Contains(text, want) && !strings.Contains(text, "health_checks_failed_total 0")
		})
	}
	d.OK("rm", "-f", "ill")
}

// spans are the names of what a collector was told.
type spans struct {
	collector.UnimplementedTraceServiceServer
	names chan string
}

// Export implements the collector's service.
func (s *spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, span := range ss.Spans {
				s.names <- span.Name
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// ServeHTTP is the same over http/protobuf.
func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &req) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = s.Export(r.Context(), &req)
}

// TestTraces: requests arrive at a collector, by both protocols.
func TestTraces(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			d := harness.New(t)
			l := d.Listen()
			s := &spans{names: make(chan string, 10000)}
			if protocol == "grpc" {
				srv := grpc.NewServer()
				collector.RegisterTraceServiceServer(srv, s)
				go func() { _ = srv.Serve(l) }()
				defer srv.Stop()
			} else {
				srv := &http.Server{Handler: s}
				go func() { _ = srv.Serve(l) }()
				defer srv.Close()
			}
			d.Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + l.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol, "OTEL_BSP_SCHEDULE_DELAY=100"}
			d.Up()
			d.OK("network", "ls")
			deadline := time.After(patience)
			for {
				select {
				case name := <-s.names:
					if strings.HasPrefix(name, "GET /v1.") && strings.HasSuffix(name, "/networks") {
						return
					}
				case <-deadline:
					t.Fatal("no span came")
				}
			}
		})
	}
}

// TestSystemd: the daemon serves a socket that it was handed and says when it is ready.
func TestSystemd(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the engine runs as root only")
	}
	dir := t.TempDir()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify", Net: "unixgram"})
	must(t, err)
	defer notify.Close()
	l, err := net.Listen("unix", dir+"/handed.sock")
	must(t, err)
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	must(t, err)
	defer f.Close()
	netns := fmt.Sprintf("ls-sd-%d", os.Getpid())
	must(t, exec.Command("ip", "netns", "add", netns).Run())
	defer exec.Command("ip", "netns", "del", netns).Run()
	must(t, os.WriteFile(dir+"/daemon.json", []byte("{}"), 0o600))
	c := exec.Command("nsenter", "--net=/run/netns/"+netns, "sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, harness.Bin("longshore"), "engine", "-H", "fd://",
		"--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "--config-file", dir+"/daemon.json")
	c.ExtraFiles, c.Stderr = []*os.File{f}, os.Stderr
	c.Env = append(os.Environ(), "NOTIFY_SOCKET="+dir+"/notify")
	must(t, c.Start())
	told := func(want string) {
		b := make([]byte, 100)
		must(t, notify.SetReadDeadline(time.Now().Add(patience)))
		if n, err := notify.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("%q %v, want %s", b[:n], err, want)
		}
	}
	defer func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		told("STOPPING=1")
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}()
	told("READY=1")
	client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "handed.sock"))
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://d/_ping")
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}

// TestVersionFlag: as dockerd, the daemon tells its version and ends.
func TestVersionFlag(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--version", "-v"} {
		out, err := exec.Command(harness.Bin("longshore"), "engine", flag).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "longshore ") {
			t.Errorf("%v %s", err, out)
		}
	}
}

// TestRefusedSettings: what cannot be meant is said by name, and nothing starts.
func TestRefusedSettings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"min-api-version": "2.0"}`:                     "min-api-version",
		`{"features": {"levitation": true}}`:             `features: "levitation" is not known`,
		`{"features": {"containerd-snapshotter":false}}`: "containerd-snapshotter cannot be turned off",
		`{"metrics-addr": "here"}`:                       "metrics-addr",
		`{"max-download-attempts": -1}`:                  "max-download-attempts",
		`{"bogus": 1}`:                                   "bogus",
	} {
		path := filepath.Join(t.TempDir(), "daemon.json")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		out, err := exec.Command(harness.Bin("longshore"), "engine", "--validate", "--config-file", path).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v %s", text, err, out)
		}
	}
}

// TestMinimumAPI: min-api-version refuses old clients as dockerd does.
func TestMinimumAPI(t *testing.T) {
	t.Parallel()
	d := harness.New(t, "--min-api-version", "1.40")
	d.Up()
	for path, want := range map[string]int{"/v1.39/version": 400, "/v1.40/version": 200} {
		resp, err := d.Client().Get("http://d" + path)
		must(t, err)
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}
