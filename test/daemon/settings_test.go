package daemon

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"longshore/test/harness"
)

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	must(t, err)
	return string(b)
}

// TestDebugEndpoints: they are there with debug, and only then.
func TestDebugEndpoints(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, "--debug")
	for path, want := range map[string]string{
		"/debug/vars": `"memstats"`, "/v1.55/debug/vars": `"cmdline"`, "/debug/pprof/": "goroutine", "/debug/pprof/cmdline": "longshore",
		"/debug/pprof/goroutine?debug=1": "goroutine profile: total", "/debug/pprof/heap?debug=1": "heap profile", "/debug/pprof/symbol": "num_symbols",
		"/debug/pprof/block?debug=1": "contention", "/debug/pprof/threadcreate?debug=1": "threadcreate profile", "/debug/pprof/trace?seconds=0.1": "trace",
		"/debug/pprof/profile?seconds=1": "",
	} {
		status, text := ask(t, d, "GET", path, "")
		if status != 200 || !strings.Contains(text, want) || text == "" {
			t.Errorf("%s: %d %.200q", path, status, text)
		}
	}
	if status, _ := ask(t, d, "GET", "/debug/pprof/nothing", ""); status != 404 {
		t.Errorf("an unknown profile: %d", status)
	}
	quiet := harness.Start(t)
	if status, _ := ask(t, quiet, "GET", "/debug/vars", ""); status != 404 {
		t.Errorf("without debug: %d", status)
	}
}

// TestSettingsWithoutEffect: a daemon.json and a unit file of dockerd's start the daemon, and the log tells what does nothing.
func TestSettingsWithoutEffect(t *testing.T) {
	t.Parallel()
	d := harness.New(t, "--containerd", "/run/containerd/containerd.sock")
	must(t, os.WriteFile(d.Dir+"/daemon.json", []byte(`{"raw-logs": true, "node-generic-resources": ["gpu=a"], "rootless": false, "api-cors-header": "",
		"swarm-default-advertise-addr": "192.0.2.1", "network-control-plane-mtu": 1400, "storage-opts": ["overlay2.override_kernel_check=true"], "mtu": 0}`), 0o600))
	d.Up()
	for _, key := range []string{"raw-logs", "node-generic-resources", "swarm-default-advertise-addr", "network-control-plane-mtu", "containerd"} {
		if !strings.Contains(d.Log(), "key="+key+" ") {
			t.Errorf("the log does not name %s", key)
		}
	}
	if strings.Contains(d.Log(), "key=rootless") {
		t.Error("rootless=false is told of")
	}
}

// TestNoCDI: the feature cdi=false, and no directory with descriptions.
func TestNoCDI(t *testing.T) {
	t.Parallel()
	specs := t.TempDir()
	must(t, os.WriteFile(filepath.Join(specs, "v.yaml"), []byte("cdiVersion: 0.6.0\nkind: vendor.test/thing\ndevices:\n- name: one\n  containerEdits:\n    env: [THING=one]\n"), 0o600))
	d := harness.Start(t, "--feature", "cdi=false", "--cdi-spec-dir", specs)
	d.Busybox()
	d.Fails(`could not select device driver "cdi" with capabilities: []`, "run", "--rm", "--device", "vendor.test/thing=one", "busybox", "true")
	if _, text := ask(t, d, "GET", "/info", ""); !strings.Contains(text, `"CDISpecDirs":[]`) || strings.Contains(text, "vendor.test") {
		t.Error("info tells of CDI")
	}
	none := harness.Start(t, "--cdi-spec-dir", "")
	none.Busybox()
	none.Fails(`could not select device driver "cdi" with capabilities: []`, "run", "--rm", "--device", "vendor.test/thing=one", "busybox", "true")
	if dirs := none.OK("info", "-f", "{{.CDISpecDirs}}"); dirs != "[]" {
		t.Errorf("directories: %s", dirs)
	}
	on := harness.Start(t, "--cdi-spec-dir", specs)
	on.Busybox()
	if out := on.OK("run", "--rm", "--device", "vendor.test/thing=one", "busybox", "sh", "-c", "echo $THING"); out != "one" {
		t.Errorf("with CDI: %s", out)
	}
}

