package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"longshore/test/harness"
)

// TestCancelled ends builds by ending their clients; nothing of them is left.
func TestCancelled(t *testing.T) {
	d := start(t)
	t.Run("a client that goes", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		body := files{"Dockerfile": "FROM busybox\nRUN echo begun; sleep 987654\n"}.tar(t)
		req, err := http.NewRequestWithContext(ctx, "POST", "http://d/v1.41/build?t=never", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := d.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		harness.Eventually(t, harnessWait, "the step runs", func() bool { return sleeping(d) })
		cancel()
		harness.Eventually(t, harnessWait, "the step is ended", func() bool { return !sleeping(d) })
	})
	t.Run("the docker client", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan harness.Result)
		dir := files{"Dockerfile": "FROM busybox\nRUN sleep 987654\n"}.write(t)
		go func() { done <- d.Exec(ctx, nil, "docker", "build", "-t", "never", dir) }()
		harness.Eventually(t, harnessWait, "the step runs", func() bool { return sleeping(d) })
		cancel()
		<-done
		harness.Eventually(t, harnessWait, "the step is ended", func() bool { return !sleeping(d) })
	})
	t.Run("while the context comes", func(t *testing.T) {
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST", "http://d/v1.41/build", r)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := d.Client().Do(req)
			done <- err
		}()
		if _, err := w.Write(files{"Dockerfile": "FROM busybox\n", "x": strings.Repeat("x", 1<<16)}.tar(t)[:4096]); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, harnessWait, "the context is being taken in", func() bool { return len(scratch(d)) > 0 })
		cancel()
		_ = w.CloseWithError(context.Canceled) // the client waits for its own reader
		if err := <-done; err == nil {
			t.Error("answered")
		}
	})
	t.Run("by its ID", func(t *testing.T) {
		body := files{"Dockerfile": "FROM busybox\nRUN sleep 987654\n"}.tar(t)
		done := make(chan answer)
		go func() { done <- post(d, "1.41", "buildid=mine", bytes.NewReader(body)) }()
		harness.Eventually(t, harnessWait, "the step runs", func() bool { return sleeping(d) })
		resp, err := d.Client().Post("http://d/v1.41/build/cancel?id=mine", "", nil)
		if err != nil || resp.Body.Close() != nil || resp.StatusCode != 200 {
			t.Errorf("%v %v", resp, err)
		}
		has(t, (<-done).text(t), "error 0: ")
	})
	harness.Eventually(t, harnessWait, "scratch directories are removed", func() bool { return len(scratch(d)) == 0 })
	if out := d.OK("images", "-q", "never"); out != "" {
		t.Errorf("an image of a cancelled build: %s", out)
	}
	build(d, files{"Dockerfile": "FROM busybox\nRUN echo fine\n"}, "-t", "after")
}

// sleeping tells whether the long step runs.
func sleeping(d *harness.Daemon) bool {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(line, []byte("sleep\x00987654")) {
			continue
		}
		group, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if bytes.Contains(group, []byte(filepath.Base(d.Dir))) {
			return true
		}
	}
	return false
}

// TestKilled kills the daemon while a context comes in and a step runs: nothing of both is there after the next start.
func TestKilled(t *testing.T) {
	d := start(t)
	build(d, files{"Dockerfile": "FROM busybox\nRUN head -c 8 /dev/urandom > /random\n"}, "-t", "kept")
	go func() {
		_ = d.Docker("build", "-t", "never", files{"Dockerfile": "FROM busybox\nRUN sleep 987654\n"}.write(t))
	}()
	r, w := io.Pipe()
	go func() {
		if resp, err := d.Client().Post("http://d/v1.41/build", "application/x-tar", r); err == nil {
			_ = resp.Body.Close()
		}
		_ = r.Close()
	}()
	if _, err := w.Write(files{"Dockerfile": "FROM busybox\n"}.tar(t)[:512]); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harnessWait, "both are under way", func() bool { return len(scratch(d)) == 2 && sleeping(d) })
	d.Kill()
	_ = w.Close()
	d.Up()
	harness.Eventually(t, harnessWait, "the step is ended", func() bool { return !sleeping(d) })
	if left := scratch(d); len(left) > 0 {
		t.Errorf("contexts of the daemon that was killed: %v", left)
	}
	out := build(d, files{"Dockerfile": "FROM busybox\nRUN head -c 8 /dev/urandom > /random\n"}, "-t", "again")
	if !strings.Contains(out, "Using cache") || d.OK("images", "-q", "kept") != d.OK("images", "-q", "again") {
		t.Errorf("the cache is lost:\n%s", out)
	}
}

