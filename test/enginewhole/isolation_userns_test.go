package enginewhole

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"longshore/test/harness"
)

func TestUserNamespaces(t *testing.T) {
	t.Parallel()
	d := harness.StartRemapped(t)
	root := filepath.Join(d.DataRoot(), "300000.300000")
	if out := d.OK("info", "-f", "{{.DockerRootDir}} {{.SecurityOptions}}"); !strings.HasPrefix(out, root+" ") || !strings.Contains(out, "name=userns") {
		t.Errorf("info: %s", out)
	}
	for _, rt := range []string{"crun", "runc"} {
		if !hasRuntime(d, rt) {
			continue
		}
		t.Run(rt, func(t *testing.T) {
			out := d.OK("run", "--rm", "--runtime", rt, "-v", "data:/data", "busybox", "sh", "-c",
				`cat /proc/self/uid_map | xargs; touch /x /data/y; stat -c %u:%g /bin /etc/hosts /x /data /data/y; echo out > /dev/stdout; ls /sys/class/net | xargs`)
			if out != "0 300000 65536\n0:0\n0:0\n0:0\n0:0\n0:0\nout\neth0 lo" {
				t.Errorf("got %q", out)
			}
		})
	}
	d.OK("run", "-d", "--name", "box", "-v", "data:/data", "--health-cmd", "true", "busybox", "sh", "-c", "echo mine > /tmp/f; chown 33:33 /tmp/f; exec sleep 600")
	t.Run("on the host it is somebody else", func(t *testing.T) {
		status, err := os.ReadFile("/proc/" + d.OK("inspect", "-f", "{{.State.Pid}}", "box") + "/status")
		if err != nil || !strings.Contains(string(status), "Uid:\t300000\t300000") {
			t.Errorf("%v\n%s", err, status)
		}
		dir := t.TempDir()
		write(t, filepath.Join(dir, "host"), "x")
		if out := d.OK("run", "--rm", "-v", dir+":/host", "busybox", "sh", "-c", "stat -c %u /host/host; touch /host/y 2>&1 | grep -c denied"); out != "65534\n1" {
			t.Errorf("a bind: %q", out)
		}
	})
	t.Run("exec", func(t *testing.T) {
		if out := d.OK("exec", "-u", "www-data", "box", "sh", "-c", "id -u; cat /proc/self/uid_map | xargs"); out != "33\n0 300000 65536" {
			t.Errorf("got %q", out)
		}
		if out := d.OK("exec", "box", "hostname"); out == "" {
			t.Error("no host name")
		}
	})
	copies(t, d)
	if st, err := os.Stat(os.DevNull); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the host's /dev/null was given away: %v", err)
	}
	t.Run("commit and diff", func(t *testing.T) {
		if out := d.OK("diff", "box"); !strings.Contains(out, "A /tmp/f") {
			t.Errorf("diff: %s", out)
		}
		d.OK("commit", "box", "mine")
		if out := d.OK("run", "--rm", "--userns", "host", "mine", "stat", "-c", "%u:%g", "/tmp/f", "/etc"); out != "33:33\n0:0" {
			t.Errorf("what was committed belongs to %q", out)
		}
	})
	t.Run("shared namespaces", func(t *testing.T) {
		if out := d.OK("run", "--rm", "--network", "container:box", "busybox", "hostname"); out != d.OK("exec", "box", "hostname") {
			t.Errorf("network: %q", out)
		}
		if out := d.OK("run", "--rm", "--pid", "container:box", "busybox", "ps"); !strings.Contains(out, "sleep 600") {
			t.Errorf("pid: %s", out)
		}
		d.OK("run", "-d", "--name", "donor", "--ipc", "shareable", "busybox", "sh", "-c", "echo x > /dev/shm/f; exec sleep 600")
		if out := d.OK("run", "--rm", "--ipc", "container:donor", "busybox", "stat", "-c", "%u", "/dev/shm/f"); out != "0" {
			t.Errorf("ipc: %q", out)
		}
	})
	t.Run("opting out", func(t *testing.T) {
		if out := d.OK("run", "--rm", "--userns", "host", "-v", "data:/data", "busybox", "sh", "-c", "cat /proc/self/uid_map | xargs; stat -c %u /data/y"); out != "0 0 4294967295\n0" {
			t.Errorf("got %q", out)
		}
		d.OK("run", "--rm", "--userns", "host", "--privileged", "busybox", "true")
		d.OK("run", "--rm", "--userns", "host", "--network", "host", "busybox", "true")
		d.Fails("privileged mode is incompatible with user namespaces", "create", "--privileged", "busybox")
		d.Fails("cannot share the host's network namespace when user namespaces are enabled", "create", "--network", "host", "busybox")
		d.Fails("cannot share the host PID namespace when user namespaces are enabled", "create", "--pid", "host", "busybox")
		refused(t, d, "/containers/create", map[string]any{"Image": "busybox", "HostConfig": map[string]any{"UsernsMode": "own"}}, 400, "invalid user namespace mode: own")
	})
	t.Run("over a crash", func(t *testing.T) {
		d.Kill()
		d.Up()
		if out := d.OK("exec", "box", "cat", "/tmp/f"); out != "mine" {
			t.Errorf("exec after a crash: %q", out)
		}
		d.OK("restart", "-t", "0", "box")
		if out := d.OK("exec", "box", "stat", "-c", "%u", "/tmp/f", "/data/y"); out != "33\n0" {
			t.Errorf("after a restart: %q", out)
		}
	})
	t.Run("ordinary life", func(t *testing.T) {
		if out := d.OK("run", "--rm", "-p", "127.0.0.1:8080:80", "--tmpfs", "/t", "--device", "/dev/fuse:/dev/x", "--read-only", "-m", "32m", "--init", "busybox", "sh", "-c", "touch /t/f && stat -c %u /t/f; ls /dev/x"); out != "0\n/dev/x" && !strings.Contains(out, "0") {
			t.Errorf("got %q", out)
		}
		d.OK("run", "--rm", "--network", "none", "busybox", "true")
		d.OK("network", "create", "own")
		d.OK("run", "-d", "--network", "own", "--name", "srv", "busybox", "sleep", "600")
		if out := d.OK("run", "--rm", "--network", "own", "busybox", "ping", "-c1", "-W5", "srv"); !strings.Contains(out, "1 packets received") {
			t.Errorf("names and addresses: %s", out)
		}
		d.OK("rm", "-f", "srv")
		d.OK("network", "rm", "own")
		if out := d.OK("run", "--rm", "--mount", "type=image,src=mine,dst=/m", "busybox", "stat", "-c", "%u", "/m/tmp/f", "/m/etc"); out != "33\n0" {
			t.Errorf("image mount: %q", out)
		}
	})
}