// TestStorageSize: storage-opts bounds the writable layer of containers that do not say otherwise; where the file system
// cannot, the daemon says so and does not start.
func TestStorageSize(t *testing.T) {
	t.Parallel()
	d := harness.New(t, "--storage-opt", "overlay2.size=8m")
	if !quotaDisk(t, d.DataRoot()) {
		out, err := exec.Command(harness.Bin("longshore"), "engine", "-H", "unix://"+d.Socket, "--data-root", d.DataRoot(), "--exec-root", d.ExecRoot(),
			"--pidfile", "", "--storage-opt", "overlay2.size=8m").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Storage option overlay2.size not supported. Filesystem does not support Project Quota") {
			t.Errorf("%v %s", err, out)
		}
		t.Skip("no file system with project quotas can be made here")
	}
	d.Up()
	d.Busybox()
	write := func(args ...string) harness.Result {
		return d.Docker(append(append([]string{"run", "--rm"}, args...), "busybox", "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=12")...)
	}
	if r := write(); r.Code == 0 {
		t.Error("12 MiB were written into 8")
	}
	if r := write("--storage-opt", "size=32m"); r.Code != 0 {
		t.Errorf("%+v", r)
	}
	d.OK("volume", "create", "-o", "size=8m", "small")
	if r := d.Docker("run", "--rm", "-v", "small:/v", "busybox", "dd", "if=/dev/zero", "of=/v/f", "bs=1M", "count=12"); r.Code == 0 {
		t.Error("12 MiB were written into a volume of 8")
	}
}

// quotaDisk mounts an ext4 with project quotas at dir, if this host can.
func quotaDisk(t *testing.T, dir string) bool {
	t.Helper()
	img := filepath.Join(t.TempDir(), "disk")
	must(t, os.MkdirAll(dir, 0o711))
	for _, c := range [][]string{
		{"truncate", "-s", "256M", img}, {"mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", img}, {"mount", "-o", "loop,prjquota", img, dir},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Logf("%s: %v %s", c[0], err, out)
			return false
		}
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return true
}

// TestRealtimeShare: cpu-rt-runtime lets containers have a part of it.
func TestRealtimeShare(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"); err != nil {
		d := harness.New(t) // for root, and its directories
		out, err := exec.Command(harness.Bin("longshore"), "engine", "-H", "unix://"+d.Socket, "--data-root", d.DataRoot(), "--exec-root", d.ExecRoot(),
			"--pidfile", "", "--cpu-rt-runtime", "1000").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "cpu-rt-period and cpu-rt-runtime: ") {
			t.Errorf("%v %s", err, out)
		}
		t.Skip("the kernel has no real-time groups")
	}
	d := harness.Start(t, "--cpu-rt-runtime", "200000")
	d.Busybox()
	d.OK("run", "-d", "--name", "rt", "--cpu-rt-runtime", "100000", "--cap-add", "sys_nice", "busybox", "sleep", "600")
	id := d.OK("inspect", "-f", "{{.Id}}", "rt")
	b, err := os.ReadFile("/sys/fs/cgroup/cpu/" + filepath.Base(d.Dir) + "/" + id + "/cpu.rt_runtime_us")
	if err != nil || strings.TrimSpace(string(b)) != "100000" {
		t.Errorf("%s %v", b, err)
	}
	d.OK("update", "--cpu-rt-runtime", "50000", "rt")
	b, err = os.ReadFile("/sys/fs/cgroup/cpu/" + filepath.Base(d.Dir) + "/" + id + "/cpu.rt_runtime_us")
	if err != nil || strings.TrimSpace(string(b)) != "50000" {
		t.Errorf("after update: %s %v", b, err)
	}
	if out := d.OK("inspect", "-f", "{{.HostConfig.CpuRealtimeRuntime}}", "rt"); out != "50000" {
		t.Errorf("inspect: %s", out)
	}
	if r := d.Docker("run", "--rm", "--cpu-rt-runtime", "300000", "busybox", "true"); r.Code == 0 {
		t.Error("a container has more than all of them together")
	}
	d.OK("rm", "-f", "rt")
}

// TestBuilderTakesMirrors: registry-mirrors of a reload count for the builder at once.
func TestBuilderTakesMirrors(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	asked := make(chan string, 1000)
	l := d.Listen()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		w.WriteHeader(http.StatusNotFound)
	})}
	go func(l net.Listener) { _ = srv.Serve(l) }(l)
	defer srv.Close()
	d.Up()
	d.Busybox()
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/Dockerfile", []byte("FROM busybox\nRUN true\n"), 0o600))
	d.OK("build", "-q", dir) // the builder is open
	must(t, os.WriteFile(d.Dir+"/daemon.json", []byte(`{"registry-mirrors": ["http://`+l.Addr().String()+`"]}`), 0o600))
	must(t, syscall.Kill(d.PID(), syscall.SIGHUP))
	harness.Eventually(t, patience, "the mirror is in force", func() bool {
		return strings.Contains(d.OK("info", "-f", "{{.RegistryConfig.Mirrors}}"), l.Addr().String())
	})
	must(t, os.WriteFile(dir+"/Dockerfile", []byte("FROM nowhere/nothing:1\n"), 0o600))
	_ = d.Docker("build", "-q", dir) // fails; whom it asked is what counts
	for {
		select {
		case path := <-asked:
			if strings.HasPrefix(path, "/v2/nowhere/nothing/") {
				return
			}
		default:
			t.Fatal("the builder has not asked the mirror")
		}
	}
}
