package engine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestNamesAndPorts: what the embedded DNS answers, live connecting, and every way to publish a port.
func TestNamesAndPorts(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	part(t, d, "names of all kinds", dnsNames)
	part(t, d, "connect and disconnect", connectLive)
	part(t, d, "addresses", ipam)
	part(t, d, "published ports", publishPorts)
	part(t, d, "internal, isolated, listed, pruned", networkKinds)
}

func dnsNames(t *testing.T, d *harness.Daemon) {
	d.OK("network", "create", "--subnet", "10.88.0.0/24", "names")
	defer d.OK("network", "rm", "names")
	d.OK("run", "-d", "--name", "one", "--network", "names", "--network-alias", "pool", "--network-alias", "first", "--ip", "10.88.0.11", "-h", "one-host", "busybox", "sleep", "1000")
	d.OK("run", "-d", "--name", "two", "--network", "names", "--network-alias", "pool", "--ip", "10.88.0.12", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", "one", "two")
	answers := func(name string) (found []string) {
		for _, line := range strings.Split(d.Docker("exec", "two", "nslookup", name).Out, "\n") {
			if i := strings.Index(line, "10.88.0."); i >= 0 && strings.HasPrefix(line, "Address") {
				found = append(found, strings.Fields(line[i:])[0])
			}
		}
		return found
	}
	look := func(name string) []string {
		found := answers(name)
		slices.Sort(found)
		return slices.Compact(found)
	}
	id := d.OK("inspect", "-f", "{{.Id}}", "one")
	for name, want := range map[string]string{
		"one": "[10.88.0.11]", "first": "[10.88.0.11]", "one.names": "[10.88.0.11]", id[:12]: "[10.88.0.11]", "ONE": "[10.88.0.11]", "pool": "[10.88.0.11 10.88.0.12]", "nobody": "[]",
	} {
		if got := fmt.Sprint(look(name)); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
	// Round robin: each of the two comes first at times.
	firsts := map[string]bool{}
	for range 40 {
		if found := answers("pool"); len(found) > 0 {
			firsts[found[0]] = true
		}
		if len(firsts) == 2 {
			break
		}
	}
	if len(firsts) != 2 {
		t.Errorf("only %v came first in 40 questions", firsts)
	}
	tells(t, d, []string{"one.names"}, "exec", "two", "nslookup", "10.88.0.11")
	tells(t, d, []string{"nameserver 127.0.0.11"}, "exec", "two", "cat", "/etc/resolv.conf")
	tells(t, d, []string{"10.88.0.11\tone-host"}, "exec", "one", "cat", "/etc/hosts")
	// Names follow renaming and stopping; the default bridge has none.
	d.OK("rename", "one", "uno")
	harness.Eventually(t, 20*time.Second, "the new name is answered", func() bool { return len(look("uno")) == 1 && len(look("one")) == 0 })
	d.OK("stop", "-t", "0", "uno")
	harness.Eventually(t, 20*time.Second, "a stopped container has no name", func() bool { return len(look("uno")) == 0 && fmt.Sprint(look("pool")) == "[10.88.0.12]" })
	d.OK("rename", "uno", "one")
	if r := d.Docker("run", "--rm", "busybox", "ping", "-c1", "-W1", "two"); r.Code == 0 {
		t.Errorf("the default bridge resolves names: %s", r.Out)
	}
}

func connectLive(t *testing.T, d *harness.Daemon) {
	d.OK("network", "create", "--subnet", "10.89.0.0/24", "side")
	d.OK("run", "-d", "--name", "host", "--network", "side", "busybox", "sleep", "1000")
	d.OK("run", "-d", "--name", "mover", "busybox", "sleep", "1000")
	d.OK("network", "connect", "--alias", "moved", "--alias", "again", "--ip", "10.89.0.50", "side", "mover")
	for _, name := range []string{"mover", "moved", "again"} {
		tells(t, d, []string{"(10.89.0.50)"}, "exec", "host", "ping", "-c1", "-W2", name)
	}
	says(t, d, "10.89.0.50 moved,again", "inspect", "-f", `{{with index .NetworkSettings.Networks "side"}}{{.IPAMConfig.IPv4Address}} {{join .Aliases ","}}{{end}}`, "mover")
	// What was asked for lasts over a restart, and a stopped container is connected too.
	d.OK("restart", "-t", "0", "mover")
	tells(t, d, []string{"(10.89.0.50)"}, "exec", "host", "ping", "-c1", "-W2", "again")
	d.OK("stop", "-t", "0", "mover")
	d.OK("network", "disconnect", "side", "mover")
	d.OK("network", "connect", "side", "mover")
	d.OK("start", "mover")
	tells(t, d, []string{"10.89.0."}, "exec", "mover", "ip", "-4", "-o", "addr")
	d.Fails("already exists in network side", "network", "connect", "side", "mover")
	d.OK("network", "disconnect", "-f", "side", "mover")
	d.Fails("is not connected to network side", "network", "disconnect", "side", "mover")
	d.Fails("No such container: nobody", "network", "connect", "side", "nobody")
	d.Fails("network nonet not found", "network", "connect", "nonet", "mover")
	d.Fails("no configured subnet or ip-range contain the IP address 10.1.2.3", "network", "connect", "--ip", "10.1.2.3", "side", "mover")
	d.Fails("container sharing network namespace with another container or host cannot be connected to any other network", "network", "connect", "side", d.OK("run", "-d", "--network", "container:host", "busybox", "sleep", "1000"))
	d.Fails("network-scoped aliases are only supported for user-defined networks", "run", "--rm", "--network-alias", "x", "busybox", "true")
	d.OK("network", "connect", "--link", "host:linked", "side", "mover")
	tells(t, d, []string{"bytes from"}, "exec", "mover", "ping", "-c1", "-W2", "linked")
	d.OK(append([]string{"rm", "-f"}, strings.Fields(d.OK("ps", "-aq"))...)...)
	d.OK("network", "rm", "side")
}

func ipam(t *testing.T, d *harness.Daemon) {
	d.OK("network", "create", "--subnet", "10.90.0.0/24", "--ip-range", "10.90.0.128/28", "--gateway", "10.90.0.254", "--aux-address", "printer=10.90.0.129", "--label", "a=b", "-o", "com.docker.network.bridge.name=lsipam", "ranged")
	defer d.OK("network", "rm", "ranged")
	says(t, d, "10.90.0.0/24 10.90.0.128/28 10.90.0.254 b bridge", "network", "inspect", "-f", "{{with index .IPAM.Config 0}}{{.Subnet}} {{.IPRange}} {{.Gateway}}{{end}} {{.Labels.a}} {{.Driver}}", "ranged")
	first := d.OK("run", "--rm", "--network", "ranged", "busybox", "sh", "-c", "ip -4 -o addr show eth0 | awk '{print $4}'; ip route | grep default")
	if !strings.HasPrefix(first, "10.90.0.128/24") && !strings.HasPrefix(first, "10.90.0.130/24") || !strings.Contains(first, "via 10.90.0.254") {
		t.Errorf("the first address and route: %s", first)
	}
	if out := d.InNet("ip", "-o", "link", "show", "lsipam").Out; !strings.Contains(out, "lsipam") {
		t.Errorf("the bridge's name: %s", out)
	}
	d.Fails("Pool overlaps with other one on this address space", "network", "create", "--subnet", "10.90.0.0/16", "overlapping")
	d.Fails("prefix length out of range", "network", "create", "--subnet", "10.91.0.0/99", "bad")
	// Pools never overlap a route of the host.
	taken := d.InNet("ip", "addr", "add", "172.18.0.9/16", "dev", "lo")
	if taken.Code != 0 {
		t.Fatal(taken.Err)
	}
	d.OK("network", "create", "beside")
	if out := d.OK("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "beside"); strings.HasPrefix(out, "172.18.") {
		t.Errorf("subnet %s overlaps a route of the host", out)
	}
	d.OK("network", "rm", "beside")
	d.InNet("ip", "addr", "del", "172.18.0.9/16", "dev", "lo")
}

func publishPorts(t *testing.T, d *harness.Daemon) {
	bin := filepath.Join(t.TempDir(), "udpecho")
	build := exec.Command("go", "build", "-o", bin, "./testdata/udpecho")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.OK("run", "-d", "--name", "many", "-p", "19000-19002:80-82", "-p", "127.0.0.1:19010:80", "-p", "127.0.0.1::81/tcp", "-p", "80", "-p", "19053:53/udp", "-v", bin+":/udpecho:ro", "busybox",
		"sh", "-c", "for p in 80 81 82; do httpd -p $p -h /etc; done; exec /udpecho")
	defer d.OK("rm", "-f", "many")
	fetch := func(at string) bool {
		return strings.HasPrefix(d.InNet("curl", "-s", "-m", "3", "http://"+at+"/group").Out, "root:")
	}
	ephemeral := strings.Fields(d.OK("port", "many", "80/tcp"))
	at := map[string]bool{"127.0.0.1:19000": true, "127.0.0.1:19001": true, "127.0.0.1:19002": true, "127.0.0.1:19010": true, d.OK("port", "many", "81/tcp"): true}
	for _, a := range ephemeral {
		at[strings.Replace(a, "0.0.0.0", "127.0.0.1", 1)] = true
	}
	harness.Eventually(t, 20*time.Second, "the first port answers", func() bool { return fetch("127.0.0.1:19002") })
	for a := range at {
		for _, one := range strings.Fields(a) {
			if strings.HasPrefix(one, "[") {
				continue
			}
			if one = strings.Replace(one, "0.0.0.0", "127.0.0.1", 1); !fetch(one) {
				t.Errorf("%s does not answer", one)
			}
		}
	}
	// The host's own address and other containers reach what all addresses serve, and only that.
	gateway := d.OK("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
	if !fetch(gateway+":19000") || fetch(gateway+":19010") {
		t.Error("an address of the host: 19000 must answer, 19010 must not")
	}
	tells(t, d, []string{"root:"}, "run", "--rm", "busybox", "wget", "-qO-", "http://"+gateway+":19001/group")
	harness.Eventually(t, 20*time.Second, "a datagram comes back", func() bool {
		return d.InNet("timeout", "2", "bash", "-c", "exec 3<>/dev/udp/127.0.0.1/19053; echo ping >&3; head -1 <&3").Out == "ping\n"
	})
	tells(t, d, []string{"80/tcp -> 0.0.0.0:19000", "82/tcp -> 0.0.0.0:19002", "80/tcp -> 127.0.0.1:19010", "53/udp -> 0.0.0.0:19053"}, "port", "many")
	tells(t, d, []string{"0.0.0.0:19000->80/tcp", "0.0.0.0:19002->82/tcp", "127.0.0.1:19010->80/tcp", "0.0.0.0:19053->53/udp"}, "ps", "--filter", "publish=19000", "--format", "{{.Ports}}")
	says(t, d, "many", "ps", "--filter", "expose=82", "--format", "{{.Names}}")
	d.Fails("port is already allocated", "run", "--rm", "-p", "127.0.0.1:19001:80", "busybox", "true")
	d.Fails("invalid hostPort: 99999", "create", "-p", "99999:80", "busybox")
	d.OK("run", "-d", "--name", "all", "-P", "--expose", "80", "--expose", "7/udp", "busybox", "sleep", "1000")
	if out := d.OK("port", "all"); !strings.Contains(out, "80/tcp -> 0.0.0.0:") || !strings.Contains(out, "7/udp -> 0.0.0.0:") {
		t.Errorf("-P: %s", out)
	}
	d.OK("rm", "-f", "all")
	// A restart keeps fixed ports and may change the others; a stop takes all away.
	d.OK("restart", "-t", "0", "many")
	harness.Eventually(t, 20*time.Second, "it answers again", func() bool { return fetch("127.0.0.1:19000") })
	d.OK("stop", "-t", "0", "many")
	if fetch("127.0.0.1:19000") {
		t.Error("a stopped container's port answers")
	}
	tells(t, d, []string{`"19000"`}, "inspect", "-f", "{{json .HostConfig.PortBindings}}", "many")
}

func networkKinds(t *testing.T, d *harness.Daemon) {
	d.OK("network", "create", "--internal", "--label", "kind=inner", "inner")
	d.OK("run", "-d", "--name", "in1", "--network", "inner", "busybox", "sleep", "1000")
	tells(t, d, []string{"bytes from"}, "run", "--rm", "--network", "inner", "busybox", "ping", "-c1", "-W2", "in1")
	r := d.Docker("exec", "in1", "ping", "-c1", "-W1", d.OK("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge"))
	if r.Code == 0 {
		t.Error("an internal network leads out")
	}
	names := func(filter ...string) string {
		t.Helper()
		args := []string{"network", "ls", "--format", "{{.Name}}"}
		for _, f := range filter {
			args = append(args, "--filter", f)
		}
		list := strings.Fields(d.OK(args...))
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	id := d.OK("network", "inspect", "-f", "{{.Id}}", "inner")
	for want, filters := range map[string][]string{
		"inner": {"label=kind=inner"}, "bridge": {"name=^bridge$"}, "bridge host none": {"type=builtin"}, "bridge inner": {"driver=bridge"}, "bridge host inner none": {"scope=local"}, "": {"driver=nosuch"},
		"inner ": {"id=" + id[:12]}, " inner": {"type=custom"},
	} {
		if got := names(filters...); got != strings.TrimSpace(want) {
			t.Errorf("network ls %v: %q, want %q", filters, got, want)
		}
	}
	says(t, d, "", "network", "ls", "--filter", "dangling=true", "--format", "{{.Name}}") // docker's own never count
	d.Fails("has active endpoints", "network", "rm", "inner")
	for _, builtin := range []string{"bridge", "host", "none"} {
		d.Fails("is a pre-defined network and cannot be removed", "network", "rm", builtin)
	}
	d.Fails("operation is not permitted on predefined host network", "network", "create", "host")
	d.OK("network", "create", "idle1")
	says(t, d, "idle1", "network", "ls", "--filter", "dangling=true", "--format", "{{.Name}}")
	d.OK("network", "create", "--label", "keep=1", "idle2")
	if out := d.OK("network", "prune", "-f", "--filter", "label!=keep"); !strings.Contains(out, "idle1") || strings.Contains(out, "idle2") || strings.Contains(out, "inner") {
		t.Errorf("prune: %s", out)
	}
	d.OK("rm", "-f", "in1")
	tells(t, d, []string{"inner", "idle2"}, "network", "prune", "-f")
}
