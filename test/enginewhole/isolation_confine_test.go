package enginewhole

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

func TestConfinement(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()

	t.Run("masked and read-only paths", func(t *testing.T) {
		look := []string{"sh", "-c", "wc -c < /proc/timer_list; (echo x > /proc/sysrq-trigger) 2>/dev/null && echo written || echo refused; ls /sys/firmware | wc -l"}
		if out := d.OK(append([]string{"run", "--rm", "busybox"}, look...)...); out != "0\nrefused\n0" {
			t.Errorf("by default: %q", out)
		}
		out := d.OK("run", "--rm", "--security-opt", "systempaths=unconfined", "busybox", "sh", "-c", "wc -c < /proc/timer_list")
		if out == "0" {
			t.Errorf("systempaths=unconfined: /proc/timer_list is masked")
		}
		body := map[string]any{"Image": "busybox", "Cmd": []string{"sh", "-c", "wc -c < /etc/passwd; touch /srv/x 2>/dev/null || echo refused"},
			"HostConfig": map[string]any{"MaskedPaths": []string{"/etc/passwd"}, "ReadonlyPaths": []string{"/srv", "/none"}}}
		d.OK("run", "--rm", "busybox", "true")
		if status, text := call(t, d, "POST", "/containers/create?name=own", body); status != 201 {
			t.Fatalf("%d %s", status, text)
		}
		d.OK("start", "own")
		d.OK("wait", "own")
		if out := d.OK("logs", "own"); out != "0" && out != "0\nrefused" {
			t.Errorf("the client's own lists: %q", out)
		}
		if out := d.OK("inspect", "-f", "{{.HostConfig.MaskedPaths}} {{.HostConfig.ReadonlyPaths}}", "own"); out != "[/etc/passwd] [/srv /none]" {
			t.Errorf("inspect: %q", out)
		}
	})
	t.Run("AppArmor", func(t *testing.T) {
		_, err := os.Stat("/sys/kernel/security/apparmor/profiles")
		if err != nil { // then the option means nothing, as with dockerd
			d.OK("run", "--rm", "--security-opt", "apparmor=anything", "busybox", "true")
			if out := d.OK("create", "--name", "armor", "--security-opt", "apparmor=anything", "busybox"); out == "" {
				t.Error("not made")
			}
			if out := d.OK("inspect", "-f", "{{.AppArmorProfile}}", "armor"); out != "" {
				t.Errorf("profile %q on a kernel without AppArmor", out)
			}
			t.Skip("this kernel has no AppArmor; driver/apparmor and driver/ocispec test the choice of the profile")
		}
		for opt, want := range map[string]string{"": "docker-default (enforce)", "apparmor=unconfined": "unconfined"} {
			args := []string{"run", "--rm"}
			if opt != "" {
				args = append(args, "--security-opt", opt)
			}
			if out := d.OK(append(args, "busybox", "cat", "/proc/self/attr/current")...); out != want {
				t.Errorf("%s: %q", opt, out)
			}
		}
	})
	t.Run("a ulimit that the host refuses is named", func(t *testing.T) {
		r := d.Docker("run", "--rm", "--ulimit", "nofile=999999999999:999999999999", "busybox", "true")
		if r.Code == 0 || !strings.Contains(r.Err, "nofile") || !strings.Contains(r.Err, "999999999999") {
			t.Errorf("got %d %q", r.Code, r.Err)
		}
		if out := d.OK("run", "--rm", "--ulimit", "nofile=100:200", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn"); out != "100\n200" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("annotations", func(t *testing.T) {
		id := d.OK("run", "-d", "--annotation", "com.example.key=value", "busybox", "sleep", "600")
		if out := d.OK("inspect", "-f", "{{index .HostConfig.Annotations \"com.example.key\"}}", id); out != "value" {
			t.Errorf("inspect: %q", out)
		}
		b, err := os.ReadFile(filepath.Join(d.ExecRoot(), "containers", id, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		var spec struct{ Annotations map[string]string }
		if err := json.Unmarshal(b, &spec); err != nil || spec.Annotations["com.example.key"] != "value" {
			t.Errorf("the runtime was told %v %v", spec.Annotations, err)
		}
		refused(t, d, "/containers/create", map[string]any{"Image": "busybox", "HostConfig": map[string]any{"Annotations": map[string]string{"": "x"}}},
			400, "the empty string is not permitted as an annotation key")
	})
	t.Run("control group namespace", func(t *testing.T) {
		host, err := os.Readlink("/proc/self/ns/cgroup")
		if err != nil {
			t.Skip("this kernel has no cgroup namespaces")
		}
		for mode, same := range map[string]bool{"host": true, "private": false} {
			if out := d.OK("run", "--rm", "--cgroupns", mode, "busybox", "readlink", "/proc/self/ns/cgroup"); (out == host) != same {
				t.Errorf("%s: %s, the host's is %s", mode, out, host)
			}
		}
		refused(t, d, "/containers/create", map[string]any{"Image": "busybox", "HostConfig": map[string]any{"CgroupnsMode": "own"}}, 400, "invalid cgroup namespace mode: own")
	})
	t.Run("control group parent", func(t *testing.T) {
		parent := "/" + filepath.Base(d.Dir) + "/deeper"
		id := d.OK("run", "-d", "--cgroup-parent", parent, "-m", "32m", "busybox", "sleep", "600")
		out := d.OK("exec", id, "cat", "/proc/self/cgroup")
		if !strings.Contains(out, parent+"/"+id) {
			t.Errorf("the container runs in\n%s", out)
		}
		d.OK("rm", "-f", id)
		for _, p := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
			_ = os.Remove(filepath.Join(p, parent))
		}
		dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
		for _, dir := range dirs {
			if err := os.Remove(dir); err != nil {
				t.Errorf("something is left in the parent: %v", err)
			}
		}
	})
	t.Run("what the kernel cannot limit is told", func(t *testing.T) {
		out := d.OK("info", "-f", "{{.CgroupDriver}} {{.CgroupVersion}} {{.MemoryLimit}} {{.PidsLimit}} {{json .Warnings}}")
		if _, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"); err != nil {
			if _, v2 := os.Stat("/sys/fs/cgroup/cgroup.controllers"); v2 != nil && !strings.Contains(out, "No swap limit support") {
				t.Errorf("swap cannot be limited here, info tells %s", out)
			}
		}
		if !strings.HasPrefix(out, "cgroupfs ") {
			t.Errorf("got %s", out)
		}
	})
}

func TestSystemdCgroups(t *testing.T) {
	t.Parallel()
	if st, err := os.Lstat("/run/systemd/system"); err == nil && st.IsDir() {
		t.Skip("systemd runs here; this test is about a host without it")
	}
	d := harness.New(t)
	r := d.InNet(harness.Bin("longshore"), "engine", "-H", "unix://"+d.Socket, "--data-root", d.DataRoot(), "--exec-root", d.ExecRoot(),
		"--pidfile", filepath.Join(d.Dir, "pid"), "--exec-opt", "native.cgroupdriver=systemd")
	if r.Code == 0 || !strings.Contains(r.Err, "systemd not running on this host, cannot use systemd as cgroups manager") {
		t.Errorf("exit %d: %s", r.Code, r.Err)
	}
}
