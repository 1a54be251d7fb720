package enginewhole

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// standIn is an OCI runtime that is runc, but for checkpoints: it notes how it was called, leaves a file in the image
// directory and starts anew what it is to restore. CRIU works on few kernels.
const standIn = `#!/bin/sh
all="$*"
globals=""
while [ $# -gt 0 ]; do
	case $1 in
	checkpoint|restore) break;;
	--root|--log|--log-format) globals="$globals $1 $2"; shift 2;;
	--systemd-cgroup|--cgroup-manager=*) shift;;
	*) exec runc $globals "$@";;
	esac
done
echo "$all" >> %DIR%/calls
verb=$1; shift
image=""; rest=""; leave=no; last=""
while [ $# -gt 0 ]; do
	case $1 in
	--image-path) image=$2; shift 2;;
	--work-path) shift 2;;
	--leave-running) leave=yes; shift;;
	*) rest="$rest $1"; last=$1; shift;;
	esac
done
if [ $verb = checkpoint ]; then
	[ -e %DIR%/broken ] && { echo "criu failed: type NOTIFY errno 0" >&2; exit 1; }
	echo state > $image/core-1.img
	[ $leave = yes ] || exec runc $globals kill $last KILL
	exit 0
fi
[ -e $image/core-1.img ] || { echo "no image" >&2; exit 1; }
exec runc $globals run $rest
`

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("needs runc")
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "runtime")
	write(t, script, strings.ReplaceAll(standIn, "%DIR%", dir))
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	d := harness.Start(t, "--experimental", "--add-runtime", "standin="+script)
	d.Busybox()
	calls := func() string {
		b, _ := os.ReadFile(filepath.Join(dir, "calls"))
		return string(b)
	}
	d.OK("run", "-d", "--name", "box", "--runtime", "standin", "busybox", "sh", "-c", "echo begun; exec sleep 600")
	id := d.OK("inspect", "-f", "{{.Id}}", "box")
	began := time.Now()

	d.OK("checkpoint", "create", "--leave-running", "box", "first")
	image := filepath.Join(d.DataRoot(), "containers", id, "checkpoints", "first")
	if _, err := os.Stat(filepath.Join(image, "core-1.img")); err != nil {
		t.Error(err)
	}
	if c := calls(); !strings.Contains(c, " checkpoint --image-path "+image+" --work-path ") || !strings.Contains(c, "--leave-running "+id) {
		t.Errorf("the runtime was called by\n%s", c)
	}
	if out := d.OK("inspect", "-f", "{{.State.Running}}", "box"); out != "true" {
		t.Error("it does not run any more")
	}
	d.Fails("checkpoint with name first already exists for container box", "checkpoint", "create", "box", "first")
	d.OK("checkpoint", "create", "box", "second")
	harness.Eventually(t, 30*time.Second, "the container has ended", func() bool {
		return d.OK("inspect", "-f", "{{.State.Running}} {{.State.ExitCode}}", "box") == "false 137"
	})
	if out := d.OK("checkpoint", "ls", "box"); !strings.Contains(out, "first") || !strings.Contains(out, "second") {
		t.Errorf("list: %s", out)
	}
	d.OK("start", "--checkpoint", "second", "box")
	if c := calls(); !strings.Contains(c, " restore --image-path "+filepath.Join(filepath.Dir(image), "second")+" --work-path ") {
		t.Errorf("the runtime was called by\n%s", c)
	}
	if out := d.OK("exec", "box", "echo", "alive"); out != "alive" {
		t.Errorf("got %q", out)
	}
	if out := d.OK("logs", "box"); out != "begun\nbegun" {
		t.Errorf("logs %q", out)
	}
	d.OK("restart", "-t", "0", "box") // begins anew
	if strings.Count(calls(), " restore ") != 1 {
		t.Error("a restart restored")
	}
	d.OK("checkpoint", "rm", "box", "first")
	if _, err := os.Stat(image); err == nil {
		t.Error("a removed checkpoint is there")
	}
	seen := false
	for _, m := range happened(t, d, began) {
		seen = seen || m.Action == "checkpoint"
	}
	if !seen {
		t.Error("no event")
	}
	badCheckpoints(t, d, dir)
}

