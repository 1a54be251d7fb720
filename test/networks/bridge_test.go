package networks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

func TestBridgeOptions(t *testing.T) {
	d := harness.Start(t, "--default-network-opt", "bridge=com.docker.network.driver.mtu=1420")
	d.Busybox()
	h := other(t, d)
	for _, to := range []string{"10.60.0.0/16"} {
		sh(t, "ip", "-n", h.ns, "route", "add", to, "via", here)
	}
	sh(t, "ip", "-n", h.ns, "route", "add", "2001:db8::/32", "via", here6)

	t.Run("routed", func(t *testing.T) {
		d.OK("network", "create", "--ipv6", "--subnet", "10.60.1.0/24", "--subnet", "2001:db8:1::/64",
			"-o", "com.docker.network.bridge.gateway_mode_ipv4=routed", "-o", "com.docker.network.bridge.gateway_mode_ipv6=routed", "net")
		web(d, "rt", "--network", "net", "--ip", "10.60.1.5", "--ip6", "2001:db8:1::5", "-p", "8080:80")
		d.OK("run", "-d", "--name", "shut", "--network", "net", "--ip", "10.60.1.6", "busybox", "httpd", "-f")
		for _, at := range []string{"10.60.1.5:80", "[2001:db8:1::5]:80"} {
			reaches(t, h.ns, at, "rt")
		}
		if _, err := h.run("busybox", "ping", "-c1", "-W5", "10.60.1.6"); err != nil {
			t.Error("routed containers answer no ping")
		}
		if got, _ := h.run("curl", "-s", "-m1", "http://10.60.1.6/"); got != "" {
			t.Error("a port that is not published is open")
		}
		closed(t, h.ns, here+":8080")
		if ports := inspect(d, "rt", `{{json (index .NetworkSettings.Ports "80/tcp")}}`); !strings.Contains(ports, `"HostPort":""`) {
			t.Errorf("ports %s", ports)
		}
		d.Kill()
		d.Up()
		reaches(t, h.ns, "10.60.1.5:80", "rt")
		d.OK("rm", "-f", "rt", "shut")
		closed(t, h.ns, "10.60.1.5:80")
		d.OK("network", "rm", "net")
	})
	t.Run("nat-unprotected", func(t *testing.T) {
		d.OK("network", "create", "--subnet", "10.60.2.0/24", "-o", "com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected", "net")
		web(d, "open", "--network", "net", "--ip", "10.60.2.5", "-p", "8080:80")
		reaches(t, h.ns, "10.60.2.5:80", "open")
		reaches(t, h.ns, here+":8080", "open")
		d.OK("rm", "-f", "open")
		d.OK("network", "rm", "net")
	})
	t.Run("isolated", func(t *testing.T) {
		mode := "com.docker.network.bridge.gateway_mode_ipv4=isolated"
		d.Fails("gateway mode 'isolated' can only be used for an internal network", "network", "create", "-o", mode, "x")
		d.OK("network", "create", "--internal", "--ipv6", "-o", mode, "-o", strings.Replace(mode, "ipv4", "ipv6", 1), "-o", "com.docker.network.bridge.name=iso0", "--subnet", "10.60.3.0/24", "net")
		web(d, "in1", "--network", "net")
		if out := d.OK("run", "--rm", "--network", "net", "busybox", "wget", "-qO-", "http://in1/i"); out != "in1" {
			t.Errorf("in1 says %q", out)
		}
		if out := d.InNet("ip", "-4", "-o", "addr", "show", "iso0").Out; out != "" {
			t.Errorf("an isolated bridge has an address: %s", out)
		}
		d.OK("rm", "-f", "in1")
		d.OK("network", "rm", "net")
	})
	t.Run("trusted interfaces", func(t *testing.T) {
		d.OK("network", "create", "--subnet", "10.60.4.0/24", "-o", "com.docker.network.bridge.trusted_host_interfaces=wan0:other0", "net")
		web(d, "tr", "--network", "net", "--ip", "10.60.4.5", "-p", "127.0.0.1:8080:80")
		reaches(t, h.ns, "10.60.4.5:80", "tr")
		d.OK("rm", "-f", "tr")
		d.OK("network", "rm", "net")
	})
	t.Run("names, MTU, masquerading, binding", func(t *testing.T) {
		d.OK("network", "create", "--subnet", "10.60.5.0/24", "-o", "com.docker.network.bridge.name=mine0", "-o", "com.docker.network.bridge.enable_ip_masquerade=false",
			"-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "-o", "com.docker.network.container_iface_prefix=net", "net")
		sh(t, "ip", "-n", d.NetNS, "addr", "add", "192.0.2.7/24", "dev", "wan0")
		d.OK("network", "create", "--subnet", "10.60.6.0/24", "-o", "com.docker.network.host_ipv4=192.0.2.7", "-o", "com.docker.network.bridge.inhibit_ipv4=true", "-o", "com.docker.network.driver.mtu=1300", "bare")
		web(d, "op", "--network", "net", "--ip", "10.60.5.5", "-p", "8080:80")
		closed(t, h.ns, here+":8080")
		reaches(t, d.NetNS, "127.0.0.1:8080", "op")
		if out := d.OK("exec", "op", "ip", "-o", "link"); !strings.Contains(out, "net0") || !strings.Contains(out, "mtu 1420") {
			t.Errorf("links: %s", out)
		}
		if out := d.InNet("ip", "-o", "addr", "show", "mine0").Out; !strings.Contains(out, "10.60.5.1/24") {
			t.Errorf("bridge: %s", out)
		}
		d.OK("run", "-d", "--name", "in", "--network", "bare", "busybox", "sleep", "1000")
		if out := d.OK("exec", "in", "ip", "-o", "link"); !strings.Contains(out, "mtu 1300") {
			t.Errorf("links: %s", out)
		}
		if out := d.InNet("ip", "-4", "-o", "addr").Out; strings.Contains(out, "10.60.6.1") {
			t.Errorf("the bridge has an address: %s", out)
		}
		d.OK("run", "-d", "--name", "std", "busybox", "sleep", "1000")
		for name, want := range map[string]string{"op": "10.60.5.5", "std": here} {
			if got := h.seenAs(t, name); got != want {
				t.Errorf("others see %s as %s, want %s", name, got, want)
			}
		}
		// Without an address the bridge is nobody's gateway: the test is its router.
		sh(t, "ip", "-n", d.NetNS, "addr", "add", "10.60.6.1/24", "dev", bridgeOf(d, "bare"))
		if got := h.seenAs(t, "in"); got != "192.0.2.7" {
			t.Errorf("host_ipv4: others see %s", got)
		}
		d.OK("rm", "-f", "op", "in", "std")
		d.OK("network", "rm", "net", "bare")
	})
	t.Run("refused", func(t *testing.T) {
		for words, opt := range map[string]string{
			"failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: x (unknown gateway mode x)": "com.docker.network.bridge.gateway_mode_ipv4=x",
			"failed to parse com.docker.network.bridge.enable_icc value: x":                                 "com.docker.network.bridge.enable_icc=x",
			"failed to parse com.docker.network.bridge.host_binding_ipv4 value: x (nil ip)":                 "com.docker.network.bridge.host_binding_ipv4=x",
			"failed to parse com.docker.network.driver.mtu value: x":                                        "com.docker.network.driver.mtu=x",
		} {
			d.Fails(words, "network", "create", "-o", opt, "x")
		}
		d.Fails("bridge driver doesn't support multiple subnets", "network", "create", "--subnet", "10.1.0.0/24", "--subnet", "10.2.0.0/24", "x")
	})
}

// bridgeOf is the interface of a network that names none.
func bridgeOf(d *harness.Daemon, network string) string {
	d.T.Helper()
	return "br-" + d.OK("network", "inspect", "-f", "{{slice .Id 0 12}}", network)
}

func TestEndpoints(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	d.OK("network", "create", "--subnet", "10.61.0.0/24", "na")
	d.OK("network", "create", "--subnet", "10.62.0.0/24", "nb")
	d.OK("network", "create", "--internal", "--attachable", "nc")

	t.Run("interface name and sysctls", func(t *testing.T) {
		d.OK("run", "-d", "--name", "ep", "--network", "name=na,driver-opt=com.docker.network.endpoint.ifname=wan0,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1", "busybox", "sleep", "1000")
		if out := d.OK("exec", "ep", "cat", "/proc/sys/net/ipv4/conf/wan0/log_martians"); out != "1" {
			t.Errorf("log_martians is %s", out)
		}
		d.OK("network", "connect", "--driver-opt", "com.docker.network.endpoint.ifname=lan0", "nb", "ep")
		if out := d.OK("exec", "ep", "ip", "-4", "-o", "addr"); !strings.Contains(out, "lan0") || !strings.Contains(out, "wan0") {
			t.Errorf("addresses: %s", out)
		}
		d.Fails("represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V'", "network", "connect", "--driver-opt", "com.docker.network.endpoint.sysctls=net.ipv4.conf.eth0.log_martians=1", "nc", "ep")
		d.OK("network", "disconnect", "nb", "ep")
		if out := d.OK("exec", "ep", "ip", "-o", "link"); strings.Contains(out, "lan0") {
			t.Errorf("the interface stays: %s", out)
		}
		d.OK("rm", "-f", "ep")
	})
	t.Run("gateway priority", func(t *testing.T) {
		d.OK("create", "--name", "gp", "--network", "name=na", "busybox", "sleep", "1000")
		d.OK("network", "connect", "--gw-priority", "5", "nb", "gp")
		d.OK("network", "connect", "--gw-priority", "9", "nc", "gp")
		d.OK("start", "gp")
		route := func(want string) {
			t.Helper()
			if out := d.OK("exec", "gp", "ip", "route"); !strings.Contains(out, "default via "+want) {
				t.Errorf("want %s in\n%s", want, out)
			}
		}
		route("10.62.0.1") // an internal network leads nowhere, whatever its priority
		d.Kill()
		d.Up()
		d.OK("network", "disconnect", "nb", "gp")
		route("10.61.0.1")
		d.OK("network", "connect", "--gw-priority", "1", "nb", "gp")
		route("10.62.0.1")
		d.OK("rm", "-f", "gp")
	})
	t.Run("configurations", func(t *testing.T) {
		d.OK("network", "create", "--config-only", "--subnet", "10.63.0.0/24", "-o", "com.docker.network.bridge.name=conf0", "--label", "of=conf", "conf")
		d.OK("network", "create", "--config-from", "conf", "made")
		if out := d.OK("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}} {{.Driver}} {{.Labels.of}} {{.ConfigFrom.Network}}", "made"); out != "10.63.0.0/24 bridge conf conf" {
			t.Errorf("made: %s", out)
		}
		if out := d.InNet("ip", "-o", "addr", "show", "conf0").Out; !strings.Contains(out, "10.63.0.1") {
			t.Errorf("bridge: %s", out)
		}
		d.Fails("cannot create endpoint on configuration-only network", "run", "--rm", "--network", "conf", "busybox", "true")
		d.Fails(`configuration network "conf" is in use`, "network", "rm", "conf")
		d.Fails("user specified configurations are not supported if the network depends on a configuration network", "network", "create", "--config-from", "conf", "--subnet", "10.64.0.0/24", "x")
		d.OK("network", "rm", "made")
		d.OK("network", "rm", "conf")
	})
	t.Run("attachable", func(t *testing.T) {
		if out := d.OK("network", "inspect", "-f", "{{.Attachable}} {{.Internal}}", "nc"); out != "true true" {
			t.Error(out)
		}
	})
}

func TestICC(t *testing.T) {
	d := harness.Start(t, "--icc=false")
	d.Busybox()
	h := other(t, d)
	web(d, "db", "--expose", "80")
	d.OK("run", "-d", "--name", "app", "--link", "db:database", "busybox", "sleep", "1000")
	d.OK("run", "-d", "--name", "stranger", "busybox", "sleep", "1000")
	at := address(d, "db", "bridge")
	linked := func() {
		t.Helper()
		if out := d.OK("exec", "app", "wget", "-qO-", "http://database/i"); out != "db" {
			t.Errorf("the linked container says %q", out)
		}
		if r := d.Docker("exec", "stranger", "timeout", "1", "wget", "-qO-", "http://"+at+"/i"); r.Code == 0 {
			t.Error("containers meet although they must not")
		}
		if r := d.Docker("exec", "app", "timeout", "1", "ping", "-c1", at); r.Code == 0 {
			t.Error("more than the exposed port is open")
		}
	}
	linked()
	d.Kill()
	d.Up()
	linked()
	web(d, "pub", "-p", "8080:80")
	reaches(t, h.ns, here+":8080", "pub")
	if out := d.OK("exec", "stranger", "timeout", "10", "wget", "-qO-", "http://"+here+":8080/i"); out != "pub" {
		t.Errorf("published: %q", out)
	}
	// A linked container that comes back with another address is reached again.
	d.OK("stop", "-t0", "db")
	d.OK("run", "-d", "--name", "taker", "busybox", "sleep", "1000")
	d.OK("start", "db")
	d.OK("restart", "-t0", "app")
	at = address(d, "db", "bridge")
	linked()
	d.OK("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart")
	web(d, "one", "--network", "apart")
	if r := d.Docker("run", "--rm", "--network", "apart", "busybox", "sh", "-c", "timeout 1 wget -qO- http://one/i || exit 1"); r.Code == 0 {
		t.Error("containers of a user-defined network meet although they must not")
	}
}

func TestDirectRouting(t *testing.T) {
	d := harness.Start(t, "--allow-direct-routing", "--bridge-accept-fwmark=0x1/0x1", "--ip", "127.0.0.1", "--ip-masq=false")
	d.Busybox()
	h := other(t, d)
	sh(t, "ip", "-n", h.ns, "route", "add", "172.17.0.0/16", "via", here)
	web(d, "dr", "-p", "8080:80")
	web(d, "shut")
	reaches(t, h.ns, address(d, "dr", "bridge")+":80", "dr")
	closed(t, h.ns, here+":8080")
	closed(t, h.ns, address(d, "shut", "bridge")+":80")
	needNFTables(t, d)
	d.InNet("nft", "add table inet marks; add chain inet marks pre { type filter hook prerouting priority -150; }; add rule inet marks pre iifname wan0 meta mark set 3")
	reaches(t, h.ns, address(d, "shut", "bridge")+":80", "shut")
	if got, want := h.seenAs(t, "dr"), address(d, "dr", "bridge"); got != want {
		t.Errorf("without masquerading others see %s, want %s", got, want)
	}
}

func TestForwardingIsGuarded(t *testing.T) {
	for _, drop := range []bool{true, false} {
		var args []string
		if !drop {
			args = append(args, "--ip-forward-no-drop")
		}
		d := harness.New(t, args...)
		d.InNet("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
		d.Up()
		h := other(t, d)
		far := &host{d, d.NetNS + "-f"}
		sh(t, "ip", "netns", "add", far.ns)
		t.Cleanup(func() { sh(t, "ip", "netns", "del", far.ns) })
		for _, args := range []string{
			"-n " + d.NetNS + " link add lan0 type veth peer name lan1 netns " + far.ns, "-n " + d.NetNS + " addr add 198.51.100.1/24 dev lan0",
			"-n " + far.ns + " addr add 198.51.100.2/24 dev lan1", "-n " + d.NetNS + " link set lan0 up", "-n " + far.ns + " link set lan1 up",
			"-n " + far.ns + " route add default via 198.51.100.1", "-n " + h.ns + " route add default via " + here,
		} {
			sh(t, "ip", strings.Fields(args)...)
		}
		forwards := func() bool {
			_, err := h.run("busybox", "ping", "-c1", "-W1", "198.51.100.2")
			return err == nil
		}
		for _, when := range []string{"at first", "after a restart"} {
			switch {
			case !drop:
				harness.Eventually(t, limit, "the host forwards for others "+when, forwards)
			case forwards():
				t.Error("the host forwards for others", when)
			}
			d.Stop()
			d.Up()
		}
	}
}

func TestConfigurationFile(t *testing.T) {
	d := harness.New(t)
	needNFTables(t, d)
	file := `{"ipv6": true, "fixed-cidr-v6": "2001:db8:9::/64", "default-network-opts": {"bridge": {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}},
"allow-direct-routing": false, "ip6tables": true, "userland-proxy": true, "bip": "10.44.0.1/16", "firewall-backend": "nftables"}`
	if err := os.WriteFile(filepath.Join(d.Dir, "daemon.json"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Up()
	got := d.OK("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}{{.EnableIPv6}}", "bridge")
	if got != "10.44.0.0/16 2001:db8:9::/64 true" {
		t.Error(got)
	}
	d.OK("network", "create", "net")
	if got := d.OK("network", "inspect", "-f", `{{index .Options "com.docker.network.bridge.host_binding_ipv4"}}`, "net"); got != "127.0.0.1" {
		t.Error(got)
	}
}
