package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"longshore/test/harness"
)

// edit changes documents of the engine's records while it is down.
func edit(t *testing.T, d *harness.Daemon, f func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(d.DataRoot(), "state.db"), 0o600, nil)
	must(t, err)
	must(t, db.Update(f))
	must(t, db.Close())
}

// garble replaces a document by what is left of it when its end is lost.
func garble(t *testing.T, d *harness.Daemon, bucket, key string) {
	t.Helper()
	edit(t, d, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("b:" + bucket))
		if b == nil {
			return fmt.Errorf("no bucket %s", bucket)
		}
		old := b.Get([]byte(key))
		if old == nil {
			return fmt.Errorf("no %s %s", bucket, key)
		}
		return b.Put([]byte(key), append([]byte{}, old[:8+(len(old)-8)/2]...))
	})
}

// names tells that the daemon's log names something as what cannot be read.
func names(t *testing.T, d *harness.Daemon, what string) {
	t.Helper()
	for line := range strings.Lines(d.Log()) {
		if strings.Contains(line, what) && (strings.Contains(line, "cannot be read") || strings.Contains(line, "damaged")) {
			return
		}
	}
	t.Errorf("the log does not name %s as damaged:\n%s", what, d.Log())
}

// TestDamagedRecords: the engine starts without what it cannot read, names it, serves the rest and deletes nothing.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("network", "create", "good")
	badNet := d.OK("network", "create", "bad")
	d.OK("volume", "create", "--label", "x=y", "bad")
	d.OK("volume", "create", "good")
	bad := d.OK("run", "-d", "--name", "bad", "-v", "bad:/data", "busybox", "sh", "-c", "echo text >/data/f; echo mine >/own; exec sleep 100000")
	good := d.OK("run", "-d", "--name", "good", "--network", "good", "-p", "18801:80", "-v", "good:/data", "--restart", "always", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
	orphan := d.OK("create", "--name", "orphan", "--network", "bad", "busybox", "true")
	harness.Eventually(t, patience, "the file is written", func() bool { return d.Docker("exec", "bad", "cat", "/own").Code == 0 })
	d.OK("stop", "-t", "0", "bad")
	d.Kill()
	// What the logs hold is folded by a start and a stop that leaves containers alone.
	d.Up()
	d.Kill()
	fold(t, d)
	garble(t, d, "containers", bad)
	garble(t, d, "networks", badNet)
	garble(t, d, "volumes", "bad")
	edit(t, d, func(tx *bbolt.Tx) error {
		for _, bucket := range []string{"log-cursors", "volume-mounts", "containers-trash", "sandboxes", "containers"} {
			b, err := tx.CreateBucketIfNotExists([]byte("b:" + bucket))
			if err != nil {
				return err
			}
			if err := b.Put([]byte("stranger"), []byte("\x00\x00\x00\x00\x00\x00\x00\x01{\"ID\":")); err != nil {
				return err
			}
		}
		return nil
	})
	d.Up()
	for _, what := range []string{bad, badNet, "volume=bad"} {
		names(t, d, what)
	}
	if s := d.OK("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", good); s != "running 0" {
		t.Errorf("another container is %s", s)
	}
	if r := d.InNet("curl", "-sf", "-m", "20", "http://127.0.0.1:18801/group"); r.Code != 0 {
		t.Errorf("another container's port: %s", r.Err)
	}
	if out := d.OK("run", "--rm", "-v", "bad:/data", "busybox", "cat", "/data/f"); out != "text" {
		t.Errorf("the volume has %q", out)
	}
	d.Fails("No such container", "container", "inspect", "bad")
	d.Fails("network bad not found", "start", orphan)
	if _, err := os.Stat(filepath.Join(d.DataRoot(), "containers", bad)); err != nil {
		t.Errorf("the files of the container without a readable record: %v", err)
	}
	// It can be removed by its ID, the network can be made anew.
	d.OK("network", "create", "bad")
	d.OK("start", orphan)
	if a := call(t, d, "DELETE", "/containers/"+bad, "", ""); a.status != 204 {
		t.Errorf("removal of the damaged container: %+v", a)
	}
	if _, err := os.Stat(filepath.Join(d.DataRoot(), "containers", bad)); err == nil {
		t.Error("its files are still there")
	}
	d.Stop()
	d.Up()
	if log := d.Log(); strings.Contains(log[strings.LastIndex(log, "stopping"):], bad) {
		t.Error("the damaged record is still there")
	}
}

// fold has the records that lie in the state's logs written to its database: `longshore` folds them when it opens it.
func fold(t *testing.T, d *harness.Daemon) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(d.DataRoot(), "state.db.log.*"))
	must(t, err)
	for _, l := range logs {
		st, err := os.Stat(l)
		must(t, err)
		if st.Size() > 0 {
			must(t, os.Remove(l)) // volatile: an older document takes their place
		}
	}
}

// refuses starts the daemon and expects it to end with words that name a file.
func refuses(t *testing.T, d *harness.Daemon, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, "nsenter", "--net=/run/netns/"+d.NetNS, harness.Bin("longshore"), "engine", "-H", "unix://"+d.Socket,
		"--data-root", d.DataRoot(), "--exec-root", d.ExecRoot(), "--cgroup-parent", "/"+filepath.Base(d.Dir))
	out, err := c.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Errorf("the daemon started: %v\n%s", ctx.Err(), out)
	}
	for _, w := range words {
		if !strings.Contains(string(out), w) {
			t.Errorf("the daemon does not say %q:\n%s", w, out)
		}
	}
	if strings.Contains(string(out), "goroutine ") {
		t.Errorf("the daemon crashed:\n%s", out)
	}
}

