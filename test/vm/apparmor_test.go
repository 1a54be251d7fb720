package vm

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"longshore/test/harness"
)

// TestAppArmor: which profile confines containers and what is started in them, and that the kernel keeps it.
func TestAppArmor(t *testing.T) {
	machine(t)
	d := harness.Start(t)
	d.Busybox()
	profiles := func() string { return sh(t, "cat", "/sys/kernel/security/apparmor/profiles") }
	if out := d.OK("info", "-f", "{{.SecurityOptions}}"); !strings.Contains(out, "name=apparmor") {
		t.Errorf("info: %s", out)
	}
	custom := filepath.Join(t.TempDir(), "profile")
	must(t, os.WriteFile(custom, []byte("profile longshore-test flags=(attach_disconnected,mediate_deleted) {\n  network,\n  capability,\n  file,\n  umount,\n  signal,\n  deny /etc/passwd r,\n}\n"), 0o600))
	sh(t, "apparmor_parser", "-r", custom)
	t.Cleanup(func() { _ = exec.Command("apparmor_parser", "-R", custom).Run() })
	cases := map[string]struct {
		args             []string
		current, profile string
	}{
		"usual":      {nil, "docker-default (enforce)", "docker-default"},
		"named":      {[]string{"-t", "--security-opt", "apparmor=docker-default"}, "docker-default (enforce)", "docker-default"},
		"unconfined": {[]string{"--security-opt", "apparmor=unconfined"}, "unconfined", "unconfined"},
		"custom":     {[]string{"--security-opt", "apparmor=longshore-test"}, "longshore-test (enforce)", "longshore-test"},
		"privileged": {[]string{"--privileged"}, "unconfined", "unconfined"},
		"by-runc":    {[]string{"--runtime", "runc"}, "docker-default (enforce)", "docker-default"},
	}
	for name, c := range cases {
		args := append([]string{"run", "-d", "--name", name, "--network", "none", "--health-cmd", "cat /proc/self/attr/current > /health", "--health-interval", "2s"}, c.args...)
		d.OK(append(args, "busybox", "sh", "-c", "cat /proc/self/attr/current > /main; sleep 1000")...)
	}
	for name, c := range cases {
		if out := inspect(d, name, ".AppArmorProfile"); out != c.profile {
			t.Errorf("%s: inspect: %q", name, out)
		}
		terminal := []string{"exec", name}
		if name == "usual" {
			terminal = []string{"exec", "-t", name}
		}
		want, got := strings.Repeat(c.current+"\n", 3), ""
		if !harness.Within(2*limit, func() bool { // an exec, the container itself, its health check
			r := d.Docker(append(terminal, "sh", "-c", "cat /proc/self/attr/current /main /health")...)
			got = strings.ReplaceAll(r.Out, "\r", "")
			return got == want
		}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	d.OK(append([]string{"stop", "-t", "0"}, slices.Collect(maps.Keys(cases))...)...) // signals of the engine get through
	d.OK(append([]string{"rm"}, slices.Collect(maps.Keys(cases))...)...)
	if !strings.Contains(profiles(), "docker-default (enforce)") {
		t.Error("docker-default is not loaded")
	}
	t.Run("kept", func(t *testing.T) {
		d.Fails("Permission denied", "run", "--rm", "--security-opt", "apparmor=longshore-test", "busybox", "cat", "/etc/passwd")
		d.Fails("denied", "run", "--rm", "--cap-add", "SYS_ADMIN", "busybox", "mount", "-t", "tmpfs", "none", "/tmp")
		d.OK("run", "--rm", "--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined", "busybox", "mount", "-t", "tmpfs", "none", "/tmp")
		d.Fails("attr/", "run", "--rm", "--security-opt", "apparmor=not-loaded", "busybox", "true")
	})
	t.Run("loaded again", func(t *testing.T) { // as dockerd does it at the next start of a container
		profile := filepath.Join(t.TempDir(), "p")
		must(t, os.WriteFile(profile, []byte("profile docker-default {}\n"), 0o600))
		sh(t, "apparmor_parser", "-R", profile)
		if strings.Contains(profiles(), "docker-default") {
			t.Fatal("the profile stays")
		}
		if out := d.OK("run", "--rm", "busybox", "cat", "/proc/self/attr/current"); out != "docker-default (enforce)" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("the daemon's restart", func(t *testing.T) {
		d.OK("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
		d.Kill()
		d.Up()
		if out := d.OK("exec", "stays", "cat", "/proc/self/attr/current", "/proc/1/attr/current"); out != "docker-default (enforce)\ndocker-default (enforce)" {
			t.Errorf("got %q", out)
		}
		d.OK("rm", "-f", "stays")
	})
}
