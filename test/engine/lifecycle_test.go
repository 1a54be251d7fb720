package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()

	t.Run("create start stop restart kill", func(t *testing.T) {
		id := d.OK("create", "--name", "one", "busybox", "sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done")
		state := func() string { return d.OK("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", id) }
		if s := state(); s != "created 0" {
			t.Errorf("state %q", s)
		}
		d.OK("start", id)
		d.OK("start", id) // 304
		if s := state(); s != "running 0" {
			t.Errorf("state %q", s)
		}
		harness.Eventually(t, 5*time.Second, "it is up", func() bool { return d.OK("logs", id) == "up" })
		d.OK("stop", id)
		d.OK("stop", id) // 304
		if s := state(); s != "exited 5" {
			t.Errorf("state %q", s)
		}
		d.OK("restart", "-t", "1", id)
		d.OK("kill", id)
		harness.Eventually(t, 5*time.Second, "killed", func() bool { return state() == "exited 137" })
		d.Fails("is not running", "kill", id)
		d.OK("rename", "one", "two")
		d.Fails("No such container: one", "rm", "one")
		d.OK("rm", "two")
	})
	t.Run("pause", func(t *testing.T) {
		id := d.OK("run", "-d", "busybox", "sh", "-c", "while :; do date +%s%N; sleep 0.05; done")
		d.OK("pause", id)
		d.Fails("is paused", "exec", id, "true")
		if s := d.OK("ps", "--filter", "status=paused", "-q", "--no-trunc"); s != id {
			t.Errorf("ps shows %q", s)
		}
		d.OK("unpause", id)
		d.Fails("is not paused", "unpause", id)
		d.OK("rm", "-f", id)
	})
	t.Run("wait", func(t *testing.T) {
		id := d.OK("run", "-d", "busybox", "sh", "-c", "sleep 0.5; exit 9")
		if out := d.OK("wait", id); out != "9" {
			t.Errorf("wait said %q", out)
		}
		d.OK("rm", id)
	})
	t.Run("remove", func(t *testing.T) {
		id := d.OK("run", "-d", "-v", "/anon", "busybox", "sleep", "100")
		d.Fails("container is running", "rm", id)
		vol := d.OK("inspect", "-f", "{{(index .Mounts 0).Name}}", id)
		d.OK("rm", "-fv", id)
		d.Fails("no such volume", "volume", "inspect", vol)
		d.Fails("No such container", "rm", id)
	})
	t.Run("exec", func(t *testing.T) {
		id := d.OK("run", "-d", "--name", "ex", "-e", "OUTER=1", "busybox", "sleep", "100")
		defer d.OK("rm", "-f", id)
		if out := d.OK("exec", "-e", "X=y", "-w", "/tmp", "-u", "33", id, "sh", "-c", "echo $OUTER $X $PWD $(id -u)"); out != "1 y /tmp 33" {
			t.Errorf("got %q", out)
		}
		if r := d.Docker("exec", id, "sh", "-c", "exit 42"); r.Code != 42 {
			t.Errorf("exit %d", r.Code)
		}
		if r := d.Docker("exec", id, "nope"); r.Code != 127 {
			t.Errorf("exit %d: %s", r.Code, r.Err)
		}
		r := d.DockerIn(strings.NewReader("through\n"), "exec", "-i", id, "cat")
		if r.Out != "through\n" {
			t.Errorf("got %q %s", r.Out, r.Err)
		}
		d.OK("exec", "-d", id, "sh", "-c", "echo done >/marker")
		harness.Eventually(t, 5*time.Second, "the detached exec ran", func() bool { return d.Docker("exec", id, "cat", "/marker").Out == "done\n" })
		d.OK("stop", "-t", "0", id)
		d.Fails("is not running", "exec", id, "true")
	})
	t.Run("logs", func(t *testing.T) {
		id := d.OK("run", "-d", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line$i; done; echo oops >&2; sleep 1; echo last")
		defer d.OK("rm", "-f", id)
		follow := d.OK("logs", "-f", id)
		if !strings.HasSuffix(follow, "last") || !strings.HasPrefix(follow, "line1\nline2") {
			t.Errorf("follow gave %q", follow)
		}
		if out := d.OK("logs", "--tail", "2", id); out != "last" && !strings.HasSuffix(out, "last") {
			t.Errorf("tail gave %q", out)
		}
		if out := d.OK("logs", "-t", "--tail", "1", id); !strings.Contains(out, "T") || !strings.HasSuffix(out, " last") {
			t.Errorf("timestamps: %q", out)
		}
		if out := d.OK("logs", "--since", "1h", "--until", "0s", id); !strings.Contains(out, "line5") {
			t.Errorf("since: %q", out)
		}
		local := d.OK("run", "-d", "--log-driver", "local", "--log-opt", "max-size=10k", "busybox", "sh", "-c", "for i in $(seq 2000); do echo number $i; done")
		defer d.OK("rm", "-f", local)
		d.OK("wait", local)
		if out := d.OK("logs", "--tail", "1", local); out != "number 2000" {
			t.Errorf("local driver: %q", out)
		}
		none := d.OK("run", "-d", "--log-driver", "none", "busybox", "echo", "x")
		defer d.OK("rm", "-f", none)
		d.Fails("configured logging driver does not support reading", "logs", none)
	})
	t.Run("copy", func(t *testing.T) {
		id := d.OK("create", "busybox")
		defer d.OK("rm", id)
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "a/b/c"), []byte("content"), 0o640); err != nil {
			t.Fatal(err)
		}
		d.OK("cp", filepath.Join(dir, "a"), id+":/copied")
		d.OK("cp", id+":/copied", filepath.Join(dir, "back"))
		if b, err := os.ReadFile(filepath.Join(dir, "back/b/c")); err != nil || string(b) != "content" {
			t.Errorf("%q %v", b, err)
		}
		d.Fails("Could not find the file", "cp", id+":/none", dir)
		if out := d.OK("diff", id); !strings.Contains(out, "A /copied/b/c") {
			t.Errorf("diff: %q", out)
		}
	})
	t.Run("top and stats", func(t *testing.T) {
		id := d.OK("run", "-d", "busybox", "sleep", "98765")
		defer d.OK("rm", "-f", id)
		if out := d.OK("top", id); !strings.Contains(out, "sleep 98765") {
			t.Errorf("top: %q", out)
		}
		if out := d.OK("stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", id); !strings.HasPrefix(out, "1 ") || strings.HasPrefix(out, "1 0B") {
			t.Errorf("stats: %q", out)
		}
	})
	t.Run("list", func(t *testing.T) {
		a := d.OK("create", "--name", "la", "--label", "k=v", "busybox", "true")
		b := d.OK("run", "-d", "--name", "lb", "busybox", "sleep", "100")
		defer d.OK("rm", "-f", a, b)
		for want, args := range map[string][]string{
			"lb":     {"ps", "--format", "{{.Names}}"},
			"lb\nla": {"ps", "-a", "--format", "{{.Names}}"},
			"la":     {"ps", "-a", "--filter", "label=k=v", "--format", "{{.Names}}"},
		} {
			if out := d.OK(args...); out != want {
				t.Errorf("%v: %q, want %q", args, out, want)
			}
		}
		d.Fails("invalid filter", "ps", "--filter", "nonsense=1")
	})
	t.Run("events", func(t *testing.T) {
		id := d.OK("run", "--name", "ev", "-d", "busybox", "true")
		d.OK("wait", id)
		d.OK("rm", id)
		var got []string
		for _, line := range strings.Split(d.OK("events", "--since", "1m", "--until", time.Now().Add(time.Second).Format(time.RFC3339Nano), "--filter", "container="+id, "--format", "{{json .}}"), "\n") {
			var e struct{ Type, Action string }
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			got = append(got, e.Action)
		}
		if s := strings.Join(got, " "); s != "create start die destroy" {
			t.Errorf("events: %s", s)
		}
	})
	t.Run("export and import", func(t *testing.T) {
		id := d.OK("create", "busybox")
		defer d.OK("rm", id)
		file := filepath.Join(t.TempDir(), "x.tar")
		d.OK("export", "-o", file, id)
		d.OK("import", "--change", "CMD echo imported", file, "again:1")
		if out := d.OK("run", "--rm", "again:1"); out != "imported" {
			t.Errorf("got %q", out)
		}
		d.OK("rmi", "again:1")
	})
	t.Run("commit", func(t *testing.T) {
		id := d.OK("run", "-d", "busybox", "sh", "-c", "echo kept >/kept; sleep 100")
		defer d.OK("rm", "-f", id)
		harness.Eventually(t, 5*time.Second, "file", func() bool { return d.Docker("exec", id, "test", "-e", "/kept").Code == 0 })
		d.OK("commit", "-m", "why", "-c", "CMD cat /kept", id, "kept:1")
		if out := d.OK("run", "--rm", "kept:1"); out != "kept" {
			t.Errorf("got %q", out)
		}
		if out := d.OK("history", "--format", "{{.Comment}}", "kept:1"); !strings.HasPrefix(out, "why") {
			t.Errorf("history: %q", out)
		}
		d.OK("rmi", "kept:1")
	})
	t.Run("prune", func(t *testing.T) {
		d.OK("create", "--label", "gone=1", "busybox")
		if out := d.OK("container", "prune", "-f", "--filter", "label=gone=1"); !strings.Contains(out, "Deleted Containers") {
			t.Errorf("got %q", out)
		}
	})
}
