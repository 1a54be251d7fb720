package daemon

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"longshore/test/harness"
)

// plugin is an authorization plugin: an HTTP server on a socket where dockerd looks for one.
type plugin struct {
	name string
	srv  *http.Server
	path string

	mu    sync.Mutex
	calls []asked
	deny  func(asked) string // why, empty: allowed
}

// asked is one question.
type asked struct {
	Method                    string `json:"-"` // AuthZReq or AuthZRes
	User, UserAuthNMethod     string
	RequestMethod, RequestUri string //nolint:revive // the protocol's name
	RequestBody, ResponseBody []byte
	RequestHeaders            map[string]string
	RequestPeerCertificates   [][]byte
	ResponseStatusCode        int
	ResponseHeaders           map[string]string
}

func startPlugin(t *testing.T, name string) *plugin {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a plugin's socket lies below /run")
	}
	must(t, os.MkdirAll("/run/docker/plugins", 0o755))
	p := &plugin{name: fmt.Sprintf("longshore-%d-%s", os.Getpid(), name)}
	p.path = "/run/docker/plugins/" + p.name + ".sock"
	p.up(t)
	t.Cleanup(p.down)
	return p
}

func (p *plugin) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", p.path)
	must(t, err)
	p.srv = &http.Server{Handler: p}
	go func(s *http.Server) { _ = s.Serve(l) }(p.srv)
}

func (p *plugin) down() { _ = p.srv.Close() } // removes the socket

func (p *plugin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/AuthZPlugin.")
	if method == r.URL.Path {
		fmt.Fprintln(w, `{"Implements": ["authz"]}`)
		return
	}
	var a asked
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.Method = method
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, a)
	why := ""
	if p.deny != nil {
		why = p.deny(a)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"Allow": why == "", "Msg": why})
}

func (p *plugin) set(deny func(asked) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deny, p.calls = deny, nil
}

// find gives the last question of the method whose path has that end.
func (p *plugin) find(method, suffix string) (asked, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.calls) - 1; i >= 0; i-- {
		path, _, _ := strings.Cut(p.calls[i].RequestUri, "?")
		if p.calls[i].Method == method && strings.HasSuffix(path, suffix) {
			return p.calls[i], true
		}
	}
	return asked{}, false
}

// TestAuthorizationPlugin: a real plugin sees and denies requests and answers; streams run through it.
func TestAuthorizationPlugin(t *testing.T) {
	t.Parallel()
	p := startPlugin(t, "a")
	d := harness.Start(t, "--authorization-plugin", p.name)
	d.Busybox()
	if out := d.OK("info", "-f", "{{.Plugins.Authorization}}"); out != "["+p.name+"]" {
		t.Errorf("info: %s", out)
	}
	d.OK("create", "-i", "--name", "box", "--label", "secret=no", "busybox", "sh", "-c", "read x; echo got $x; echo err >&2")
	a, ok := p.find("AuthZReq", "/containers/create")
	if !ok || a.RequestMethod != "POST" || !strings.Contains(string(a.RequestBody), `"secret":"no"`) || a.RequestHeaders["Content-Type"] != "application/json" || a.User != "" {
		t.Errorf("the plugin saw %v %+v %s", ok, a, a.RequestBody)
	}
	a, ok = p.find("AuthZRes", "/containers/create")
	if !ok || a.ResponseStatusCode != 201 || !strings.Contains(string(a.ResponseBody), `"Id"`) || !strings.Contains(string(a.RequestBody), "secret") {
		t.Errorf("the plugin saw %v %d %s", ok, a.ResponseStatusCode, a.ResponseBody)
	}
	if r := d.DockerIn(strings.NewReader("word\n"), "start", "-ai", "box"); r.Out != "got word\n" || r.Err != "err\n" {
		t.Errorf("a hijacked stream: %+v", r)
	}
	if _, ok := p.find("AuthZRes", "/attach"); !ok {
		t.Error("the plugin was not told of the stream's end")
	}
	if out := d.OK("logs", "box"); !strings.Contains(out, "got word") {
		t.Errorf("logs: %s", out)
	}
	d.OK("run", "--rm", "-v", "/tmp", "busybox", "true")
	d.Fails("No such container: none", "inspect", "--type", "container", "none")

	p.set(func(a asked) string {
		if a.Method == "AuthZReq" && strings.Contains(string(a.RequestBody), `"Privileged":true`) {
			return "no privileged containers"
		}
		return ""
	})
	d.Fails("authorization denied by plugin "+p.name+": no privileged containers", "create", "--privileged", "busybox")
	d.OK("create", "--name", "meek", "busybox")
	status, text := ask(t, d, "POST", "/containers/create", `{"Image": "busybox", "HostConfig": {"Privileged":true}}`)
	if status != 403 || text != `{"message":"authorization denied by plugin `+p.name+`: no privileged containers"}` {
		t.Errorf("%d %s", status, text)
	}
	if status, text = ask(t, d, "POST", "/v1.20/containers/create", `{"Image": "busybox", "HostConfig": {"Privileged":true}}`); status != 403 || strings.HasPrefix(text, "{") {
		t.Errorf("before 1.24: %d %s", status, text)
	}
	p.set(func(a asked) string {
		if a.Method == "AuthZRes" && strings.Contains(string(a.ResponseBody), "meek") {
			return "you have not seen this"
		}
		return ""
	})
	d.Fails("authorization denied by plugin "+p.name+": you have not seen this", "ps", "-a")
	d.OK("rm", "box") // nothing of the name in its answer
	p.set(nil)

	// A body of a megabyte is not for plugins, and arrives whole.
	long := fmt.Sprintf(`{"Image": "busybox", "Env": ["LONG=%s"]}`, strings.Repeat("x", 1<<20))
	if status, text = ask(t, d, "POST", "/containers/create?name=long", long); status != 201 {
		t.Errorf("%d %.200s", status, text)
	}
	if a, ok = p.find("AuthZReq", "/containers/create"); !ok || len(a.RequestBody) != 0 {
		t.Errorf("a long body: %v, %d bytes", ok, len(a.RequestBody))
	}
}

