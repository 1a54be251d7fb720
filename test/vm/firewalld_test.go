package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestFirewalld: the real one beside the engine, on whichever of its backends the kernel has: its reload does not take
// published ports away for long, and what it drops by name is dropped.
func TestFirewalld(t *testing.T) {
	machine(t)
	const config = "/etc/firewalld/firewalld.conf"
	usual, err := os.ReadFile(config)
	must(t, err)
	backend := "nftables"
	if exec.Command("nft", "add table inet probe; add chain inet probe in { type filter hook input priority 0; }; delete table inet probe").Run() != nil {
		backend = "iptables"
	}
	t.Log("firewalld's backend is", backend)
	must(t, os.WriteFile(config, []byte(strings.Replace(string(usual), "\nFirewallBackend=nftables", "\nFirewallBackend="+backend, 1)), 0o600))
	d := onHost(t)
	t.Cleanup(func() { // before the daemon's end, which looks for what is left
		_ = exec.Command("systemctl", "stop", "firewalld").Run()
		must(t, os.WriteFile(config, usual, 0o600))
	})
	const other = "vm-other"
	sh(t, "ip", "netns", "add", other)
	t.Cleanup(func() { sh(t, "ip", "netns", "del", other) })
	for _, args := range []string{
		"link add wan0 type veth peer name wan1 netns " + other, "addr add 192.0.2.1/24 dev wan0", "link set wan0 up",
		"-n " + other + " addr add 192.0.2.2/24 dev wan1", "-n " + other + " link set wan1 up",
	} {
		sh(t, "ip", strings.Fields(args)...)
	}
	answers := func() bool {
		out, _ := exec.Command("nsenter", "--net="+filepath.Join("/run/netns", other), "curl", "-s", "-m", "5", "http://192.0.2.1:8080/i").Output()
		return strings.TrimSpace(string(out)) == "page"
	}
	serve := func() string {
		return d.OK("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", "mkdir -p /w && echo page >/w/i && exec httpd -f -p [::]:80 -h /w")
	}
	d.Up()
	d.Busybox()
	serve()
	harness.Eventually(t, limit, "the published port answers", answers)
	sh(t, "systemctl", "start", "firewalld")
	harness.Eventually(t, limit, "the port answers beside firewalld, which came later", answers)
	if out := sh(t, "firewall-cmd", "--state"); out != "running" {
		t.Errorf("firewalld is %s", out)
	}
	for range 2 {
		sh(t, "firewall-cmd", "--reload")
		began := time.Now()
		harness.Eventually(t, limit, "the port answers after a reload", answers)
		t.Log("a reload is healed after", time.Since(began).Round(time.Millisecond))
	}
	_ = exec.Command("firewall-cmd", "--complete-reload").Run() // on a slow machine firewalld's answer comes too late for its client
	harness.Eventually(t, limit, "the port answers after a complete reload", answers)
	if out := d.OK("exec", "web", "ping", "-c1", "192.0.2.2"); !strings.Contains(out, " 0% packet loss") {
		t.Errorf("the container reaches nobody: %s", out)
	}
	d.OK("rm", "-f", "web")
	serve()
	harness.Eventually(t, limit, "a port that is published beside firewalld answers", answers)
	sh(t, "firewall-cmd", "--add-rich-rule=rule port port=8080 protocol=tcp reject")
	harness.Eventually(t, limit, "what firewalld rejects is rejected", func() bool { return !answers() })
	sh(t, "firewall-cmd", "--reload") // the rule was not permanent
	harness.Eventually(t, limit, "the port answers again", answers)
	sh(t, "systemctl", "stop", "firewalld")
	harness.Eventually(t, limit, "the port answers without firewalld", answers)
	d.OK("rm", "-f", "web")
}