// copies checks owners of what goes in and out of a container that runs and of one that does not.
func copies(t *testing.T, d *harness.Daemon) {
	t.Helper()
	t.Run("copies and exports", func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "in"), "from the host")
		d.OK("create", "--name", "still", "-v", "data:/data", "busybox")
		for _, name := range []string{"box", "still"} {
			for _, place := range []string{"/tmp", "/data"} {
				d.OK("cp", filepath.Join(dir, "in"), name+":"+place)
				d.OK("cp", name+":"+place+"/in", filepath.Join(dir, "out"))
			}
		}
		for _, path := range []string{"/tmp/f", "/tmp/in", "/data/in"} {
			_, text := call(t, d, "GET", "/containers/box/archive?path="+path, nil)
			h, err := tar.NewReader(strings.NewReader(text)).Next()
			if err != nil || h.Uid >= 300000 || h.Gid == 65534 || (path == "/tmp/f") != (h.Uid == 33) {
				t.Errorf("%s: %+v %v", path, h, err)
			}
		}
		if out := d.OK("exec", "box", "stat", "-c", "%u", "/tmp/in", "/data/in"); out != "0\n0" {
			t.Errorf("inside: %q", out)
		}
		tree := filepath.Join(dir, "tree.tar")
		d.OK("export", "-o", tree, "box")
		out, err := exec.Command("tar", "--numeric-owner", "-tvf", tree, "tmp/f", "bin/busybox").CombinedOutput()
		if err != nil || !strings.Contains(string(out), " 33/33 ") || !strings.Contains(string(out), " 0/0 ") {
			t.Errorf("export: %v\n%s", err, out)
		}
	})
}

func TestUserNamespaceSettings(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	for setting, words := range map[string]string{
		"no-such-user": "no such user", "root:": "invalid user/group specification", "nobody": "no ranges found for \"nobody\"",
	} {
		r := d.InNet(harness.Bin("longshore"), "engine", "-H", "unix://"+d.Socket, "--data-root", d.DataRoot(), "--exec-root", d.ExecRoot(),
			"--pidfile", filepath.Join(d.Dir, "pid"), "--userns-remap", setting)
		if r.Code == 0 || !strings.Contains(r.Err, words) {
			t.Errorf("%s: exit %d: %s", setting, r.Code, r.Err)
		}
	}
}
