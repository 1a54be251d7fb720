package networks

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"longshore/test/harness"
)

func TestIPv6(t *testing.T) {
	d := harness.Start(t, "--default-address-pool", "base=10.200.0.0/16,size=24", "--default-address-pool", "base=2001:db8:1::/56,size=64")
	d.Busybox()
	h := other(t, d)
	sh(t, "ip", "-n", h.ns, "route", "add", "2001:db8::/32", "via", here6)

	t.Run("pools", func(t *testing.T) {
		for i, want := range []string{"2001:db8:1::/64", "2001:db8:1:1::/64"} {
			name := "p" + string(rune('a'+i))
			d.OK("network", "create", "--ipv6", name)
			if got := d.OK("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", name); !strings.Contains(got, want) || !strings.Contains(got, "10.200.") {
				t.Errorf("%s: %s", name, got)
			}
		}
		d.OK("network", "rm", "pa", "pb")
	})
	t.Run("fixed", func(t *testing.T) {
		d.OK("network", "create", "--ipv6", "--subnet", "2001:db8:7::/64", "--gateway", "2001:db8:7::99", "app")
		web(d, "aa", "--network", "app", "--ip6", "2001:db8:7::a", "-p", "8080:80", "-p", "[::1]:8081:80", "-p", "["+here6+"]:8082:80", "-p", "127.0.0.1:8083:80")
		web(d, "bb", "--network", "app")
		if got := address6(d, "aa", "app"); got != "2001:db8:7::a" {
			t.Errorf("address %s", got)
		}
		if out := d.OK("exec", "bb", "nslookup", "-type=aaaa", "aa"); !strings.Contains(out, "2001:db8:7::a") {
			t.Errorf("AAAA: %s", out)
		}
		if out := d.OK("exec", "bb", "ping", "-6", "-c1", "-W5", "aa"); !strings.Contains(out, "2001:db8:7::a") {
			t.Errorf("ping: %s", out)
		}
		if out := d.OK("exec", "aa", "ip", "-6", "route"); !strings.Contains(out, "default via 2001:db8:7::99") {
			t.Errorf("routes: %s", out)
		}
		check := func() {
			t.Helper()
			for _, at := range []string{here + ":8080", "[" + here6 + "]:8080", "[" + here6 + "]:8082"} {
				reaches(t, h.ns, at, "aa")
			}
			for _, at := range []string{"127.0.0.1:8080", "[::1]:8080", "[::1]:8081", "[" + here6 + "]:8080", "[" + here6 + "]:8082", "127.0.0.1:8083"} {
				reaches(t, d.NetNS, at, "aa")
			}
			for _, at := range []string{here + ":8082", "[" + here6 + "]:8081", here + ":8083", "[2001:db8:7::a]:80", address(d, "aa", "app") + ":80"} {
				closed(t, h.ns, at)
			}
		}
		check()
		d.Kill()
		reaches(t, h.ns, "["+here6+"]:8080", "aa")
		reaches(t, d.NetNS, "[::1]:8080", "aa")
		d.Up()
		check()
		if out := d.OK("port", "aa", "80"); !strings.Contains(out, "[::]:8080") || !strings.Contains(out, "0.0.0.0:8080") {
			t.Errorf("docker port: %s", out)
		}
		d.OK("rm", "-f", "aa", "bb")
		closed(t, d.NetNS, "[::1]:8080")
	})
	t.Run("IPv4 containers on [::]", func(t *testing.T) {
		web(d, "cc", "-p", "8090:80", "-p", "8091:80/udp")
		for _, at := range []string{"[" + here6 + "]:8090", here + ":8090"} {
			reaches(t, h.ns, at, "cc")
		}
		reaches(t, d.NetNS, "[::1]:8090", "cc")
		d.Fails("Address already in use", "run", "--rm", "--network", "host", "busybox", "nc", "-l", "-p", "8090")
		pid := d.Resolver()
		if pid == 0 {
			t.Fatal("nobody carries the port")
		}
		proc, err := os.FindProcess(pid)
		if err == nil {
			err = proc.Kill()
		}
		if err != nil {
			t.Fatal(err)
		}
		reaches(t, d.NetNS, "[::1]:8090", "cc")
		d.OK("rm", "-f", "cc")
	})
	t.Run("IPv6 only", func(t *testing.T) {
		d.OK("network", "create", "--ipv6", "--ipv4=false", "six")
		web(d, "dd", "--network", "six", "-p", "8095:80")
		if address(d, "dd", "six") != "" && address(d, "dd", "six") != "invalid IP" || address6(d, "dd", "six") == "" {
			t.Errorf("addresses %q and %q", address(d, "dd", "six"), address6(d, "dd", "six"))
		}
		reaches(t, h.ns, "["+here6+"]:8095", "dd")
		closed(t, h.ns, here+":8095")
		d.OK("rm", "-f", "dd")
		d.Fails("IPv4 or IPv6 must be enabled", "network", "create", "--ipv4=false", "none6")
		d.Fails("clashes with the Link-Local prefix", "network", "create", "--ipv6", "--subnet", "fe80::/80", "ll")
		d.Fails("multicast subnet", "network", "create", "--ipv6", "--subnet", "ff00::/64", "mc")
	})
}

