package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"longshore/test/harness"
)

// unit is the daemon as a service of systemd, by the units that the tree has for it.
type unit struct {
	*harness.Daemon
}

// service starts longshore.socket, which starts longshore.service at the first call, with more arguments for the daemon.
func service(t *testing.T, args ...string) *unit {
	t.Helper()
	machine(t)
	dir, err := os.MkdirTemp("/tmp", "longshore-test-")
	must(t, err)
	u := &unit{&harness.Daemon{T: t, Dir: dir, Socket: filepath.Join(dir, "docker.sock")}}
	for _, name := range []string{"longshore.service", "longshore.socket"} {
		b, err := os.ReadFile("../../scripts/systemd/" + name)
		must(t, err)
		text := strings.NewReplacer("/usr/local/bin/longshore", harness.Bin("longshore"), "/run/docker.sock", u.Socket, "SocketGroup=docker", "SocketGroup=root").Replace(string(b))
		must(t, os.WriteFile("/run/systemd/system/"+name, []byte(text), 0o600))
	}
	args = append([]string{"--data-root", u.DataRoot(), "--exec-root", u.ExecRoot(), "--pidfile", filepath.Join(dir, "pid"),
		"--config-file", filepath.Join(dir, "daemon.json"), "--bridge=none"}, args...)
	must(t, os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}"), 0o600))
	must(t, os.MkdirAll("/run/systemd/system/longshore.service.d", 0o755))
	must(t, os.WriteFile("/run/systemd/system/longshore.service.d/test.conf", []byte("[Service]\nEnvironment=\"LONGSHORE_OPTIONS="+strings.Join(args, " ")+"\"\n"), 0o600))
	sh(t, "systemctl", "daemon-reload")
	sh(t, "systemctl", "start", "longshore.socket")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(sh(t, "journalctl", "-u", "longshore.service", "-n", "60", "--no-pager"))
		}
		for id := range strings.FieldsSeq(u.Docker("ps", "-aq").Out) {
			u.Docker("rm", "-f", id)
		}
		sh(t, "systemctl", "stop", "longshore.socket", "longshore.service")
		for _, path := range []string{"longshore.service", "longshore.socket", "longshore.service.d"} {
			must(t, os.RemoveAll("/run/systemd/system/"+path))
		}
		sh(t, "systemctl", "daemon-reload")
		must(t, os.RemoveAll(dir))
	})
	return u
}

// property of the service, as systemd has it.
func property(t testing.TB, unit, name string) string {
	t.Helper()
	return sh(t, "systemctl", "show", "-P", name, unit)
}

// TestUnits: socket activation, Type=notify, reload and kill by systemd; containers go on.
func TestUnits(t *testing.T) {
	u := service(t)
	if state := property(t, "longshore.service", "ActiveState"); state != "inactive" {
		t.Errorf("before the first call the service is %s", state)
	}
	u.Busybox()
	if state := property(t, "longshore.service", "ActiveState") + "/" + property(t, "longshore.service", "SubState"); state != "active/running" {
		t.Errorf("the service is %s", state)
	}
	u.OK("run", "-d", "--name", "stays", "--network", "none", "busybox", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done")
	must(t, os.WriteFile(filepath.Join(u.Dir, "daemon.json"), []byte(`{"labels": ["told=later"]}`), 0o600))
	sh(t, "systemctl", "reload", "longshore.service")
	harness.Eventually(t, limit, "the reload is done", func() bool { return u.OK("info", "-f", "{{.Labels}}") == "[told=later]" })

	first := property(t, "longshore.service", "MainPID")
	sh(t, "systemctl", "kill", "-s", "KILL", "--kill-whom=main", "longshore.service")
	harness.Eventually(t, limit, "systemd starts the daemon again", func() bool {
		pid := property(t, "longshore.service", "MainPID")
		return pid != "0" && pid != first && property(t, "longshore.service", "ActiveState") == "active"
	})
	if state := inspect(u.Daemon, "stays", ".State.Status"); state != "running" {
		t.Errorf("after the kill the container is %s", state)
	}
	lines := func() int { return len(strings.Fields(u.OK("logs", "stays"))) }
	before := lines()
	harness.Eventually(t, limit, "the container goes on", func() bool { return lines() > before })
	sh(t, "systemctl", "restart", "longshore.service")
	if state := inspect(u.Daemon, "stays", ".State.Status"); state != "running" {
		t.Errorf("after the restart the container is %s", state)
	}
	u.OK("rm", "-f", "stays")
}

// TestSystemdDriver: systemd makes the groups, by dockerd's names; the limits are the kernel's.
func TestSystemdDriver(t *testing.T) {
	machine(t)
	for _, runtime := range []string{"crun", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			u := service(t, "--exec-opt", "native.cgroupdriver=systemd", "--default-runtime", runtime)
			u.Busybox()
			systemdDriver(t, u.Daemon, map[string]string{"crun": "/container"}[runtime])
		})
	}
}