// TestTogether builds the same at the same time: common steps run once.
func TestTogether(t *testing.T) {
	d := start(t)
	const n = 4
	var all sync.WaitGroup
	outs := make([]answer, n)
	for i := range n {
		body := files{"Dockerfile": fmt.Sprintf("FROM busybox\nRUN sleep 1; head -c 8 /dev/urandom | od -An -tx1 > /random\nRUN echo %d > /own\n", i)}.tar(t)
		all.Go(func() { outs[i] = post(d, "1.41", fmt.Sprintf("t=together%d", i), bytes.NewReader(body)) })
	}
	all.Wait()
	seen := map[string]bool{}
	for i, a := range outs {
		has(t, a.text(t), "Step 2/3", "Step 3/3", fmt.Sprintf("Successfully tagged together%d:latest", i))
		lines := strings.Fields(run(d, fmt.Sprintf("together%d", i), "cat", "/random", "/own"))
		if len(lines) != 9 || lines[8] != fmt.Sprint(i) {
			t.Errorf("%d: %v", i, lines)
			continue
		}
		seen[strings.Join(lines[:8], "")] = true
	}
	if len(seen) != 1 {
		t.Errorf("the common step ran %d times", len(seen))
	}
}

const registryHost = "localhost:5000"

// serve starts the engine with a registry, where alice may do everything and nobody else anything.
func serve(t *testing.T) *harness.Daemon {
	t.Helper()
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.json")
	d := harness.New(t, "--registry-config", config)
	for path, text := range map[string]string{
		filepath.Join(dir, "htpasswd"): "alice:" + string(hash) + "\n",
		config: fmt.Sprintf(`{"storage": {"rootDirectory": %q}, "http": {"address": "127.0.0.1", "port": "5000", "auth": {"htpasswd": {"path": %q}, "failDelay": 0},
			"accessControl": {"repositories": {"**": {"policies": [{"users": ["alice"], "actions": ["read", "create", "update", "delete"]}]}}}}, "log": {"level": "error", "output": %q}}`,
			filepath.Join(d.Dir, "registry"), filepath.Join(dir, "htpasswd"), filepath.Join(d.Dir, "registry.log")),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.Command = "serve"
	d.Up()
	d.Busybox()
	return d
}

var digestForm = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// TestRegistry pushes what was built and builds on a private base.
func TestRegistry(t *testing.T) {
	d := serve(t)
	name := registryHost + "/team/base:v1"
	if r := d.DockerIn(strings.NewReader("secret"), "login", "-u", "alice", "--password-stdin", registryHost); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	a := post(d, "1.41", query("t", name), bytes.NewReader(files{"Dockerfile": "FROM busybox\nRUN echo private > /p\n"}.tar(t)))
	built := digestForm.FindString(a.body)
	pushed := d.OK("push", name)
	if built == "" || !strings.Contains(pushed, "digest: "+built) {
		t.Errorf("built %s, pushed\n%s", built, pushed)
	}
	if got := d.OK("inspect", "-f", "{{.Id}}", name); got != built {
		t.Errorf("the image is %s", got)
	}
	d.OK("rmi", name)
	child := files{"Dockerfile": "FROM " + name + "\nRUN cat /p\nCOPY --from=" + name + " /p /q\n"}
	// The docker client hands its credentials over.
	out := build(d, child, "-t", "child")
	has(t, out, "Step 1/3 : FROM "+name, "Pulling from team/base", "Digest: "+built, "Status: Downloaded newer image for "+name, " ---> "+built[7:19], "Step 2/3 : RUN cat /p", "private")
	if got := d.OK("images", "-q", name); got != built[7:19] {
		t.Errorf("the base is %q", got)
	}
	has(t, build(d, child, "--pull", "-t", "child"), "Step 1/3", "Status: Image is up to date for "+name, "Using cache")
	d.OK("rmi", "-f", "child", name)
	d.OK("builder", "prune", "-af")
	// Without credentials, and with wrong ones.
	for _, headers := range [][]string{nil, {"X-Registry-Config", registryConfig(t, "alice", "wrong")}, {"X-Registry-Config", "no base64"}} {
		a := post(d, "1.41", "", bytes.NewReader(child.tar(t)), headers...)
		has(t, a.text(t), "Step 1/3 : FROM "+name, "error 0: ")
	}
	good := registryConfig(t, "alice", "secret")
	a = post(d, "1.41", "t=new", bytes.NewReader(child.tar(t)), "X-Registry-Config", good)
	has(t, a.text(t), "Successfully tagged new:latest")
	// Before 1.9 clients sent one registry's credentials.
	d.OK("rmi", "-f", "new", name)
	one, err := json.Marshal(map[string]string{"username": "alice", "password": "secret", "serveraddress": registryHost})
	if err != nil {
		t.Fatal(err)
	}
	a = post(d, "1.8", "t=old", bytes.NewReader(child.tar(t)), "X-Registry-Auth", base64Text(one))
	has(t, a.text(t), "Successfully tagged old:latest")
}

func registryConfig(t *testing.T, user, password string) string {
	t.Helper()
	doc, err := json.Marshal(map[string]map[string]string{registryHost: {"username": user, "password": password}})
	if err != nil {
		t.Fatal(err)
	}
	return base64Text(doc)
}

const composeFile = `
version: "2.4"
services:
  web:
    build:
      context: .
      dockerfile: sub/Dockerfile.web
      args: {COLOUR: blue}
      labels: {tier: front}
      target: final
      shm_size: 8m
      extra_hosts: ["added:10.1.2.3"]
      network: none
      cache_from: ["busybox"]
    image: composed:v1
    command: ["sh", "-c", "cat /colour /file; sleep 1000"]
  short:
    build: ./sub
    command: ["cat", "/short"]
`

// TestCompose builds with docker-compose.
func TestCompose(t *testing.T) {
	if _, err := exec.LookPath("docker-compose"); err != nil {
		t.Skip("docker-compose is not installed: make test installs it")
	}
	d := start(t)
	dir := files{
		"docker-compose.yml": composeFile, "file": "from-the-context\n",
		"sub/Dockerfile.web": "FROM busybox AS first\nARG COLOUR\nRUN echo $COLOUR > /colour; grep -q added /etc/hosts\nFROM first AS final\nCOPY file /file\nFROM nosuch\n",
		"sub/Dockerfile":     "FROM busybox\nRUN echo short > /short\n",
	}.write(t)
	compose := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		r := d.Exec(ctx, nil, "docker-compose", append([]string{"--no-ansi", "-p", "built", "-f", filepath.Join(dir, "docker-compose.yml")}, args...)...)
		if r.Code != 0 {
			t.Fatalf("docker-compose %v: exit %d\n%s%s\n%s", args, r.Code, r.Out, r.Err, d.Log())
		}
		return r.Out + r.Err
	}
	has(t, compose("build", "web"), "Step 1/6 : FROM busybox AS first", "Successfully built", "Successfully tagged composed:v1")
	has(t, compose("build", "--no-cache", "--build-arg", "COLOUR=red", "web"), "Running in", "Successfully tagged composed:v1")
	compose("up", "-d", "--build")
	harness.Eventually(t, harnessWait, "both services have run what was built", func() bool {
		out := compose("logs")
		return strings.Contains(out, "blue") && strings.Contains(out, "from-the-context") && strings.Contains(out, "short")
	})
	if got := d.OK("inspect", "-f", "{{.Config.Labels.tier}}", "composed:v1"); got != "front" {
		t.Error(got)
	}
	compose("down", "--rmi", "all")
}
