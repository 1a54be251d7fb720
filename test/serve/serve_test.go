// Package serve tests `longshore serve`, engine and registry in one process, with the docker CLI.
package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"longshore/test/harness"
)

const host = "localhost:5000"

// start runs engine and registry, the registry embedded.
func start(t *testing.T, args ...string) *harness.Daemon {
	t.Helper()
	d := harness.New(t, args...)
	d.Command = "serve"
	d.Up()
	d.Busybox()
	return d
}

const all = `["read", "create", "update", "delete"]`

// public lets everybody read public/**, and alice write it. With such a policy GET /v2/ asks nobody for a password, and
// docker login takes any, as with zot.
const public = `, "public/**": {"anonymousPolicy": ["read"], "defaultPolicy": ["read"], "policies": [{"users": ["alice"], "actions": ` + all + `}]}`

// startSecured runs a configured registry below root. alice may do everything to team/**, bob may read it, and nobody else
// may do anything there. more are further policies.
func startSecured(t *testing.T, root, more string) *harness.Daemon {
	t.Helper()
	dir := t.TempDir()
	var lines strings.Builder
	for _, user := range []string{"alice", "bob"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(user+"'s password"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s:%s\n", user, hash)
	}
	write(t, filepath.Join(dir, "htpasswd"), lines.String())
	config := filepath.Join(dir, "config.json")
	d := harness.New(t, "--registry-config", config)
	if root == "" {
		root = filepath.Join(d.Dir, "registry")
	}
	write(t, config, fmt.Sprintf(`{
		"storage": {"rootDirectory": %q}, "http": {"address": "127.0.0.1", "port": "5000",
		"auth": {"htpasswd": {"path": %q}, "failDelay": 0}, "accessControl": {"repositories": {
			"team/**": {"policies": [{"users": ["alice"], "actions": %s}, {"users": ["bob"], "actions": ["read"]}]}%s
		}}}, "log": {"level": "debug", "output": %q}}`,
		root, filepath.Join(dir, "htpasswd"), all, more, filepath.Join(d.Dir, "registry.log")))
	d.Command = "serve"
	d.Up()
	d.Busybox()
	return d
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func login(d *harness.Daemon, user string) {
	d.T.Helper()
	r := d.DockerIn(strings.NewReader(user+"'s password"), "login", "-u", user, "--password-stdin", host)
	if r.Code != 0 || !strings.Contains(r.Out, "Login Succeeded") {
		d.T.Fatalf("login: %s%s", r.Out, r.Err)
	}
}

// blobs maps the digests of a store's blobs to their inodes.
func blobs(t testing.TB, dir string) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		var fi fs.FileInfo
		if err == nil && !e.IsDir() {
			if fi, err = e.Info(); err == nil {
				out[e.Name()] = fi.Sys().(*syscall.Stat_t).Ino
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // collected meanwhile
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ofEngine(d *harness.Daemon) map[string]uint64 {
	d.T.Helper()
	return blobs(d.T, filepath.Join(d.DataRoot(), "content", "blobs", "sha256"))
}

// ofRegistry are the blobs below a registry's root: layers and configurations; manifests are rows of its index.
func ofRegistry(t testing.TB, root string) map[string]uint64 {
	t.Helper()
	return blobs(t, filepath.Join(root, "_longshore", "blobs", "sha256"))
}

// sameFiles checks that every blob of the registry is the engine's file.
func sameFiles(t testing.TB, registry, engine map[string]uint64) {
	t.Helper()
	if len(registry) < 2 {
		t.Errorf("the registry holds %d blobs, not a layer and a configuration", len(registry))
	}
	for d, inode := range registry {
		if engine[d] != inode {
			t.Errorf("blob %s is inode %d here and %d there", d, inode, engine[d])
		}
	}
}

// forget removes images and waits until the engine holds none of the registry's blobs.
func forget(d *harness.Daemon, registry map[string]uint64, images ...string) {
	d.T.Helper()
	d.OK(append([]string{"rmi", "-f"}, images...)...)
	harness.Eventually(d.T, 20*time.Second, "the engine's blobs are collected", func() bool {
		for name := range ofEngine(d) {
			if registry[name] != 0 {
				return false
			}
		}
		return true
	})
}

func TestPushAndPullMoveNoBytes(t *testing.T) {
	d := start(t)
	root := filepath.Join(d.DataRoot(), "registry")
	name := host + "/some/where:v1"
	d.OK("tag", "busybox", name)
	pushed := d.OK("push", name)
	if !strings.Contains(pushed, "Pushed") {
		t.Errorf("push said %q", pushed)
	}
	there := ofRegistry(t, root)
	sameFiles(t, there, ofEngine(d))
	if again := d.OK("push", name); !strings.Contains(again, "Layer already exists") {
		t.Errorf("the second push said %q", again)
	}

	forget(d, there, name, "busybox")
	pulled := d.OK("pull", name)
	if !strings.Contains(pulled, "Download complete") && !strings.Contains(pulled, "Downloaded newer image") {
		t.Errorf("pull said %q", pulled)
	}
	sameFiles(t, there, ofEngine(d))
	if out := d.OK("run", "--rm", name, "echo", "pulled"); out != "pulled" {
		t.Errorf("got %q", out)
	}

	// Each side may drop its name for the bytes without the other noticing.
	d.OK("tag", name, host+"/second:v1")
	if out := d.OK("push", host+"/second:v1"); !strings.Contains(out, "Mounted from some/where") {
		t.Errorf("push to another repository said %q", out)
	}
	forget(d, there, name, host+"/second:v1")
	d.OK("pull", host+"/second:v1")
	d.OK("run", "--rm", host+"/second:v1", "true")

	// A restart changes nothing.
	d.Stop()
	d.Up()
	d.OK("run", "--rm", host+"/second:v1", "true")
	forget(d, there, host+"/second:v1")
	d.OK("pull", name)
	sameFiles(t, there, ofEngine(d))
}

// TestAccessControlHolds: what is not allowed over HTTP is not given as a file.
func TestAccessControlHolds(t *testing.T) {
	d := startSecured(t, "", public)
	root := filepath.Join(d.Dir, "registry")
	name := host + "/team/app:v1"
	d.OK("tag", "busybox", name)
	none := func() {
		t.Helper()
		if got := ofRegistry(t, root); len(got) != 0 {
			t.Errorf("the registry holds %v", got)
		}
	}
	d.Fails("no basic auth credentials", "push", name)
	none()
	login(d, "bob")
	d.Fails("denied", "push", name)
	none()
	login(d, "alice")
	d.OK("push", name)
	there := ofRegistry(t, root)
	sameFiles(t, there, ofEngine(d))
	d.OK("tag", "busybox", host+"/elsewhere:v1")
	d.Fails("denied", "push", host+"/elsewhere:v1")

	forget(d, there, name, host+"/elsewhere:v1", "busybox")
	d.OK("logout", host)
	d.Fails("no basic auth credentials", "pull", name)
	if held := ofEngine(d); len(held) != 0 {
		t.Errorf("the engine holds %v of what it may not pull", held)
	}
	login(d, "bob")
	d.OK("pull", name)
	sameFiles(t, there, ofEngine(d))
	d.OK("tag", name, host+"/public/app:v1")
	d.Fails("denied", "push", host+"/public/app:v1")
	login(d, "alice")
	d.OK("push", host+"/public/app:v1")
	forget(d, there, name, host+"/public/app:v1")
	d.OK("logout", host)
	d.OK("pull", host+"/public/app:v1")
	sameFiles(t, there, ofEngine(d))
	d.Fails("no basic auth credentials", "pull", name)
}

// TestAnotherFileSystem: where no link can be made the bytes are copied.
func TestAnotherFileSystem(t *testing.T) {
	shm, err := os.MkdirTemp("/dev/shm", "longshore-test-")
	if err != nil {
		t.Skip("no second file system: " + err.Error())
	}
	t.Cleanup(func() { _ = os.RemoveAll(shm) })
	d := startSecured(t, shm, "")
	login(d, "alice")
	name := host + "/team/app:v1"
	d.OK("tag", "busybox", name)
	d.OK("push", name)
	there := ofRegistry(t, shm)
	if len(there) < 2 {
		t.Errorf("the registry holds %v", there)
	}
	forget(d, there, name, "busybox")
	d.OK("pull", name)
	if out := d.OK("run", "--rm", name, "echo", "copied"); out != "copied" {
		t.Errorf("got %q", out)
	}
}

// TestLoginToTheEmbeddedRegistry: by default everybody may push and pull, and who wants a name has one: it is checked.
func TestLoginToTheEmbeddedRegistry(t *testing.T) {
	d := start(t)
	name := host + "/open:v1"
	d.OK("tag", "busybox", name)
	d.OK("push", name)
	folder := filepath.Join(d.DataRoot(), "registry")
	if r := d.InNet("sh", "-c", "echo jane-secret | "+harness.Bin("longshore")+" registry user add "+folder+" janedoe --email jane@example.com"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	if r := d.DockerIn(strings.NewReader("wrong"), "login", "-u", "janedoe", "--password-stdin", host); r.Code == 0 || !strings.Contains(r.Err, "unauthorized: incorrect username or password") {
		t.Errorf("%d %s%s", r.Code, r.Out, r.Err)
	}
	if r := d.DockerIn(strings.NewReader("jane-secret"), "login", "-u", "janedoe", "--password-stdin", host); r.Code != 0 {
		t.Errorf("%s%s", r.Out, r.Err)
	}
	config, err := os.ReadFile(filepath.Join(d.Dir, "cli", "config.json"))
	if err != nil || !strings.Contains(string(config), "identitytoken") {
		t.Errorf("docker keeps no identity token: %s %v", config, err)
	}
	d.OK("rmi", name)
	d.OK("pull", name)

	// What a command was told is there is there after the power of SIGKILL, and so are the keys of the tokens.
	if r := d.InNet("sh", "-c", "echo john-secret | "+harness.Bin("longshore")+" registry user add "+folder+" johndoe --email john@example.com"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	d.Kill()
	d.Up()
	d.OK("push", name)
	if r := d.DockerIn(strings.NewReader("john-secret"), "login", "-u", "johndoe", "--password-stdin", host); r.Code != 0 {
		t.Errorf("%s%s", r.Out, r.Err)
	}
}
