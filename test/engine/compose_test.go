package engine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

const composeFile = `
version: "2.4"
services:
  store:
    image: busybox
    command: ["sh", "-c", "mkdir -p /data && echo from-the-store >/data/index.html && exec httpd -f -p 8000 -h /data"]
    volumes: ["data:/data"]
    networks:
      back: {aliases: [db]}
    healthcheck: {test: ["CMD", "wget", "-qO-", "http://127.0.0.1:8000/"], interval: 300ms, retries: 20}
    labels: {tier: back}
  app:
    image: busybox
    command: ["sh", "-c", "wget -qO /answer http://db:8000/ && echo app got $$(cat /answer) && exec sleep 1000"]
    depends_on:
      store: {condition: service_healthy}
    environment: {COLOUR: blue}
    networks: [back, front]
  web:
    image: busybox
    command: ["httpd", "-f", "-p", "80", "-h", "/etc"]
    ports: ["18090:80"]
    networks: [front]
    restart: unless-stopped
volumes:
  data: {}
networks:
  back: {internal: true}
  front: {}
`

func TestCompose(t *testing.T) {
	if _, err := exec.LookPath("docker-compose"); err != nil {
		t.Skip("docker-compose is not installed: make test installs it")
	}
	d := harness.Start(t)
	d.Busybox()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker-compose.yml"), []byte(composeFile), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		r := d.Exec(ctx, nil, "docker-compose", append([]string{"--no-ansi", "-p", "three", "-f", filepath.Join(dir, "docker-compose.yml")}, args...)...)
		if r.Code != 0 {
			t.Fatalf("docker-compose %v: exit %d\n%s%s", args, r.Code, r.Out, r.Err)
		}
		if args[0] == "ps" {
			return r.Out
		}
		return r.Out + r.Err
	}
	compose("up", "-d")
	harness.Eventually(t, 20*time.Second, "app reads from the store", func() bool {
		return strings.Contains(compose("logs", "app"), "app got from-the-store")
	})
	if out := compose("ps"); strings.Count(out, "Up") != 3 {
		t.Errorf("ps:\n%s", out)
	}
	if out := compose("exec", "-T", "app", "sh", "-c", "echo $COLOUR"); !strings.Contains(out, "blue") {
		t.Errorf("exec: %q", out)
	}
	if out := d.InNet("curl", "-s", "-m", "3", "http://127.0.0.1:18090/group").Out; !strings.HasPrefix(out, "root:") {
		t.Errorf("published port: %q", out)
	}
	compose("up", "-d", "--scale", "app=3")
	if out := compose("ps", "-q", "app"); len(strings.Fields(out)) != 3 {
		t.Errorf("scaled: %q", out)
	}
	compose("restart", "-t", "1", "app")
	compose("stop", "-t", "1", "store")
	if out := compose("ps"); !strings.Contains(out, "Exit") {
		t.Errorf("ps after stop:\n%s", out)
	}
	compose("down", "-v", "-t", "1")
	if out := d.OK("ps", "-aq"); out != "" {
		t.Errorf("containers are left: %q", out)
	}
	if out := d.OK("volume", "ls", "-q"); out != "" {
		t.Errorf("volumes are left: %q", out)
	}
	if out := d.OK("network", "ls", "--format", "{{.Name}}"); strings.Contains(out, "three") {
		t.Errorf("networks are left: %q", out)
	}
}

const pythonClient = `
import docker, io, tarfile, sys
version = sys.argv[1]
c = docker.DockerClient(base_url=sys.argv[2], version=version, timeout=60)
assert c.ping()
assert c.version()["ApiVersion"] == "1.55", c.version()
name = "py" + version.replace(".", "")
box = c.containers.run("busybox", ["sh", "-c", "echo started; sleep 100"], detach=True, name=name, labels={"py": version})
box.reload()
assert box.status == "running", box.status
code, out = box.exec_run("echo hi")
assert (code, out) == (0, b"hi\n"), (code, out)
assert [x.name for x in c.containers.list(filters={"label": "py=" + version})] == [name]
for _ in range(100):
    if box.logs() == b"started\n":
        break
else:
    raise AssertionError(box.logs())
assert "pids_stats" in box.stats(stream=False) or version < "1.23"
buf = io.BytesIO()
with tarfile.open(fileobj=buf, mode="w") as t:
    info = tarfile.TarInfo("file")
    info.size = 4
    t.addfile(info, io.BytesIO(b"data"))
assert box.put_archive("/tmp", buf.getvalue())
assert box.exec_run("cat /tmp/file")[1] == b"data"
stream, stat = box.get_archive("/tmp/file")
assert stat["size"] == 4 and b"data" in b"".join(stream)
net = c.networks.create("pynet" + name)
if version > "1.21": # this library knows no connect before
    net.connect(box, aliases=["al"])
    net.reload()
    net.disconnect(box)
net.remove()
vol = c.volumes.create("pyvol" + name)
vol.remove()
img = box.commit("pyimg" + name)
assert c.images.get("pyimg" + name).id == img.id
c.images.remove("pyimg" + name)
box.stop(timeout=0)
assert box.wait()["StatusCode"] == 137
box.remove()
try:
    c.containers.get(name)
    raise AssertionError("it is still there")
except docker.errors.NotFound:
    pass
print("ok", version)
`

func TestPythonClient(t *testing.T) {
	if exec.Command("/usr/bin/python3", "-c", "import docker").Run() != nil {
		t.Skip("python3-docker is not installed: make test installs it")
	}
	d := harness.Start(t)
	d.Busybox()
	script := filepath.Join(t.TempDir(), "client.py")
	if err := os.WriteFile(script, []byte(pythonClient), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1.21", "1.24", "1.33", "1.41"} {
		t.Run(version, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r := d.Exec(ctx, nil, "/usr/bin/python3", script, version, "unix://"+d.Socket)
			if r.Code != 0 {
				t.Errorf("exit %d\n%s%s", r.Code, r.Out, r.Err)
			}
		})
	}
}