func TestIPv6Default(t *testing.T) {
	d := harness.Start(t, "--ipv6", "--fixed-cidr-v6", "2001:db8:5::/64", "--default-gateway", "172.17.0.9", "--default-gateway-v6", "2001:db8:5::9")
	d.Busybox()
	d.OK("run", "-d", "--name", "aa", "busybox", "sleep", "1000")
	if got := address6(d, "aa", "bridge"); !strings.HasPrefix(got, "2001:db8:5::") {
		t.Errorf("address %q", got)
	}
	routes := d.OK("exec", "aa", "ip", "route") + d.OK("exec", "aa", "ip", "-6", "route")
	for _, want := range []string{"default via 172.17.0.9", "default via 2001:db8:5::9"} {
		if !strings.Contains(routes, want) {
			t.Errorf("%q is missing in\n%s", want, routes)
		}
	}
	// Networks that ask for no subnet get one that is unique to this engine, the same after a restart.
	d.OK("network", "create", "--ipv6", "ula")
	subnet := func() string {
		return d.OK("network", "inspect", "-f", "{{(index .IPAM.Config 1).Subnet}}", "ula")
	}
	before := subnet()
	if p, err := netip.ParsePrefix(before); err != nil || p.Bits() != 64 || !p.Addr().IsPrivate() {
		t.Errorf("subnet %s", before)
	}
	d.Stop()
	d.Up()
	d.OK("network", "create", "--ipv6", "ula2")
	if after := subnet(); after != before {
		t.Errorf("subnet %s, then %s", before, after)
	}
	second := d.OK("network", "inspect", "-f", "{{(index .IPAM.Config 1).Subnet}}", "ula2")
	if second[:14] != before[:14] || second == before {
		t.Errorf("subnets %s and %s are not of one prefix", before, second)
	}
}

func TestUserlandProxyOff(t *testing.T) {
	d := harness.Start(t, "--userland-proxy=false")
	d.Busybox()
	h := other(t, d)
	web(d, "aa", "-p", "8080:80")
	reaches(t, h.ns, here+":8080", "aa")
	reaches(t, d.NetNS, "127.0.0.1:8080", "aa") // the kernel does that
	if out := d.OK("exec", "aa", "wget", "-qO-", "http://"+here+":8080/i"); out != "aa" {
		t.Errorf("hairpin: %q", out)
	}
	closed(t, h.ns, "["+here6+"]:8080")
	if out := d.OK("port", "aa"); strings.Contains(out, "[::]") {
		t.Errorf("docker port: %s", out)
	}
	on := harness.Start(t) // the same with the proxy, from the container itself and from another network
	on.Busybox()
	other(t, on)
	web(on, "bb", "-p", "8080:80")
	on.OK("network", "create", "apart")
	on.OK("run", "-d", "--name", "cc", "--network", "apart", "busybox", "sleep", "1000")
	for _, from := range []string{"bb", "cc"} {
		if out := on.OK("exec", from, "wget", "-qO-", "http://"+here+":8080/i"); out != "bb" {
			t.Errorf("with the proxy, from %s: %q", from, out)
		}
	}
	if d.Resolver() != 0 {
		t.Error("a proxy runs")
	}
}
