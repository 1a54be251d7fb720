package nftables

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/core/firewall"
)

// inOwnNamespace runs a test in a network namespace that ends with it. The thread is not given back.
func inOwnNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: nftables")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// ruleset is what nft shows; it runs in the thread's namespace.
func ruleset(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v %s", err, out)
	}
	return string(out)
}

func network(bridge, subnet string) firewall.Network {
	return firewall.Network{Bridge: bridge, Subnets: []netip.Prefix{netip.MustParsePrefix(subnet)}, Masquerade: true}
}

func tcp(host string, port uint16, target string) firewall.Port {
	return firewall.Port{Proto: unix.IPPROTO_TCP, HostIP: netip.MustParseAddr(host), HostPort: port, Target: netip.MustParseAddrPort(target)}
}

func wants(t *testing.T, rules string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		want := true
		if p[0] == '!' {
			p, want = p[1:], false
		}
		if strings.Contains(rules, p) != want {
			t.Errorf("%q: want %v in\n%s", p, want, rules)
		}
	}
}

func TestTransactions(t *testing.T) {
	inOwnNamespace(t)
	if out, err := exec.Command("nft", "add table ip strangers; add chain ip strangers c").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	f := New(firewall.Config{}, slog.New(slog.DiscardHandler))
	defer f.Close()
	if err := f.Reset([]firewall.Network{network("br0", "172.17.0.0/16")}, []firewall.Port{tcp("0.0.0.0", 8080, "172.17.0.2:80")}); err != nil {
		t.Fatal(err)
	}
	dual := network("br1", "172.18.0.0/16")
	dual.Subnets = append(dual.Subnets, netip.MustParsePrefix("fd00:1::/64"))
	inner := network("br2", "172.19.0.0/16")
	inner.Internal = true
	for _, n := range []firewall.Network{dual, inner, dual} {
		if err := f.AddNetwork(n); err != nil {
			t.Fatal(err)
		}
	}
	more := []firewall.Port{tcp("127.0.0.1", 8081, "172.17.0.3:80"), tcp("::", 8082, "[fd00:1::2]:80"), tcp("fd00:9::1", 8083, "[fd00:1::2]:80")}
	if err := f.Publish(more); err != nil {
		t.Fatal(err)
	}
	wants(t, ruleset(t), "table ip strangers", "tcp . 8080 : 172.17.0.2 . 80", "tcp . 127.0.0.1 . 8081 : 172.17.0.3 . 80", "tcp . 8082 : fd00:1::2 . 80",
		"tcp . fd00:9::1 . 8083 : fd00:1::2 . 80", "172.17.0.0/16, 172.18.0.0/16,", "172.19.0.0/16", "fd00:1::/64")
	for range 2 { // what is not there is no error
		if err := f.Unpublish(more); err != nil {
			t.Error(err)
		}
		if err := f.RemoveNetwork("br2"); err != nil {
			t.Error(err)
		}
	}
	wants(t, ruleset(t), "table ip strangers", "tcp . 8080", "!8081", "!8082", "!8083", "!172.19.0.0")

	// A dead daemon's elements go, ours stay ours alone.
	next := New(firewall.Config{}, slog.New(slog.DiscardHandler))
	defer next.Close()
	if err := next.Reset([]firewall.Network{network("br9", "10.0.0.0/8")}, nil); err != nil {
		t.Fatal(err)
	}
	wants(t, ruleset(t), "table ip strangers", "!8080", "!172.17.0.0", "10.0.0.0/8")

	// Somebody flushes everything: the next change installs all again.
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	if err := next.Publish([]firewall.Port{tcp("0.0.0.0", 90, "10.0.0.2:80")}); err != nil {
		t.Fatal(err)
	}
	wants(t, ruleset(t), "10.0.0.0/8", "tcp . 90")
	if err := next.Remove(); err != nil {
		t.Fatal(err)
	}
	wants(t, ruleset(t), "!table ip longshore ", "!table ip6 longshore ", "table inet longshore-user")
}

func TestManyPorts(t *testing.T) {
	inOwnNamespace(t)
	f := New(firewall.Config{}, slog.New(slog.DiscardHandler))
	defer f.Close()
	var ports []firewall.Port
	for i := range uint16(3000) {
		ports = append(ports, tcp("0.0.0.0", 10000+i, "172.17.0.2:80"))
	}
	if err := f.Reset(nil, ports); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(ruleset(t), ": 172.17.0.2 . 80"); n != len(ports) {
		t.Errorf("%d elements", n)
	}
	if err := f.Unpublish(ports); err != nil {
		t.Fatal(err)
	}
	wants(t, ruleset(t), "!172.17.0.2 . 80")
}

func TestRunRepairs(t *testing.T) {
	inOwnNamespace(t)
	f := New(firewall.Config{}, slog.New(slog.DiscardHandler))
	defer f.Close()
	if err := f.Reset([]firewall.Network{network("br0", "172.17.0.0/16")}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	w, err := watch() // here, where the thread is in the namespace
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.repairing(ctx, w) }()
	// Many times, and with little room: what comes while messages are dropped is repaired, too.
	if err := w.SetReadBuffer(30000); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		for _, damage := range []string{"flush ruleset", "delete table ip longshore", "flush set ip longshore subnets"} {
			if out, err := exec.Command("nft", damage).CombinedOutput(); err != nil {
				t.Fatal(damage, err, string(out))
			}
			for deadline := time.Now().Add(10 * time.Second); !strings.Contains(ruleset(t), "172.17.0.0/16"); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("round %d: not repaired after %s", i, damage)
				}
			}
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