// TestDamagedDatabases: with a damaged database the engine refuses to start, says which it is and touches nothing; containers go on,
// and a copy in its place brings everything back. A damaged build cache is put aside.
func TestDamagedDatabases(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo mine >/own; exec sleep 100000")
	if r := d.DockerIn(strings.NewReader("FROM busybox\nRUN true\n"), "build", "-t", "built", "-"); r.Code != 0 {
		t.Fatal(r.Out, r.Err)
	}
	d.Kill()
	for _, name := range []string{"state.db", "metadata.db", "snapshots/metadata.db"} {
		path := filepath.Join(d.DataRoot(), name)
		whole, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, noise(append([]byte{}, whole...)), 0o600))
		refuses(t, d, path, "damaged")
		must(t, os.WriteFile(path, whole, 0o600))
	}
	path := filepath.Join(d.DataRoot(), "buildkit", "cache.db")
	whole, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, noise(whole), 0o600))
	d.Up()
	names(t, d, path)
	if s := d.OK("inspect", "-f", "{{.State.Status}}", "box"); s != "running" {
		t.Errorf("the container is %s", s)
	}
	harness.Eventually(t, patience, "a build with a new cache", func() bool { // what the killed daemon left of the old one may be in its way at first
		return d.DockerIn(strings.NewReader("FROM busybox\nRUN echo again\n"), "build", "-t", "built2", "-").Code == 0
	})
	if out := d.OK("exec", "box", "cat", "/own"); out != "mine" {
		t.Errorf("the container has %q", out)
	}
	d.OK("run", "--rm", "built", "true")
}

// noise overwrites every page behind the two heads.
func noise(b []byte) []byte {
	for i := 2 * 4096; i < len(b); i++ {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// TestDamagedFiles: journal, audit log, tokens, containers' logs and the state's own logs.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	id := d.OK("run", "-d", "--name", "json", "busybox", "sh", "-c", "echo one; echo two; exec sleep 100000")
	local := d.OK("run", "-d", "--name", "local", "--log-driver", "local", "busybox", "sh", "-c", "echo one; echo two; exec sleep 100000")
	for _, name := range []string{"json", "local"} {
		harness.Eventually(t, patience, "it has logged", func() bool { return d.OK("logs", name) == "one\ntwo" })
	}
	token := func(args ...string) harness.Result {
		return d.InNet(harness.Bin("longshore"), append([]string{"token"}, append(args, "--data-root", d.DataRoot())...)...)
	}
	for _, name := range []string{"good", "bad"} {
		if r := token("add", name, "--allow", "containers/*"); r.Code != 0 {
			t.Fatal(r.Out, r.Err)
		}
	}
	d.Kill()
	d.Up()
	d.Kill() // no clean end: the state's log is there
	spoil := func(pattern string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(d.DataRoot(), pattern))
		must(t, err)
		if len(files) == 0 {
			t.Errorf("no %s", pattern)
		}
		for _, f := range files {
			h, err := os.OpenFile(f, os.O_RDWR, 0)
			must(t, err)
			_, err = h.WriteAt([]byte(strings.Repeat("garbage\xff\n", 20)), 0)
			must(t, err)
			must(t, h.Close())
		}
	}
	spoil("events/*.log")
	spoil("state.db.log.*")
	spoil("audit.log")
	spoil(filepath.Join("containers", id, "*.log"))
	spoil(filepath.Join("containers", local, "local-logs", "*.log"))
	tokens, err := filepath.Glob(filepath.Join(d.DataRoot(), "tokens", "*.json"))
	must(t, err)
	damaged := 0
	for _, f := range tokens {
		b, err := os.ReadFile(f)
		must(t, err)
		if strings.Contains(string(b), `"bad"`) {
			must(t, os.WriteFile(f, b[:len(b)/2], 0o600))
			damaged++
		}
	}
	if damaged != 1 {
		t.Fatalf("%d tokens", damaged)
	}
	d.Up()
	for _, name := range []string{"json", "local"} {
		if s := d.OK("inspect", "-f", "{{.State.Status}}", name); s != "running" {
			t.Errorf("%s is %s", name, s)
		}
		prompt(t, d, "logs", "--tail", "5", name)
	}
	d.OK("events", "--since", "10m", "--until", "0s")
	if r := token("list"); r.Code != 0 || !strings.Contains(r.Out, "good") {
		t.Errorf("tokens beside a damaged one: %+v", r)
	}
	if r := token("add", "new", "--allow", "containers/*"); r.Code != 0 {
		t.Errorf("a token beside a damaged one: %+v", r)
	}
	if r := token("remove", "good"); r.Code != 0 {
		t.Errorf("removal beside a damaged one: %+v", r)
	}
	d.OK("run", "--rm", "busybox", "true")
	d.OK("rm", "-f", "json", "local")
}

// TestDamagedRun: what a run left in the exec root is damaged while the daemon is down.
func TestDamagedRun(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	id := d.OK("run", "-d", "--name", "bad", "--restart", "always", "busybox", "sleep", "100000")
	good := d.OK("run", "-d", "--name", "good", "busybox", "sleep", "100000")
	d.Kill()
	run := filepath.Join(d.ExecRoot(), "containers", id)
	files, err := os.ReadDir(run)
	must(t, err)
	for _, f := range files {
		if f.Type().IsRegular() {
			must(t, os.WriteFile(filepath.Join(run, f.Name()), []byte("{\"garb"), 0o600))
		}
	}
	d.Up()
	if s := d.OK("inspect", "-f", "{{.State.Status}}", good); s != "running" {
		t.Errorf("the other is %s", s)
	}
	harness.Eventually(t, patience, "the damaged one runs again by its policy, or still", func() bool {
		return d.Docker("exec", "bad", "true").Code == 0
	})
	d.OK("rm", "-f", "bad")
}