// systemdDriver tests one runtime, which makes containers' groups below the scopes at sub: crun leaves the scope to systemd.
func systemdDriver(t *testing.T, d *harness.Daemon, sub string) {
	if out := d.OK("info", "-f", "{{.CgroupDriver}} {{.CgroupVersion}}"); out != "systemd 2" {
		t.Errorf("info: %s", out)
	}
	group := func(name string) string {
		t.Helper()
		b, err := os.ReadFile("/proc/" + inspect(d, name, ".State.Pid") + "/cgroup")
		must(t, err)
		return strings.TrimPrefix(strings.TrimSpace(string(b)), "0::")
	}
	read := func(name, file string) string {
		b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", group(name), file))
		if err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(string(b))
	}
	d.OK("run", "-d", "--name", "box", "--network", "none", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "--cpu-shares", "512", "busybox", "sleep", "1000")
	id := inspect(d, "box", ".Id")
	if got, want := group("box"), "/system.slice/docker-"+id+".scope"+sub; got != want {
		t.Errorf("the group is %s, not %s", got, want)
	}
	if state := property(t, "docker-"+id+".scope", "ActiveState"); state != "active" {
		t.Errorf("the scope is %s", state)
	}
	for file, want := range map[string]string{"memory.max": "67108864", "cpu.max": "50000 100000", "pids.max": "50"} {
		if got := read("box", file); got != want {
			t.Errorf("%s is %s", file, got)
		}
	}
	sh(t, "systemctl", "daemon-reload") // systemd writes what it knows again
	d.OK("update", "-m", "96m", "--memory-swap", "96m", "--cpus", "0.25", "--pids-limit", "40", "box")
	sh(t, "systemctl", "daemon-reload")
	for file, want := range map[string]string{"memory.max": "100663296", "cpu.max": "25000 100000", "pids.max": "40"} {
		if got := read("box", file); got != want {
			t.Errorf("after update, %s is %s", file, got)
		}
	}
	if out := d.OK("exec", "box", "cat", "/proc/self/cgroup"); out != "0::/" {
		t.Errorf("the exec is in %s", out)
	}
	if out := d.OK("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "box"); !strings.Contains(out, "/ 96MiB 1") {
		t.Errorf("stats: %s", out)
	}
	if out := d.OK("top", "box", "-o", "pid,args"); !strings.Contains(out, "sleep 1000") {
		t.Errorf("top: %s", out)
	}
	d.OK("pause", "box")
	if got := read("box", "cgroup.freeze"); got != "1" {
		t.Errorf("paused: cgroup.freeze is %s", got)
	}
	d.OK("unpause", "box")

	d.OK("run", "-d", "--name", "slice", "--network", "none", "--cgroup-parent", "longshore-tests.slice", "busybox", "sleep", "1000")
	if got, want := group("slice"), "/longshore.slice/longshore-tests.slice/docker-"+inspect(d, "slice", ".Id")+".scope"+sub; got != want {
		t.Errorf("the group is %s, not %s", got, want)
	}
	d.Fails("cgroup-parent for systemd cgroup should be a valid slice", "create", "--cgroup-parent", "/path", "busybox")

	// Out of memory, told by the kernel's own counter.
	r := d.Docker("run", "--name", "oom", "--network", "none", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "x=x; while :; do x=$x$x; done")
	if r.Code != 137 || inspect(d, "oom", ".State.OOMKilled") != "true" {
		t.Errorf("exit %d, OOMKilled %s", r.Code, inspect(d, "oom", ".State.OOMKilled"))
	}

	pid := property(t, "longshore.service", "MainPID")
	sh(t, "kill", "-9", pid)
	harness.Eventually(t, limit, "systemd starts the daemon again", func() bool { p := property(t, "longshore.service", "MainPID"); return p != "0" && p != pid })
	d.OK("exec", "box", "true")
	d.OK("update", "-m", "80m", "--memory-swap", "80m", "box")
	if got := read("box", "memory.max"); got != strconv.Itoa(80<<20) {
		t.Errorf("after the kill, memory.max is %s", got)
	}
	d.OK("rm", "-f", "box", "slice", "oom")
	harness.Eventually(t, limit, "the scope is gone", func() bool {
		_, err := os.Stat(fmt.Sprintf("/sys/fs/cgroup/system.slice/docker-%s.scope", id))
		return os.IsNotExist(err) && property(t, "docker-"+id+".scope", "ActiveState") == "inactive"
	})
}
