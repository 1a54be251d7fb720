package networks

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore/test/harness"
)

// dropped waits until another host's connections do not get through any more.
func dropped(t testing.TB, h *host, address string) {
	t.Helper()
	harness.Eventually(t, limit, address+" is dropped", func() bool { return fetch(h.ns, address, true) == "" })
}

// check is what `longshore check port` says on the daemon's host.
func check(d *harness.Daemon, port string) string {
	r := d.InNet(harness.Bin("longshore"), "check", "port", port, "-H", "unix://"+d.Socket)
	return r.Out + r.Err
}

func TestFirewallIsHonest(t *testing.T) {
	d := harness.Start(t)
	needNFTables(t, d)
	d.Busybox()
	h := other(t, d)
	web(d, "fw", "-p", "8080:80", "-p", "8081:80")
	published := func() { t.Helper(); reaches(t, h.ns, here+":8080", "fw"); reaches(t, h.ns, "["+here6+"]:8080", "fw") }
	nft := func(command string) {
		t.Helper()
		if r := d.InNet("nft", command); r.Code != 0 {
			t.Fatal(command, r.Err)
		}
	}
	published()
	if out := check(d, "8080"); !strings.Contains(out, "container fw at every address of the host → 172.17.0.2:80") || !strings.Contains(out, "other hosts can connect") {
		t.Errorf("check port: %s", out)
	}
	t.Run("the host's input rules", func(t *testing.T) {
		nft("add table inet host; add chain inet host in { type filter hook input priority 0; policy accept; }; add set inet host bad { type inet_service; elements = { 8080 }; }; add rule inet host in tcp dport @bad reject")
		dropped(t, h, here+":8080")
		dropped(t, h, "["+here6+"]:8080")
		reaches(t, h.ns, here+":8081", "fw")
		reaches(t, d.NetNS, "127.0.0.1:8080", "fw")
		nft("delete element inet host bad { 8080 }")
		published()
		nft("add rule inet host in tcp dport 8080 drop")
		dropped(t, h, here+":8080")
		if out := check(d, "8080"); !strings.Contains(out, "other hosts cannot, or not all: inet host chain in: tcp dport 8080 drop") {
			t.Errorf("check port: %s", out)
		}
		d.Stop()
		d.Up()
		dropped(t, h, here+":8080")
		nft("delete table inet host")
		published()
		// What the host drops altogether is not what somebody published by name.
		nft("add table inet host; add chain inet host in { type filter hook input priority 0; policy drop; }; add rule inet host in iifname wan0 tcp dport 22 accept; add rule inet host in drop")
		reaches(t, h.ns, here+":8080", "fw")
		nft("delete table inet host")
	})
	t.Run("iptables' INPUT", func(t *testing.T) {
		need(t, "iptables-nft")
		if r := d.InNet("iptables-nft", "-A", "INPUT", "-p", "tcp", "-m", "multiport", "--dports", "22,8080", "-j", "REJECT"); r.Code != 0 {
			t.Fatal(r.Err)
		}
		dropped(t, h, here+":8080")
		reaches(t, h.ns, here+":8081", "fw")
		d.InNet("iptables-nft", "-F", "INPUT")
		published()
	})
	t.Run("the administrator's hook", func(t *testing.T) {
		nft("add rule inet longshore-user prerouting tcp dport 8080 drop")
		dropped(t, h, here+":8080")
		d.Kill()
		d.Up()
		dropped(t, h, here+":8080") // the engine leaves it alone
		nft("flush chain inet longshore-user prerouting")
		published()
		nft("add rule inet longshore-user forward meta l4proto tcp ct original proto-dst 8080 drop")
		dropped(t, h, here+":8080")
		nft("flush chain inet longshore-user forward")
		published()
	})
	t.Run("flushed", func(t *testing.T) {
		var best time.Duration
		for _, damage := range []string{"flush ruleset", "delete table ip longshore", "flush chain ip longshore forward", "flush chain ip longshore publish", "flush map ip longshore published", "delete chain inet longshore-user forward"} {
			nft(damage)
			began := time.Now()
			harness.Eventually(t, limit, "healed after "+damage, func() bool {
				r := d.InNet("nft", "list", "ruleset")
				return strings.Contains(r.Out, "dnat ip") && strings.Contains(r.Out, "tcp . 8080 : 172.17.0.2 . 80") &&
					strings.Contains(r.Out, "ct state established,related accept") && strings.Count(r.Out, "type filter hook forward priority filter - 10") == 1
			})
			took := time.Since(began)
			t.Logf("healed %v after %s", took.Round(time.Millisecond), damage)
			if best == 0 || took < best {
				best = took
			}
			published()
		}
		// One of six: the others may have waited for a busy machine.
		if best > time.Second {
			t.Errorf("nothing was healed within a second: %v", best)
		}
	})
	t.Run("firewalld", func(t *testing.T) { // what its reload does to nftables: its own table goes and comes
		for range 3 {
			nft("add table inet firewalld; delete table inet firewalld; add table inet firewalld; add chain inet firewalld filter_INPUT { type filter hook input priority 10; policy accept; }; add chain inet firewalld filter_IN_public; add rule inet firewalld filter_INPUT ct state established,related accept; add rule inet firewalld filter_INPUT iifname wan0 goto filter_IN_public; add rule inet firewalld filter_IN_public tcp dport 22 accept; add rule inet firewalld filter_IN_public reject")
			reaches(t, h.ns, here+":8080", "fw")
		}
		nft("add rule inet firewalld filter_IN_public tcp dport 1 accept; insert rule inet firewalld filter_IN_public tcp dport 8000-8080 reject")
		dropped(t, h, here+":8080")
		nft("delete table inet firewalld")
		published()
	})
	d.OK("rm", "-f", "fw")
	if out := check(d, "8080"); !strings.Contains(out, "nobody can connect") {
		t.Errorf("check port: %s", out)
	}
	if out := check(d, "http"); !strings.Contains(out, `invalid port "http"`) {
		t.Errorf("check port: %s", out)
	}
}

