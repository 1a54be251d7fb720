package apiversions

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestDockerCLI pins docker's own client to each version that it can speak.
func TestDockerCLI(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	if err := os.WriteFile(filepath.Join(d.Dir, "f"), []byte("content\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for minor := 24; minor <= 50; minor++ {
		t.Run(fmt.Sprintf("1.%d", minor), func(t *testing.T) {
			cli := pinned{t, d, fmt.Sprintf("1.%d", minor)}
			cli.want("hello\n", "run", "--rm", "busybox", "echo", "hello")
			cli.run("run", "-d", "--name", "web", "-p", "127.0.0.1:8200:80", "-v", "vol:/v", "-e", "A=b", "busybox", "sh", "-c", "echo logged; exec sleep 1000")
			cli.want("b\n", "exec", "web", "sh", "-c", "echo $A")
			cli.want("web running b8200\n", "inspect", "-f", `{{slice .Name 1}} {{.State.Status}} b{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}`, "web")
			cli.want("logged\n", "logs", "web")
			if minor%24 == 0 || minor == 41 {
				cli.more()
			}
			cli.run("rm", "-f", "-v", "web")
		})
	}
}

// pinned is the CLI with DOCKER_API_VERSION.
type pinned struct {
	t       *testing.T
	d       *harness.Daemon
	version string
}

func (p pinned) run(args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := p.d.Exec(ctx, nil, "env", append([]string{"DOCKER_API_VERSION=" + p.version, "docker"}, args...)...)
	if r.Code != 0 {
		p.t.Fatalf("docker %s: exit %d\n%s%s\n%s", strings.Join(args, " "), r.Code, r.Out, r.Err, p.d.Log())
	}
	return r.Out
}

func (p pinned) want(out string, args ...string) {
	p.t.Helper()
	if got := p.run(args...); got != out {
		p.t.Errorf("docker %s: %q, want %q", strings.Join(args, " "), got, out)
	}
}

// more goes through the rest of the commands.
func (p pinned) more() {
	p.t.Helper()
	p.run("cp", filepath.Join(p.d.Dir, "f"), "web:/f")
	p.want("content\n", "exec", "web", "cat", "/f")
	p.want("A /f\nA /v\n", "diff", "web")
	p.run("commit", "web", "committed")
	p.want("content\n", "run", "--rm", "committed", "cat", "/f")
	p.run("images")
	p.run("rmi", "committed")
	p.run("top", "web")
	p.run("pause", "web")
	p.run("unpause", "web")
	p.run("update", "--cpu-shares", "512", "web")
	p.run("rename", "web", "other")
	p.run("rename", "other", "web")
	p.run("network", "create", "net")
	p.run("network", "connect", "net", "web")
	p.want("net bridge\n", "network", "inspect", "-f", "{{.Name}} {{.Driver}}", "net")
	p.run("network", "disconnect", "net", "web")
	p.run("network", "rm", "net")
	p.want("vol\n", "volume", "ls", "-q", "-f", "name=vol")
	p.run("events", "--since", "1s", "--until", "0s")
	p.run("version")
	p.run("info")
	p.run("stop", "-t", "0", "web")
	p.want("137\n", "wait", "web")
}

const pythonScript = `
import docker, sys
c = docker.DockerClient(base_url=sys.argv[1], version=sys.argv[2])
assert c.api._version == sys.argv[2]
x = c.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2; exit 3"], detach=True)
assert x.wait()["StatusCode"] == 3
assert x.logs(stdout=True, stderr=False) == b"out\n", x.logs()
assert x.logs(stdout=False, stderr=True) == b"err\n"
assert x.attrs["Config"]["Image"] == "busybox"
img = x.commit("python", "t")
assert img.tags == ["python:t"], img.tags
x.remove()
y = c.containers.run("busybox", "sleep 1000", detach=True, volumes={"pyvol": {"bind": "/v", "mode": "rw"}}, ports={"80/tcp": 8300}, name="web")
y.reload()
assert y.ports["80/tcp"][0]["HostPort"] == "8300", y.ports
code, out = y.exec_run(["echo", "hi"])
assert (code, out) == (0, b"hi\n"), (code, out)
assert "sleep" in str(y.top())
assert next(iter(y.stats(decode=True, stream=True)))["cpu_stats"]
bits, st = y.get_archive("/bin/sh")
assert st["name"] == "sh" and b"".join(bits)
n = c.networks.create("pynet")
n.connect(y)
n.reload()
assert [k.name for k in n.containers] == ["web"]
n.disconnect(y)
n.remove()
assert [k.name for k in c.containers.list(filters={"name": "web"})] == ["web"]
y.remove(force=True)
c.volumes.get("pyvol").remove()
c.images.remove("python:t")
assert c.info()["Containers"] >= 0 and c.version()["Version"] and c.ping()
`

// TestPythonClient runs docker's Python client, which refuses versions before 1.24, at old and middle versions.
func TestPythonClient(t *testing.T) {
	if out, err := exec.Command("python3", "-c", "import docker").CombinedOutput(); err != nil {
		t.Skipf("needs python3-docker (make setup): %s", out)
	}
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	for _, version := range []string{"1.24", "1.33", "1.41", "1.44"} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if r := d.Exec(ctx, nil, "python3", "-c", pythonScript, "unix://"+d.Socket, version); r.Code != 0 {
			t.Errorf("%s: %s%s", version, r.Out, r.Err)
		}
		cancel()
	}
}
