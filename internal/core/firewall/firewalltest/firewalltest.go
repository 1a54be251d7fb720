// Package firewalltest is the suite that every implementation of core/firewall.Firewall passes: real packets between
// network namespaces that stand for containers and for another host. Its tests change links and rules, so that a package
// that uses it calls Main from its TestMain, which runs the tests in namespaces of their own.
package firewalltest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/core/firewall"
)

// Main runs a test binary again in network and mount namespaces of its own.
func Main(m *testing.M) {
	const mark = "LONGSHORE_FIREWALLTEST"
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(mark) != "" {
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// prepare makes the namespaces usable: a /run of their own for iptables' lock and ip's names.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	for name, value := range map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"} {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
			return err
		}
	}
	return exec.Command("ip", "link", "set", "lo", "up").Run()
}

// Backend is one implementation and the administrator's ways to meddle with it.
type Backend struct {
	New func(firewall.Config) firewall.Firewall
	// Remove takes everything of New's away.
	Remove func(firewall.Firewall) error
	// DropInput and DropHook are shell commands that drop a TCP port of the host in its input chain, and in the hook that
	// is documented; Undo takes back what either did. %d is the port.
	DropInput, DropHook, Undo string
	// Flush is a shell command that flushes everything, as an administrator might.
	Flush string
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	w := newWorld(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *world, Backend)
	}{
		{"publish", testPublish}, {"networks", testNetworks}, {"modes", testModes}, {"direct", testDirect}, {"links", testLinks},
		{"host rules", testHostRules}, {"repair", testRepair}, {"families", testFamilies}, {"guard", testGuard}, {"many", testMany},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			c.run(t, w, b)
		})
	}
}

// start makes a firewall that is taken away at the end of the test.
func start(t *testing.T, b Backend, cfg firewall.Config, networks []firewall.Network, ports []firewall.Port) firewall.Firewall {
	t.Helper()
	f := b.New(cfg)
	t.Cleanup(func() {
		if err := b.Remove(f); err != nil {
			t.Error(err)
		}
		f.Close()
	})
	if err := f.Reset(networks, ports); err != nil {
		t.Fatal(err)
	}
	return f
}

func (w *world) networks() []firewall.Network {
	one := firewall.Network{Bridge: "br1", Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")}, Masquerade: true}
	two := firewall.Network{Bridge: "br2", Subnets: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("fd00:2::/64")}, Masquerade: true}
	return []firewall.Network{one, two}
}