// TestIPTables: with nf_tables behind iptables, and with the old tables of the kernel.
func TestIPTables(t *testing.T) {
	need(t, "iptables-restore")
	for _, variant := range []string{"nft", "legacy"} {
		t.Run(variant, func(t *testing.T) {
			need(t, "iptables-"+variant)
			testIPTables(t, variant)
		})
	}
}

func testIPTables(t *testing.T, variant string) {
	d := harness.New(t, "--firewall-backend=iptables")
	if r := d.InNet("iptables-"+variant, "-L", "-n"); r.Code != 0 {
		t.Skip("the kernel has no such tables: ", r.Err)
	}
	// The host's iptables are those that the programs of that name are.
	bin := t.TempDir()
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		family, what, _ := strings.Cut(name, "-")
		if what != "" {
			what = "-" + what
		}
		path, err := exec.LookPath(family + "-" + variant + what)
		if err == nil {
			err = os.Symlink(path, filepath.Join(bin, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	d.Up()
	d.Busybox()
	h := other(t, d)
	if out := d.OK("info", "-f", "{{.FirewallBackend.Driver}}"); out != "iptables" {
		t.Errorf("info: %s", out)
	}
	d.OK("network", "create", "--ipv6", "app")
	web(d, "it", "--network", "app", "-p", "8080:80")
	web(d, "co", "--network", "app")
	all := func() {
		t.Helper()
		for _, at := range []string{here + ":8080", "[" + here6 + "]:8080"} {
			reaches(t, h.ns, at, "it")
		}
		reaches(t, d.NetNS, "127.0.0.1:8080", "it")
		reaches(t, d.NetNS, "[::1]:8080", "it")
		if out := d.OK("exec", "it", "wget", "-qO-", "http://co/i"); out != "co" {
			t.Errorf("co says %q", out)
		}
	}
	all()
	closed(t, h.ns, address(d, "co", "app")+":80")
	d.Kill()
	reaches(t, h.ns, here+":8080", "it")
	d.Up()
	all()
	d.InNet("sh", "-c", "for t in nat filter mangle raw; do iptables-"+variant+" -t $t -F; iptables-"+variant+" -t $t -X; done")
	all()
	d.InNet("iptables-"+variant, "-I", "INPUT", "-p", "tcp", "--dport", "8080", "-j", "DROP")
	dropped(t, h, here+":8080")
	if out := check(d, "8080"); !strings.Contains(out, "container it at every address") || !strings.Contains(out, "other hosts cannot, or not all") {
		t.Errorf("check port: %s", out)
	}
	d.InNet("iptables-"+variant, "-F", "INPUT")
	all()
	d.InNet("iptables-"+variant, "-I", "DOCKER-USER", "-p", "tcp", "-m", "conntrack", "--ctorigdstport", "8080", "-j", "DROP")
	dropped(t, h, here+":8080")
	d.InNet("iptables-"+variant, "-F", "DOCKER-USER")
	if !hasNFTables(d) {
		return
	}
	// Back to nftables: nothing of the other backend stays, and ports go on.
	d.Stop()
	d.Args = nil
	d.Up()
	if out := d.InNet("iptables-" + variant + "-save").Out; strings.Contains(out, "LONGSHORE") {
		t.Errorf("chains stay:\n%s", out)
	}
	all()
	d.OK("rm", "-f", "it", "co")
	closed(t, h.ns, here+":8080")
}

func TestNoFirewall(t *testing.T) {
	d := harness.Start(t, "--iptables=false", "--ip6tables=false")
	d.Busybox()
	h := other(t, d)
	web(d, "nf", "-p", "8080:80")
	reaches(t, h.ns, here+":8080", "nf") // by the proxy
	if out := d.InNet("nft", "list", "ruleset").Out; strings.Contains(out, "longshore") {
		t.Errorf("rules:\n%s", out)
	}
	d.Kill()
	reaches(t, h.ns, here+":8080", "nf")
	d.Up()
	reaches(t, h.ns, here+":8080", "nf")
	for words, flag := range map[string]string{
		`invalid firewall-backend "x"`: "--firewall-backend=x", "invalid bridge-accept-fwmark": "--bridge-accept-fwmark=x", "invalid fixed-cidr-v6": "--fixed-cidr-v6=fe80::/80",
		"invalid default network options": "--default-network-opt=bridge",
	} {
		out, err := exec.Command(harness.Bin("longshore"), "engine", "--validate", flag).CombinedOutput()
		if err == nil || !strings.Contains(string(out), words) {
			t.Errorf("%s: %v %s", flag, err, out)
		}
	}
}

func TestMany(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	d.OK("network", "create", "--subnet", "10.90.0.0/16", "big")
	web(d, "srv", "--network", "big", "-p", "9000-9199:9000-9199", "-p", "9500-9510:80")
	// A bridge has 1,023 ports: LONGSHORE_THOUSAND=1 fills one.
	count := 16
	if _, all := os.LookupEnv("LONGSHORE_THOUSAND"); all {
		count = 1000
	}
	start := func(i int) time.Duration {
		begin := time.Now()
		d.OK("run", "-d", "--name", fmt.Sprintf("many%d", i), "--network", "big", "--network-alias", "many", "busybox", "sleep", "100000")
		return time.Since(begin)
	}
	first := start(0)
	next := make(chan int)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for i := range next {
				start(i)
			}
		})
	}
	for i := 1; i < count-1; i++ {
		next <- i
	}
	close(next)
	workers.Wait()
	t.Logf("the first start took %v, the last of %d %v", first, count, start(count-1))
	all := func() {
		t.Helper()
		seen := map[string]bool{}
		for _, line := range strings.Fields(d.OK("network", "inspect", "-f", "{{range .Containers}}{{.IPv4Address}} {{end}}", "big")) {
			seen[line] = true
		}
		if len(seen) != count+1 {
			t.Errorf("%d addresses of %d containers", len(seen), count+1)
		}
		for _, name := range []string{"many0", fmt.Sprintf("many%d", count/2), fmt.Sprintf("many%d", count-1)} {
			if out := d.OK("exec", name, "wget", "-qO-", "http://srv/i"); out != "srv" {
				t.Errorf("%s is told %q", name, out)
			}
			if out := d.OK("exec", "srv", "ping", "-c1", "-W10", name); !strings.Contains(out, "1 packets received") {
				t.Errorf("%s: %s", name, out)
			}
		}
		reaches(t, d.NetNS, "127.0.0.1:9500", "srv")
	}
	all()
	d.Kill()
	d.Up()
	all()
	if out := d.OK("exec", "srv", "nslookup", "-type=a", "many"); strings.Count(out, "10.90.") < min(count, 8) {
		t.Errorf("DNS: %s", out)
	}
	if got := strings.Count(d.OK("port", "srv"), "\n"); got < 2*200 {
		t.Errorf("%d lines of published ports", got)
	}
}