// ask sends one request with a JSON body.
func ask(t *testing.T, d *harness.Daemon, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://d"+path, strings.NewReader(body))
	must(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.Client().Do(req)
	must(t, err)
	defer resp.Body.Close()
	return resp.StatusCode, strings.TrimSpace(readAll(t, resp.Body))
}

// TestAuthorizationPlugins: several are asked in order, a reload changes them, one that is away fails every request.
func TestAuthorizationPlugins(t *testing.T) {
	t.Parallel()
	first, second := startPlugin(t, "b"), startPlugin(t, "c")
	d := harness.New(t)
	config := func(names ...*plugin) {
		t.Helper()
		var list []string
		for _, p := range names {
			list = append(list, fmt.Sprintf("%q", p.name))
		}
		must(t, os.WriteFile(d.Dir+"/daemon.json", []byte(`{"authorization-plugins": [`+strings.Join(list, ",")+`]}`), 0o600))
	}
	config(first, second)
	d.Up()
	second.set(func(asked) string { return "second says no" })
	d.Fails("authorization denied by plugin "+second.name+": second says no", "version")
	first.set(func(asked) string { return "first says no" })
	d.Fails("authorization denied by plugin "+first.name+": first says no", "version")
	first.set(nil)
	config(first)
	must(t, syscall.Kill(d.PID(), syscall.SIGHUP))
	harness.Eventually(t, patience, "only the first is asked", func() bool { return d.Docker("version").Code == 0 })
	must(t, os.WriteFile(d.Dir+"/daemon.json", []byte(`{"authorization-plugins": ["../x"]}`), 0o600))
	must(t, syscall.Kill(d.PID(), syscall.SIGHUP))
	harness.Eventually(t, patience, "a complaint", func() bool { return strings.Contains(d.Log(), "is no name of a plugin") })
	d.OK("version")
	// A plugin that starts again is waited for.
	first.down()
	done := make(chan harness.Result, 1)
	go func() { done <- d.Docker("network", "ls") }()
	first.up(t)
	if r := <-done; r.Code != 0 {
		t.Errorf("%+v", r)
	}
}

// TestAuthorizationOverTLS: the plugin is told who the client is.
func TestAuthorizationOverTLS(t *testing.T) {
	t.Parallel()
	p := startPlugin(t, "d")
	a := newAuthority(t)
	a.issue(t, "server", x509.ExtKeyUsageServerAuth)
	a.issue(t, "client", x509.ExtKeyUsageClientAuth)
	d := harness.Start(t, "-H", "tcp://127.0.0.1", "--tlsverify", "--tlscacert", a.dir+"/ca.pem", "--tlscert", a.dir+"/server.pem", "--tlskey", a.dir+"/server-key.pem",
		"--authorization-plugin", p.name)
	r := d.InNet("curl", "-s", "--cacert", a.dir+"/ca.pem", "--cert", a.dir+"/client.pem", "--key", a.dir+"/client-key.pem", "https://127.0.0.1:2376/v1.41/volumes")
	if r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	c, ok := p.find("AuthZReq", "/v1.41/volumes")
	if !ok || c.User != "client" || c.UserAuthNMethod != "TLS" || len(c.RequestPeerCertificates) == 0 || !strings.Contains(string(c.RequestPeerCertificates[0]), "BEGIN CERTIFICATE") {
		t.Errorf("%v %+v", ok, c)
	}
}