func badCheckpoints(t *testing.T, d *harness.Daemon, dir string) {
	t.Helper()
	write(t, filepath.Join(dir, "broken"), "")
	if r := d.Fails("Cannot checkpoint container box: ", "checkpoint", "create", "box", "third"); !strings.Contains(r.Err, "did not terminate successfully: exit status 1: criu failed: type NOTIFY errno 0") {
		t.Errorf("got %s", r.Err)
	}
	if out := d.OK("checkpoint", "ls", "box"); strings.Contains(out, "third") {
		t.Errorf("a failed checkpoint is listed: %s", out)
	}
	refused(t, d, "/containers/box/checkpoints", map[string]any{"CheckpointID": "../x"}, 400, `invalid checkpoint ID "../x"`)
	refused(t, d, "/containers/box/start?checkpoint=..", nil, 400, `invalid checkpoint ID ".."`)
	refused(t, d, "/containers/box/start?checkpoint=second&checkpoint-dir=/x", nil, 403, "custom checkpointdir is not supported")
	refused(t, d, "/containers/none/checkpoints", map[string]any{"CheckpointID": "x1"}, 404, "No such container: none")
	d.OK("stop", "-t", "0", "box")
	refused(t, d, "/containers/box/checkpoints", map[string]any{"CheckpointID": "x1"}, 409, "is not running")
	refused(t, d, "/containers/box/start?checkpoint=none", nil, 404, "checkpoint none does not exist for container box")
	if status, text := call(t, d, "DELETE", "/containers/box/checkpoints/none", nil); status != 404 {
		t.Errorf("%d %s", status, text)
	}
	d.OK("run", "-dt", "--name", "tty", "busybox")
	refused(t, d, "/containers/tty/checkpoints", map[string]any{"CheckpointID": "x1"}, 500, "checkpoint not supported on containers with tty")
}

// TestCheckpointByCRIU: for real where CRIU works, and a clear error where it is not installed.
func TestCheckpointByCRIU(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, "--experimental")
	d.Busybox()
	if !hasRuntime(d, "runc") {
		t.Skip("needs runc")
	}
	d.OK("run", "-d", "--name", "box", "--runtime", "runc", "--security-opt", "seccomp=unconfined", "--network", "none", "busybox", "sleep", "600")
	path, err := exec.LookPath("criu")
	if err != nil {
		r := d.Fails("Cannot checkpoint container box: runc did not terminate successfully: exit status 1: ", "checkpoint", "create", "box", "cp")
		if !strings.Contains(r.Err, `exec: "criu": executable file not found in $PATH`) {
			t.Errorf("got %s", r.Err)
		}
		if out := d.OK("inspect", "-f", "{{.State.Running}}", "box"); out != "true" {
			t.Error("the container has ended")
		}
		t.Skip("CRIU is not installed; TestCheckpoint tests the rest by a stand-in runtime")
	}
	if out, err := exec.Command(path, "check").CombinedOutput(); err != nil {
		t.Skipf("CRIU does not work on this kernel: %s", out)
	}
	d.OK("checkpoint", "create", "box", "cp")
	harness.Eventually(t, 30*time.Second, "the container has ended", func() bool { return d.OK("inspect", "-f", "{{.State.Running}}", "box") == "false" })
	d.OK("start", "--checkpoint", "cp", "box")
	d.OK("exec", "box", "true")
}

func TestCheckpointsAreExperimental(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("create", "--name", "box", "busybox")
	refused(t, d, "/containers/box/checkpoints", map[string]any{"CheckpointID": "x"}, 501, "This experimental feature is disabled by default")
	refused(t, d, "/containers/box/start?checkpoint=x", nil, 400, "checkpoint is only supported in experimental mode")
}
