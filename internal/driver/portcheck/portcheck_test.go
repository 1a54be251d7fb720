package portcheck

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
)

const ruleset = `table ip longshore {
	map published {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 : 172.17.0.2 . 80,
			     udp . 8080 : 172.17.0.9 . 80 }
	}
	map published_addr {
		elements = { tcp . 127.0.0.1 . 9090 : 172.17.0.3 . 90 }
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
	}
}
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		tcp dport { 22, 8000-8100 } drop
		tcp dport 9090 accept
		tcp dport != 22 counter packets 0 bytes 0 jump more
	}
	chain more {
		udp dport 8080 reject
	}
}
`

func TestReports(t *testing.T) {
	names := map[netip.Addr]string{netip.MustParseAddr("172.17.0.2"): "web"}
	for _, c := range []struct {
		port, nft, legacy string
		want              []string
	}{
		{"8080", ruleset, "", []string{"published  container web at every address of the host → 172.17.0.2:80", "drops      inet filter chain input (input): tcp dport { 22, 8000-8100 } drop", "other hosts cannot, or not all: inet filter chain input: tcp dport"}},
		{"8080/udp", ruleset, "", []string{"published  a container at every address of the host → 172.17.0.9:80", "udp dport 8080 reject"}},
		{"9090", ruleset, "", []string{"a container at 127.0.0.1 → 172.17.0.3:90", "other hosts cannot: it is published at loopback addresses only", "accepts"}},
		{"7777", ruleset, "", []string{"nobody can connect"}},
		{"80", "", "*nat\n-A LONGSHORE -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:8080\nCOMMIT\n*filter\n:FORWARD DROP [0:0]\n-A DOCKER-USER -p tcp -m conntrack --ctorigdstport 70:90 -j DROP\nCOMMIT\n",
			[]string{"container web at 192.0.2.1 → 172.17.0.2:8080", "drops      iptables filter DOCKER-USER (forward)", "other hosts cannot, or not all"}},
		{"81", "", "*nat\n-A LONGSHORE -p tcp -m tcp --dport 81 -j DNAT --to-destination 172.17.0.2:8080\nCOMMIT\n*filter\n:FORWARD DROP [0:0]\nCOMMIT\n",
			[]string{"other hosts only where a rule accepts them: iptables FORWARD drops the rest"}},
	} {
		p, err := Parse(c.port)
		if err != nil {
			t.Fatal(err)
		}
		r := Report{Port: p}
		r.addNFT(c.nft)
		r.addIPTables(c.legacy, true)
		var out bytes.Buffer
		r.Write(&out, names)
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q is missing in\n%s", c.port, want, out.String())
			}
		}
	}
	for _, bad := range []string{"", "0", "70000", "80/icmp", "x"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is taken for a port", bad)
		}
	}
}

func TestListeners(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := Port{Proto: "tcp", Number: uint16(l.Addr().(*net.TCPAddr).Port)}
	r, err := Look(t.Context(), p)
	if err != nil || len(r.Listeners) != 1 || r.Listeners[0].Addr.String() != "127.0.0.1" || !strings.HasPrefix(r.Listeners[0].Process, "portcheck.test (pid ") {
		t.Errorf("%+v %v", r.Listeners, err)
	}
}

func FuzzRules(f *testing.F) {
	f.Add(ruleset, "*filter\n:FORWARD DROP [0:0]\n-A INPUT -p tcp --dport 80 -j DROP\n")
	f.Fuzz(func(t *testing.T, nft, legacy string) {
		r := Report{Port: Port{"tcp", 80}}
		r.addNFT(nft)
		r.addIPTables(legacy, true)
		r.Write(&bytes.Buffer{}, nil)
	})
}
