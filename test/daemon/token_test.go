package daemon

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

// holder is a user of the docker CLI who has a token.
type holder struct {
	t   *testing.T
	d   *harness.Daemon
	dir string
}

func tokenCommand(t *testing.T, d *harness.Daemon, args ...string) string {
	t.Helper()
	out, err := exec.Command(harness.Bin("longshore"), append([]string{"token", "--data-root", d.DataRoot()}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("longshore token %s: %v %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func newHolder(t *testing.T, d *harness.Daemon, name string, flags ...string) *holder {
	t.Helper()
	token := tokenCommand(t, d, append([]string{"add", name}, flags...)...)
	h := &holder{t, d, t.TempDir()}
	doc, err := json.Marshal(map[string]any{"HttpHeaders": map[string]string{"Authorization": "Bearer " + token}})
	must(t, err)
	must(t, os.WriteFile(h.dir+"/config.json", doc, 0o600))
	return h
}

func (h *holder) docker(args ...string) harness.Result {
	return h.d.Docker(append([]string{"--config", h.dir}, args...)...)
}

func (h *holder) ok(args ...string) string {
	h.t.Helper()
	r := h.docker(args...)
	if r.Code != 0 {
		h.t.Errorf("docker %s: exit %d\n%s%s", strings.Join(args, " "), r.Code, r.Out, r.Err)
	}
	return strings.TrimSpace(r.Out)
}

func (h *holder) fails(words string, args ...string) {
	h.t.Helper()
	if r := h.docker(args...); r.Code == 0 || !strings.Contains(r.Err+r.Out, words) {
		h.t.Errorf("docker %s: exit %d, want a failure with %q, got\n%s%s", strings.Join(args, " "), r.Code, words, r.Out, r.Err)
	}
}

// TestTokens: a caller with a token does what it grants, within its namespace, and nothing else; all of it is written down.
func TestTokens(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	allowed := t.TempDir()
	must(t, os.WriteFile(allowed+"/f", []byte("text\n"), 0o644))
	must(t, os.Symlink("/etc", allowed+"/out"))
	ci := newHolder(t, d, "ci", "--allow", "containers/*", "--allow", "exec/*", "--allow", "images/*", "--allow", "networks/*", "--allow", "volumes/*", "--allow", "events/*",
		"--label", "team=ci", "--bind", allowed, "--redact-env")
	d.OK("run", "-d", "--name", "theirs", "-e", "A=secret", "busybox", "sleep", "1000")
	d.OK("volume", "create", "theirdata")
	d.OK("network", "create", "theirnet")

	ci.ok("run", "-d", "--name", "ours", "-e", "A=secret", "-v", allowed+":/in:ro", "-v", "ourdata:/data", "busybox", "sleep", "1000")
	if out := ci.ok("ps", "-a", "--format", "{{.Names}}"); out != "ours" {
		t.Errorf("ps: %s", out)
	}
	if out := ci.ok("exec", "ours", "cat", "/in/f"); out != "text" {
		t.Errorf("exec: %s", out)
	}
	if out := ci.ok("inspect", "-f", `{{.Config.Env}} {{index .Config.Labels "team"}}`, "ours"); out != "[A=<redacted> PATH=<redacted>] ci" && out != "[PATH=<redacted> A=<redacted>] ci" {
		t.Errorf("inspect: %s", out)
	}
	if out := d.OK("volume", "inspect", "-f", `{{index .Labels "team"}}`, "ourdata"); out != "ci" {
		t.Errorf("volume: %s", out)
	}
	if out := ci.ok("volume", "ls", "-q"); out != "ourdata" {
		t.Errorf("volumes: %s", out)
	}
	ci.ok("network", "create", "ournet")
	ci.ok("network", "connect", "ournet", "ours")
	if out := ci.ok("network", "ls", "--format", "{{.Name}}"); out != "ournet" {
		t.Errorf("networks: %s", out)
	}

	for _, refused := range [][]string{
		{"No such container", "stop", "theirs"}, {"No such container", "logs", "theirs"}, {"No such container", "exec", "theirs", "true"}, {"No such container", "container", "inspect", "theirs"},
		{"No such container", "rm", "theirs"}, {"No such container", "cp", "theirs:/etc/passwd", "-"}, {"not found", "network", "connect", "theirnet", "ours"},
		{"no such volume", "run", "--rm", "-v", "theirdata:/d", "busybox", "true"}, {"No such container", "run", "--rm", "--volumes-from", "theirs", "busybox", "true"},
		{"No such container", "run", "--rm", "--network", "container:theirs", "busybox", "true"}, {"not found", "run", "--rm", "--network", "theirnet", "busybox", "true"},
		{"is not below", "run", "--rm", "-v", "/etc:/e", "busybox", "true"}, {"is not below", "run", "--rm", "-v", allowed + "/out:/e", "busybox", "true"},
		{"is not below", "run", "--rm", "--mount", "type=bind,src=/,dst=/e", "busybox", "true"}, {"privileged mode", "run", "--rm", "--privileged", "busybox", "true"},
		{"the host's network", "run", "--rm", "--network", "host", "busybox", "true"}, {"devices", "run", "--rm", "--device", "/dev/null", "busybox", "true"},
		{"privileged mode", "exec", "--privileged", "ours", "true"}, {"driver options", "volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", "device=/etc", "sly"},
		{"label team", "run", "--rm", "--label", "team=other", "busybox", "true"}, {"not among the operations", "info"}, {"not among the operations", "system", "df"},
		{"label namespace", "rmi", "-f", "busybox"}, {"already used", "volume", "create", "theirdata"},
	} {
		ci.fails(refused[0], refused[1:]...)
	}
	for _, prune := range []string{"container", "network", "volume"} {
		d.OK("create", "--name", "stopped"+prune, "busybox")
		ci.ok(prune, "prune", "-f")
		d.OK("rm", "stopped"+prune)
	}
	d.OK("volume", "inspect", "theirdata")
	d.OK("network", "inspect", "theirnet")
	if r := d.Docker("--config", ci.dir, "--version"); r.Code != 0 {
		t.Error(r)
	}
	audit(t, d)
	d.OK("rm", "-f", "-v", "ours", "theirs")
	tokenCommand(t, d, "remove", "ci")
	ci.fails("the token is not valid", "ps")
}

// audit looks at what was written down.
func audit(t *testing.T, d *harness.Daemon) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.DataRoot(), "audit.log"))
	must(t, err)
	var allowed, denied int
	for line := range strings.Lines(string(text)) {
		var e struct {
			Name, Operation, Object, Error string
			Allowed                        bool
		}
		must(t, json.Unmarshal([]byte(line), &e))
		switch {
		case e.Name != "ci":
			t.Errorf("%s", line)
		case e.Operation == "containers/create" && e.Object == "ours" && e.Allowed:
			allowed++
		case e.Operation == "containers/stop" && e.Object == "theirs" && !e.Allowed && strings.Contains(e.Error, "No such container"):
			denied++
		}
	}
	if allowed != 1 || denied != 1 {
		t.Errorf("%d allowed, %d denied in\n%s", allowed, denied, text)
	}
	if out := tokenCommand(t, d, "audit"); out != "ok" {
		t.Error(out)
	}
}

// TestRequiredTokens: over TCP nobody gets in without one; the socket stays root's.
func TestRequiredTokens(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, "-H", "tcp://127.0.0.1:2375", "--require-token", "tcp")
	token := tokenCommand(t, d, "add", "all", "--allow", "**")
	curl := func(header string) string {
		return d.InNet("curl", "-s", "-o", d.Dir+"/answer", "-w", "%{http_code}", "-H", header, "http://127.0.0.1:2375/v1.41/info").Out
	}
	for header, want := range map[string]string{
		"X: y": "401", "Authorization: Bearer " + token: "200", "Authorization: Bearer " + token + "x": "401", "Authorization: Bearer lst_x": "401",
	} {
		if got := curl(header); got != want {
			t.Errorf("%s: %s, want %s", header, got, want)
		}
	}
	d.OK("info")
}
