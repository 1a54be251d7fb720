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
	t.Parallel()
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
	began := stampNow()
	compose("up", "-d")
	harness.Eventually(t, 20*time.Second, "app reads from the store", func() bool {
		return strings.Contains(compose("logs", "app"), "app got from-the-store")
	})
	if out := compose("ps"); strings.Count(out, "Up") != 3 || !strings.Contains(out, "Up (healthy)") {
		t.Errorf("ps:\n%s", out)
	}
	// The application waited for the store's health; what it shares with it is internal; the data lies in the volume.
	order := d.OK("events", "--since", began, "--until", stampNow(), "--filter", "type=container", "--filter", "event=health_status", "--filter", "event=start", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
	if healthy, app := strings.Index(order, "health_status: healthy three_store_1"), strings.Index(order, "start three_app_1"); healthy < 0 || app < healthy {
		t.Errorf("the application did not wait for the store's health:\n%s", order)
	}
	says(t, d, "true", "network", "inspect", "-f", "{{.Internal}}", "three_back")
	says(t, d, "three", "volume", "inspect", "-f", `{{index .Labels "com.docker.compose.project"}}`, "three_data")
	says(t, d, "from-the-store", "run", "--rm", "-v", "three_data:/d", "busybox", "cat", "/d/index.html")
	says(t, d, "three_back three_front", "inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}", "three_app_1")
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
	before := d.OK("inspect", "-f", "{{.State.StartedAt}}", "three_app_1")
	compose("restart", "-t", "1", "app")
	if after := d.OK("inspect", "-f", "{{.State.StartedAt}}", "three_app_1"); after == before {
		t.Error("restart left the container alone")
	}
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

// pythonApplication is the same application by the Python client.
const pythonApplication = `
import docker, sys, time
c = docker.DockerClient(base_url=sys.argv[1], version="1.41", timeout=60)
def eventually(what, ok):
    end = time.time() + 30
    while not ok():
        assert time.time() < end, what
        time.sleep(0.05)
back = c.networks.create("pyback", internal=True, labels={"app": "py"})
front = c.networks.create("pyfront")
data = c.volumes.create("pydata", labels={"app": "py"})
store = c.containers.create("busybox", ["sh", "-c", "echo from-the-store >/data/index.html; exec httpd -f -p 8000 -h /data"], name="pystore",
    volumes={"pydata": {"bind": "/data", "mode": "rw"}}, labels={"app": "py", "tier": "back"},
    healthcheck={"test": ["CMD", "wget", "-qO-", "http://127.0.0.1:8000/"], "interval": 200000000, "retries": 20})
c.networks.get("bridge").disconnect(store)
back.connect(store, aliases=["db"])
store.start()
def healthy():
    store.reload()
    return store.attrs["State"]["Health"]["Status"] == "healthy"
eventually("the store is healthy", healthy)
def app(n):
    a = c.containers.create("busybox", ["sh", "-c", "wget -qO /answer http://db:8000/ && echo app got $(cat /answer) && exec sleep 1000"], name="pyapp%d" % n,
        labels={"app": "py", "tier": "app"}, environment={"COLOUR": "blue"}, network="pyback")
    front.connect(a)
    a.start()
    return a
apps = [app(n) for n in range(3)] # scaled
web = c.containers.run("busybox", ["httpd", "-f", "-p", "80", "-h", "/etc"], name="pyweb", detach=True, network="pyfront", ports={"80/tcp": 18099}, labels={"app": "py"}, restart_policy={"Name": "unless-stopped"})
for a in apps:
    eventually("it reads from the store by its alias", lambda: a.logs() == b"app got from-the-store\n")
assert len(c.containers.list(filters={"label": ["app=py", "tier=app"]})) == 3
assert apps[0].exec_run(["sh", "-c", "echo $COLOUR"]).output == b"blue\n"
back.reload()
assert sorted(x.name for x in back.containers) == ["pyapp0", "pyapp1", "pyapp2", "pystore"], back.containers
begun = apps[0].attrs["State"]["StartedAt"]
apps[0].restart(timeout=0)
apps[0].reload()
assert apps[0].attrs["State"]["StartedAt"] != begun and apps[0].status == "running"
eventually("it ran again", lambda: apps[0].logs().count(b"got") == 2)
try:
    back.remove()
    raise AssertionError("a network in use was removed")
except docker.errors.APIError as e:
    assert "has active endpoints" in str(e), e
for x in apps + [web, store]: # down
    x.stop(timeout=0)
    x.remove(v=True)
for n in (back, front):
    n.remove()
data.remove()
assert not c.containers.list(all=True) and not c.volumes.list() and len(c.networks.list()) == 3
print("ok")
`

func TestPythonApplication(t *testing.T) {
	if exec.Command("/usr/bin/python3", "-c", "import docker").Run() != nil {
		t.Skip("python3-docker is not installed: make test installs it")
	}
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if r := d.Exec(ctx, nil, "/usr/bin/python3", "-c", pythonApplication, "unix://"+d.Socket); r.Code != 0 || r.Out != "ok\n" {
		t.Errorf("exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
}

func TestPythonClient(t *testing.T) {
	if exec.Command("/usr/bin/python3", "-c", "import docker").Run() != nil {
		t.Skip("python3-docker is not installed: make test installs it")
	}
	t.Parallel()
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
