package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func TestCheckIPAM(t *testing.T) {
	for _, c := range []struct {
		cfg  network.IPAMConfig
		want string
	}{
		{network.IPAMConfig{Subnet: prefix("10.0.0.0/24"), IPRange: prefix("10.0.0.128/25"), Gateway: addr("10.0.0.1"), AuxAddress: map[string]netip.Addr{"x": addr("10.0.0.9")}}, ""},
		{network.IPAMConfig{}, "invalid subnet : invalid CIDR block notation"},
		{network.IPAMConfig{Subnet: prefix("10.0.0.3/24")}, "invalid subnet 10.0.0.3/24: it should be 10.0.0.0/24"},
		{network.IPAMConfig{Subnet: prefix("10.0.0.0/24"), IPRange: prefix("fd00::/64")}, "invalid ip-range fd00::/64: parent subnet is an IPv4 block"},
		{network.IPAMConfig{Subnet: prefix("10.0.0.0/24"), IPRange: prefix("10.0.0.0/16")}, "invalid ip-range 10.0.0.0/16: CIDR block is bigger than its parent subnet 10.0.0.0/24"},
		{network.IPAMConfig{Subnet: prefix("10.0.0.0/24"), IPRange: prefix("10.0.0.5/30")}, "invalid ip-range 10.0.0.5/30: it should be 10.0.0.4/30"},
		{network.IPAMConfig{Subnet: prefix("10.0.0.0/24"), IPRange: prefix("10.0.1.0/30")}, "invalid ip-range 10.0.1.0/30: parent subnet 10.0.0.0/24 doesn't contain ip-range"},
		{network.IPAMConfig{Subnet: prefix("10.0.0.0/24"), Gateway: addr("10.0.1.1")}, "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address"},
		{network.IPAMConfig{Subnet: prefix("10.0.0.0/24"), Gateway: addr("fd00::1")}, "invalid gateway fd00::1: parent subnet is an IPv4 block"},
		{network.IPAMConfig{Subnet: prefix("10.0.0.0/24"), AuxAddress: map[string]netip.Addr{"b": addr("10.0.1.1"), "a": addr("10.0.2.1")}},
			"invalid auxiliary address a: parent subnet 10.0.0.0/24 doesn't contain this address\ninvalid auxiliary address b: parent subnet 10.0.0.0/24 doesn't contain this address"},
		{network.IPAMConfig{Subnet: prefix("fd00::1/64")}, ""}, // IPv6 is not enabled: not looked at
	} {
		err := CheckIPAM(&network.IPAM{Config: []network.IPAMConfig{c.cfg}}, false)
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != "invalid network config:\n"+c.want) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}

func TestPublications(t *testing.T) {
	port := network.MustParsePort
	got, err := Publications(Request{
		Exposed: network.PortSet{port("80/tcp"): {}, port("7/udp"): {}, port("9/tcp"): {}},
		Bindings: network.PortMap{
			port("80/tcp"): {{HostPort: ""}, {HostPort: "8080-8090"}, {HostIP: addr("127.0.0.1"), HostPort: "80"}},
			port("9/tcp"):  nil,
		},
		PublishAll: true,
	})
	want := []Publication{
		{Port: port("7/udp")}, {Port: port("9/tcp")},
		{Port: port("80/tcp"), HostIP: addr("127.0.0.1"), First: 80, Last: 80},
	}
	if err != nil || len(got) != 5 || !slices.Equal(got[:2], want[:2]) || !slices.Contains(got, want[2]) || got[4].First != 0 {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []network.PortMap{
		{port("0/tcp"): nil}, {port("80/icmp"): nil}, {port("80/tcp"): {{HostPort: "x"}}}, {port("80/tcp"): {{HostPort: "70000"}}},
		{port("80/tcp"): {{HostPort: "9-8"}}}, {port("80/tcp"): {{HostPort: "0-8"}}}, {port("80/tcp"): {{HostPort: "-"}}},
	} {
		if got, err := Publications(Request{Bindings: bad}); err == nil {
			t.Errorf("%v: %v", bad, got)
		}
	}
}

func FuzzHostPorts(f *testing.F) {
	for _, s := range []string{"", "80", "80-90", "0", "-", "9999999", "1-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, err := hostPorts(s)
		if err == nil && (last < first || (first == 0) != (last == 0)) {
			t.Errorf("%q: %d-%d", s, first, last)
		}
	})
}

const hostFile = `# comment
; another
domain old.example
search a.example b.example
nameserver 127.0.0.53
nameserver 192.0.2.53
nameserver fd00::53
nameserver nonsense
options edns0  trust-ad
sortlist 10.0.0.0
`

func TestResolv(t *testing.T) {
	r := ParseResolv([]byte(hostFile))
	for _, c := range []struct {
		name, want string
		got        Resolv
	}{
		{"direct", "nameserver 192.0.2.53\nsearch a.example b.example\noptions edns0 trust-ad\nsortlist 10.0.0.0\n", r.Direct(false, false)},
		{"direct with IPv6", "nameserver 192.0.2.53\nnameserver fd00::53\nsearch a.example b.example\noptions edns0 trust-ad\nsortlist 10.0.0.0\n", r.Direct(true, false)},
		{"embedded", "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 trust-ad ndots:0\nsortlist 10.0.0.0\n", r.Embedded()},
		{"own", "nameserver 127.0.0.1\noptions ndots:2\nsortlist 10.0.0.0\n", r.Override([]netip.Addr{addr("127.0.0.1")}, []string{"."}, []string{"ndots:2"}).Direct(false, true)},
		{"own, embedded", "nameserver 127.0.0.11\nsearch x\noptions ndots:2\nsortlist 10.0.0.0\n", r.Override(nil, []string{"x"}, []string{"ndots:2"}).Embedded()},
		{"nothing left", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n", ParseResolv([]byte("nameserver 127.0.0.1\n")).Direct(false, false)},
		{"nothing at all", "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n", ParseResolv(nil).Direct(true, false)},
	} {
		_, text, _ := strings.Cut(string(c.got.File()), "\n\n")
		if text != c.want {
			t.Errorf("%s:\n%s", c.name, text)
		}
	}
}

// What is written is read back the same.
func FuzzResolv(f *testing.F) {
	f.Add([]byte(hostFile))
	f.Fuzz(func(t *testing.T, b []byte) {
		once := ParseResolv(b).File()
		if twice := ParseResolv(once).File(); string(twice) != string(once) {
			t.Errorf("%q\n%q", once, twice)
		}
	})
}

func TestHostsFile(t *testing.T) {
	got := string(HostsFile([]Host{{addr("172.17.0.2"), "web.example web"}, {addr("fd00::2"), "web"}}, true))
	want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n172.17.0.2\tweb.example web\nfd00::2\tweb\n"
	if got != want {
		t.Error(got)
	}
	if got := string(HostsFile([]Host{{addr("172.17.0.2"), "web"}}, false)); got != "127.0.0.1\tlocalhost\n172.17.0.2\tweb\n" {
		t.Errorf("without IPv6: %s", got)
	}
}