func port(host string, hostPort uint16, target string) firewall.Port {
	return firewall.Port{Proto: unix.IPPROTO_TCP, HostIP: netip.MustParseAddr(host), HostPort: hostPort, Target: netip.MustParseAddrPort(target)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testPublish(t *testing.T, w *world, b Backend) {
	ports := []firewall.Port{port("0.0.0.0", 8080, "10.1.0.2:80"), port("::", 8080, "[fd00:1::2]:80")}
	f := start(t, b, firewall.Config{}, w.networks(), ports)
	check := func() {
		t.Helper()
		w.reach("out", "192.0.2.1:8080", "c1")
		w.reach("out", "[2001:db8::1]:8080", "c1")
		w.reach("", "192.0.2.1:8080", "c1")
		w.reach("", "127.0.0.1:8080", "c1")
		w.reach("", "[2001:db8::1]:8080", "c1")
		w.reach("c1", "192.0.2.1:8080", "c1") // itself
		w.reach("c1b", "10.1.0.1:8080", "c1")
		w.reach("c2", "192.0.2.1:8080", "c1")
		w.closed("out", "10.1.0.2:80")
		w.closed("out", "192.0.2.1:81")
	}
	check()
	more := []firewall.Port{port("127.0.0.1", 9090, "10.2.0.2:80"), port("192.0.2.1", 8080, "10.2.0.2:80"), port("192.0.2.1", 9091, "10.2.0.2:80")}
	must(t, f.Publish(more))
	w.reach("out", "192.0.2.1:8080", "c2") // the single address goes before all of them
	w.reach("out", "192.0.2.1:9091", "c2")
	w.reach("", "127.0.0.1:9090", "c2")
	w.closed("out", "192.0.2.1:9090")
	w.loopbackFromOutside("127.0.0.1:9090")
	for range 2 {
		must(t, f.Unpublish(more))
	}
	w.closed("out", "192.0.2.1:9091")
	w.closed("", "127.0.0.1:9090")
	check()
	// What a dead daemon left is replaced.
	next := b.New(firewall.Config{})
	defer next.Close()
	must(t, next.Reset(w.networks(), ports[1:]))
	w.closed("out", "192.0.2.1:8080")
	w.reach("out", "[2001:db8::1]:8080", "c1")
}

func testNetworks(t *testing.T, w *world, b Backend) {
	nets := w.networks()
	f := start(t, b, firewall.Config{}, nets, nil)
	w.reach("c1", "192.0.2.9:80", "out 192.0.2.1")
	w.reach("c1", "[2001:db8::9]:80", "out 2001:db8::1")
	w.reach("c1", "10.1.0.3:80", "c1b")
	w.closed("c1", "10.2.0.2:80")
	w.closed("c2", "[fd00:1::2]:80")
	w.closed("out", "[fd00:1::2]:80")
	nets[0].Masquerade = false
	must(t, f.AddNetwork(nets[0]))
	w.reach("c1", "192.0.2.9:80", "out 10.1.0.2")
	nets[0].Masquerade, nets[0].Source4 = true, netip.MustParseAddr("192.0.2.77")
	must(t, f.AddNetwork(nets[0]))
	w.reach("c1", "192.0.2.9:80", "out 192.0.2.77")
	nets[0].Source4, nets[0].Internal = netip.Addr{}, true
	must(t, f.AddNetwork(nets[0]))
	w.closed("c1", "192.0.2.9:80")
	w.closed("out", "10.1.0.2:80")
	w.reach("c1", "10.1.0.3:80", "c1b")
	w.reach("", "10.1.0.2:80", "c1")
	for range 2 {
		must(t, f.RemoveNetwork("br2"))
	}
	w.reach("c2", "192.0.2.9:80", "out 10.2.0.2") // nobody's any more
}

func testModes(t *testing.T, w *world, b Backend) {
	nets := w.networks()
	nets[0].Mode4, nets[0].Mode6 = firewall.Routed, firewall.Routed
	opened := []firewall.Port{{Proto: unix.IPPROTO_TCP, HostIP: netip.IPv4Unspecified(), Target: netip.MustParseAddrPort("10.1.0.2:80")},
		{Proto: unix.IPPROTO_TCP, HostIP: netip.IPv6Unspecified(), Target: netip.MustParseAddrPort("[fd00:1::2]:80")}}
	f := start(t, b, firewall.Config{}, nets, opened)
	w.reach("out", "10.1.0.2:80", "c1")
	w.reach("out", "[fd00:1::2]:80", "c1")
	w.reach("c2", "10.1.0.2:80", "c1")
	w.closed("out", "10.1.0.2:81")
	w.closed("out", "10.1.0.3:80")
	w.reach("c1", "192.0.2.9:80", "out 10.1.0.2") // routed networks keep their addresses
	must(t, f.Unpublish(opened))
	w.closed("out", "10.1.0.2:80")
	nets[0].Mode4 = firewall.Unprotected
	must(t, f.AddNetwork(nets[0]))
	w.reach("out", "10.1.0.2:81", "c1")
	w.reach("c1", "192.0.2.9:80", "out 192.0.2.1")
}

func testDirect(t *testing.T, w *world, b Backend) {
	ports := []firewall.Port{port("0.0.0.0", 8080, "10.1.0.2:80"), port("127.0.0.1", 8081, "10.1.0.2:80")}
	f := start(t, b, firewall.Config{AllowDirect: true}, w.networks(), ports)
	w.reach("out", "10.1.0.2:80", "c1")
	w.closed("out", "10.1.0.2:81")
	must(t, f.Unpublish(ports[:1]))
	w.reach("out", "10.1.0.2:80", "c1") // the other leads there, too
	must(t, f.Unpublish(ports[1:]))
	w.closed("out", "10.1.0.2:80")
	must(t, b.Remove(f))

	nets := w.networks()
	nets[0].Trusted = []string{"wan"}
	f = start(t, b, firewall.Config{Mark: 1, Mask: 3}, nets, ports)
	w.reach("out", "10.1.0.2:80", "c1")
	w.closed("c2", "10.1.0.2:80")
	nets[0].Trusted = nil
	must(t, f.AddNetwork(nets[0]))
	w.closed("out", "10.1.0.2:80")
	w.sh("nft add table inet marks; nft 'add chain inet marks pre { type filter hook prerouting priority -150; }'; nft add rule inet marks pre tcp dport 81 meta mark set 5")
	defer w.sh("nft delete table inet marks")
	w.reach("out", "10.1.0.2:81", "c1")
	w.closed("out", "10.1.0.2:80")
}

func testLinks(t *testing.T, w *world, b Backend) {
	nets := w.networks()
	nets[0].Separate = true
	f := start(t, b, firewall.Config{}, nets, nil)
	w.separate(true)
	defer w.separate(false)
	w.closed("c1", "10.1.0.3:80")
	nets[0].Links = []firewall.Link{{From: netip.MustParseAddr("10.1.0.2"), Proto: unix.IPPROTO_TCP, To: netip.MustParseAddrPort("10.1.0.3:80")}}
	must(t, f.AddNetwork(nets[0]))
	w.reach("c1", "10.1.0.3:80", "c1b")
	w.closed("c1", "10.1.0.3:81")
	w.closed("c1b", "10.1.0.2:80")
	nets[0].Links = nil
	must(t, f.AddNetwork(nets[0]))
	w.closed("c1", "10.1.0.3:80")
}

func testHostRules(t *testing.T, w *world, b Backend) {
	f := start(t, b, firewall.Config{}, w.networks(), []firewall.Port{port("0.0.0.0", 8080, "10.1.0.2:80"), port("0.0.0.0", 8081, "10.1.0.2:80")})
	w.background(f)
	for _, drop := range []string{b.DropInput, b.DropHook} {
		w.reach("out", "192.0.2.1:8080", "c1")
		w.sh(fmt.Sprintf(drop, 8080))
		w.eventually("the host's rule holds for a published port", func() bool { return w.ask("out", "192.0.2.1:8080", time.Second/2) == "" })
		w.reach("out", "192.0.2.1:8081", "c1")
		w.reach("", "192.0.2.1:8081", "c1")
		w.sh(b.Undo)
		w.eventually("the host's rule is gone", func() bool { return w.ask("out", "192.0.2.1:8080", time.Second) == "c1" })
	}
}

func testRepair(t *testing.T, w *world, b Backend) {
	f := start(t, b, firewall.Config{}, w.networks(), []firewall.Port{port("0.0.0.0", 8080, "10.1.0.2:80")})
	w.background(f)
	for range 2 {
		w.sh(b.Flush)
		w.eventually("everything is back", func() bool { return w.ask("out", "192.0.2.1:8080", time.Second) == "c1" })
		w.eventually("containers are closed again", func() bool { return w.ask("out", "10.1.0.2:80", short) == "" })
	}
	must(t, f.Publish([]firewall.Port{port("0.0.0.0", 8082, "10.1.0.2:80")}))
	w.reach("out", "192.0.2.1:8082", "c1")
}

func testFamilies(t *testing.T, w *world, b Backend) {
	ports := []firewall.Port{port("0.0.0.0", 8080, "10.1.0.2:80"), port("::", 8080, "[fd00:1::2]:80")}
	start(t, b, firewall.Config{NoIPv6: true}, w.networks(), ports)
	w.reach("out", "192.0.2.1:8080", "c1")
	w.closed("out", "[2001:db8::1]:8080")
	w.reach("out", "[fd00:1::2]:80", "c1") // nobody keeps it closed
}

func testGuard(t *testing.T, w *world, b Backend) {
	nets := w.networks()
	f := start(t, b, firewall.Config{}, nets, nil)
	w.reach("out", "198.51.100.2:80", "far 192.0.2.9")
	nets[0].Guard4 = true
	must(t, f.AddNetwork(nets[0]))
	w.closed("out", "198.51.100.2:80")
	w.reach("c1", "192.0.2.9:80", "out 192.0.2.1")
	w.reach("", "198.51.100.2:80", "far 198.51.100.1")
}

func testMany(t *testing.T, w *world, b Backend) {
	f := start(t, b, firewall.Config{}, w.networks(), nil)
	var ports []firewall.Port
	for i := range uint16(1000) {
		ports = append(ports, port("0.0.0.0", 20000+i, "10.1.0.2:80"))
	}
	must(t, f.Publish(ports))
	w.reach("out", "192.0.2.1:20999", "c1")
	must(t, f.Unpublish(ports))
	w.closed("out", "192.0.2.1:20999")
}

// background runs the firewall's repairs until the test ends.
func (w *world) background(f firewall.Firewall) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}
