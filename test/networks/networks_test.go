// Package networks tests networking from outside: the real daemon, the real docker CLI, and a second network namespace
// as another host.
package networks

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// limit is how long anything may take that is only waited for.
const limit = 30 * time.Second

// host is another host: a network namespace that a pair of interfaces joins to the daemon's. Both ends have addresses.
type host struct {
	d  *harness.Daemon
	ns string
}

// Addresses of the link between the daemon's host and the other.
const (
	here, there   = "192.0.2.1", "192.0.2.2"
	here6, there6 = "2001:db8:ffff::1", "2001:db8:ffff::2"
)

// other makes another host. The daemon's end is "wan0", the other's "wan1".
func other(t *testing.T, d *harness.Daemon) *host {
	t.Helper()
	h := &host{d, d.NetNS + "-o"}
	sh(t, "ip", "netns", "add", h.ns)
	t.Cleanup(func() { sh(t, "ip", "netns", "del", h.ns) })
	for _, args := range []string{
		"-n " + d.NetNS + " link add wan0 type veth peer name wan1 netns " + h.ns,
		"-n " + d.NetNS + " addr add " + here + "/24 dev wan0", "-n " + h.ns + " addr add " + there + "/24 dev wan1",
		"-n " + d.NetNS + " addr add " + here6 + "/64 dev wan0 nodad", "-n " + h.ns + " addr add " + there6 + "/64 dev wan1 nodad",
		"-n " + d.NetNS + " link set wan0 up", "-n " + h.ns + " link set wan1 up", "-n " + h.ns + " link set lo up",
	} {
		sh(t, "ip", strings.Fields(args)...)
	}
	return h
}

// run runs a command there.
func (h *host) run(args ...string) (string, error) { return within(h.ns, args...) }

// within runs a command in a named network namespace.
func within(ns string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + ns}, args...)...).CombinedOutput()
	return string(out), err
}

func sh(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// web starts a container that answers "<name>" by HTTP at port 80.
func web(d *harness.Daemon, name string, args ...string) {
	d.T.Helper()
	args = append([]string{"run", "-d", "--name", name}, args...)
	d.OK(append(args, "busybox", "sh", "-c", "mkdir -p /w && echo "+name+" >/w/i && exec httpd -f -p [::]:80 -h /w")...)
}

// fetch gets the page that web serves; short is for answers that are not expected to come.
func fetch(ns, address string, short bool) string {
	limit := "10"
	if short {
		limit = "0.5"
	}
	out, _ := within(ns, "curl", "-s", "-m", limit, "http://"+address+"/i")
	return strings.TrimSpace(out)
}

// reaches waits until a page is answered.
func reaches(t testing.TB, ns, address, want string) {
	t.Helper()
	var got string
	harness.Eventually(t, limit, fmt.Sprintf("%s answers %q from %s", address, want, ns), func() bool {
		got = fetch(ns, address, false)
		return got == want
	})
}

// closed checks that an address does not answer.
func closed(t testing.TB, ns, address string) {
	t.Helper()
	if got := fetch(ns, address, true); got != "" {
		t.Errorf("%s answers %q from %s", address, got, ns)
	}
}

// inspect is a field of a container.
func inspect(d *harness.Daemon, what, format string) string {
	d.T.Helper()
	return d.OK("inspect", "-f", format, what)
}

// address is a container's address on a network; address6 that of IPv6.
func address(d *harness.Daemon, name, network string) string {
	d.T.Helper()
	return inspect(d, name, fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", network))
}

func address6(d *harness.Daemon, name, network string) string {
	d.T.Helper()
	return inspect(d, name, fmt.Sprintf("{{(index .NetworkSettings.Networks %q).GlobalIPv6Address}}", network))
}

// has says whether the kernel makes links of a kind.
func has(t testing.TB, d *harness.Daemon, kind ...string) bool {
	t.Helper()
	args := append([]string{"-n", d.NetNS, "link", "add", "probe0"}, kind...)
	if err := exec.Command("ip", args...).Run(); err != nil {
		return false
	}
	sh(t, "ip", "-n", d.NetNS, "link", "del", "probe0")
	return true
}

// hasNFTables tells whether the kernel has nf_tables for IP. User Mode Linux has not: the engine uses iptables there.
func hasNFTables(d *harness.Daemon) bool {
	return d.InNet("nft", "add table inet probe; add chain inet probe in { type filter hook input priority 0; }; delete table inet probe").Code == 0
}

// needNFTables skips the test where the kernel has no nf_tables for IP.
func needNFTables(t testing.TB, d *harness.Daemon) {
	t.Helper()
	if !hasNFTables(d) {
		t.Skip("the kernel has no nf_tables for IP")
	}
}

// seenAs is the address that a container has for the other host, which listens at a port of its own.
func (h *host) seenAs(t *testing.T, container string) string {
	t.Helper()
	var l *net.TCPListener
	if err := inside(t, "/run/netns/"+h.ns, func() (err error) {
		l, err = net.ListenTCP("tcp", &net.TCPAddr{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	came := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			came <- err.Error()
			return
		}
		_ = c.Close()
		came <- c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String()
	}()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	r := h.d.Docker("exec", container, "sh", "-c", "nc -w 10 "+there+" "+port+" </dev/null")
	if r.Code != 0 {
		t.Errorf("%s cannot connect: %s", container, r.Err)
	}
	return <-came
}

func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil && os.Geteuid() == 0 {
		t.Skipf("%s is not installed", program)
	}
}

// TestNetworkByID: a container that was created with a network's ID shows the network's name, before it runs, while it
// runs and after, and can be taken off it at any time.
func TestNetworkByID(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	id := d.OK("network", "create", "named")
	names := func() string {
		return d.OK("inspect", "-f", "{{range $name, $e := .NetworkSettings.Networks}}{{$name}} {{end}}", "box")
	}
	for _, ref := range []string{id, id[:12]} {
		d.OK("create", "--name", "box", "--network", ref, "--network-alias", "other", "busybox", "sleep", "600")
		for _, step := range [][]string{nil, {"start", "box"}, {"stop", "-t", "0", "box"}, {"start", "box"}} {
			if step != nil {
				d.OK(step...)
			}
			if got := names(); got != "named" {
				t.Errorf("created with %s, %v: %s", ref, step, got)
			}
		}
		d.OK("run", "--rm", "--network", "named", "busybox", "nslookup", "other")
		d.OK("stop", "-t", "0", "box")
		d.OK("network", "disconnect", "named", "box")
		if got := names(); got != "" {
			t.Errorf("taken off: %s", got)
		}
		d.OK("rm", "box")
	}
}
