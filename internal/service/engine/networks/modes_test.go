package networks

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/network"
	"longshore/internal/server/httperr"
)

func TestHostAndNone(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	ctx := context.Background()
	none := w.open(s, "n", func(r *network.Request) { r.Mode = "none" })
	if out := sh(t, none.NetNS, "ip -o link"); strings.Count(out, "\n") != 1 || !strings.Contains(out, "LOOPBACK,UP") {
		t.Error(out)
	}
	if none.Endpoints["none"].EndpointID == "" || strings.Contains(string(none.Hosts), "172.") {
		t.Errorf("%+v\n%s", none.Endpoints["none"], none.Hosts)
	}
	host := w.open(s, "hh", func(r *network.Request) {
		r.Mode = "host"
		r.ExtraHosts = []string{"gw:host-gateway", "x:10.0.0.1", "six=fd00::1"}
		r.Exposed = mobynet.PortSet{mobynet.MustParsePort("80/tcp"): {}}
	})
	if host.NetNS != "" || host.SandboxKey != hostKey || host.Endpoints["host"].NetworkID == "" || len(host.Ports) != 0 {
		t.Errorf("%+v", host)
	}
	if !strings.Contains(string(host.Hosts), "172.17.0.1\tgw\n10.0.0.1\tx\nfd00::1\tsix\n") || string(host.Resolv) != "nameserver 127.0.0.1\n" {
		t.Errorf("%s\n%s", host.Hosts, host.Resolv)
	}
	w.create(s, mobynet.CreateRequest{Name: "app"})
	for _, c := range []struct{ container, net, text string }{
		{"hh", "app", "container sharing network namespace with another container or host cannot be connected to any other network"},
		{"n", "app", "container cannot be connected to multiple networks with one of the networks in private (none) mode"},
		{"n", "host", "cannot connect container to host network - container must be created in host network mode"},
		{"n", "nope", "network nope not found"},
	} {
		if _, err := s.Connect(ctx, containerID(c.container), c.net, nil); err == nil || err.Error() != c.text {
			t.Error(err)
		}
	}
	if _, err := s.Connect(ctx, "ghost", "app", nil); httperr.Status(err) != 404 {
		t.Error(err)
	}
	v, err := s.Inspect(ctx, "host", "")
	if err != nil || len(v.Containers) != 1 {
		t.Errorf("%+v %v", v, err)
	}
	next := w.start(containerID("hh"), containerID("n"))
	if v, err := next.Inspect(ctx, "host", ""); err != nil || len(v.Containers) != 1 {
		t.Errorf("%+v %v", v, err)
	}
}

func TestIPv6(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	yes := true
	w.create(s, mobynet.CreateRequest{Name: "dual", EnableIPv6: &yes, IPAM: &mobynet.IPAM{Config: []mobynet.IPAMConfig{
		{Subnet: netip.MustParsePrefix("10.5.0.0/24")}, {Subnet: netip.MustParsePrefix("fd00:5::/64")},
	}}})
	tcp := mobynet.MustParsePort("80/tcp")
	a := w.open(s, "a", func(r *network.Request) {
		r.Mode = "dual"
		r.Bindings = mobynet.PortMap{tcp: bind("", "8080")}
	})
	b := w.open(s, "bb", func(r *network.Request) { r.Mode = "dual" })
	e := a.Endpoints["dual"]
	if e.GlobalIPv6Address.String() != "fd00:5::2" || e.IPv6Gateway.String() != "fd00:5::1" || e.GlobalIPv6PrefixLen != 64 || len(a.Ports[tcp]) != 2 {
		t.Errorf("%+v %v", e, a.Ports)
	}
	serve(t, a.NetNS, "a", 80)
	reach(t, b.NetNS, "tcp", "[fd00:5::2]:80", "a from fd00:5::3")
	sh(t, "", "ip addr add fd00:99::1/64 dev lo nodad 2>/dev/null || true")
	reach(t, "", "tcp", "[fd00:99::1]:8080", "a from")
	reach(t, b.NetNS, "tcp", "[fd00:99::1]:8080", "a from")
	if got := addrs(ask(t, b.NetNS, "udp", "a.", dns.TypeAAAA)); len(got) != 1 || got[0] != "fd00:5::2" {
		t.Error(got)
	}
	rev, _ := dns.ReverseAddr("fd00:5::2")
	if got := addrs(ask(t, b.NetNS, "tcp", rev, dns.TypePTR)); len(got) != 1 || got[0] != "a.dual." {
		t.Error(got)
	}
	id := w.create(s, mobynet.CreateRequest{Name: "auto6", EnableIPv6: &yes})
	if v, err := s.Inspect(context.Background(), id, ""); err != nil || len(v.IPAM.Config) != 2 || !strings.HasPrefix(v.IPAM.Config[1].Subnet.String(), "fd") {
		t.Errorf("%+v %v", v, err)
	}
}

func TestNoInterContainerTraffic(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	w.create(s, mobynet.CreateRequest{Name: "alone", Options: map[string]string{network.OptICC: "false", network.OptMTU: "1400"}})
	a := w.open(s, "a", func(r *network.Request) { r.Mode = "alone" })
	b := w.open(s, "bb", func(r *network.Request) { r.Mode = "alone" })
	serve(t, a.NetNS, "a", 80)
	addr := a.Endpoints["alone"].IPAddress.String() + ":80"
	unreachable(t, b.NetNS, "tcp", addr)
	reach(t, "", "tcp", addr, "a from")
	if out := sh(t, a.NetNS, "ip link show eth0"); !strings.Contains(out, "mtu 1400") {
		t.Error(out)
	}
}

func TestPortChoice(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	tcp, udp := mobynet.MustParsePort("80/tcp"), mobynet.MustParsePort("80/udp")
	ports := func(box network.Sandbox, p mobynet.Port) string {
		var out []string
		for _, b := range box.Ports[p] {
			out = append(out, b.HostIP.String()+":"+b.HostPort)
		}
		return strings.Join(out, " ")
	}
	a := w.open(s, "a", func(r *network.Request) {
		r.Bindings = mobynet.PortMap{tcp: bind("", "9000-9002"), udp: bind("", "")}
		r.Exposed = mobynet.PortSet{tcp: {}, mobynet.MustParsePort("81/tcp"): {}}
	})
	b := w.open(s, "bb", func(r *network.Request) {
		r.Bindings = mobynet.PortMap{tcp: bind("", "9000-9002"), udp: bind("", "")}
	})
	c := w.open(s, "ccc", func(r *network.Request) {
		r.PublishAll = true
		r.Exposed = mobynet.PortSet{tcp: {}, udp: {}}
	})
	if ports(a, tcp) != "0.0.0.0:9000" || ports(b, tcp) != "0.0.0.0:9001" {
		t.Error(a.Ports, b.Ports)
	}
	if p, ok := a.Ports[mobynet.MustParsePort("81/tcp")]; !ok || p != nil {
		t.Error(a.Ports)
	}
	if ports(a, udp) == "" || ports(a, udp) == ports(b, udp) || ports(c, tcp) == "" || ports(c, udp) == "" {
		t.Error(a.Ports, b.Ports, c.Ports)
	}
	serve(t, c.NetNS, "c", 80)
	reach(t, "", "tcp", strings.Replace(ports(c, tcp), "0.0.0.0", "127.0.0.1", 1), "c from")
	reach(t, "", "udp", strings.Replace(ports(c, udp), "0.0.0.0", "127.0.0.1", 1), "c from")
}

// A client that keeps asking from one UDP port must reach the new container, though its old flow is remembered.
func TestUDPFollowsTheContainer(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	other := otherHost(t, w)
	udp := mobynet.MustParsePort("80/udp")
	publish := func(r *network.Request) { r.Bindings = mobynet.PortMap{udp: bind("", "8080")} }
	client := dialFrom(t, other, "10.9.0.1:8080")
	for _, name := range []string{"a", "bb"} {
		box := w.open(s, name, publish)
		stop := serve(t, box.NetNS, name, 80)
		if got := askAgain(t, client); got != name+" from 10.9.0.2" {
			t.Errorf("%s: %q", name, got)
		}
		stop()
		if err := s.Close(context.Background(), containerID(name)); err != nil {
			t.Fatal(err)
		}
		_, _ = client.Write([]byte("?")) // the flow is remembered while nobody is there
	}
}

func TestManyNetworks(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	w.create(s, mobynet.CreateRequest{Name: "aa", IPAM: subnet("10.5.0.0/24")})
	w.create(s, mobynet.CreateRequest{Name: "zz", IPAM: subnet("10.6.0.0/24")})
	mac := mobynet.HardwareAddr{2, 1, 2, 3, 4, 5}
	box := w.open(s, "c", func(r *network.Request) {
		r.Mode = "zz"
		r.MacAddress = "02:00:00:00:00:09"
		r.Endpoints = map[string]*mobynet.EndpointSettings{
			"zz": {IPAMConfig: &mobynet.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("10.6.0.77")}},
			"aa": {MacAddress: mac},
		}
	})
	if box.Endpoints["zz"].IPAddress.String() != "10.6.0.77" || box.Endpoints["zz"].MacAddress.String() != "02:00:00:00:00:09" || box.Endpoints["aa"].MacAddress.String() != mac.String() {
		t.Errorf("%+v %+v", box.Endpoints["zz"], box.Endpoints["aa"])
	}
	out := sh(t, box.NetNS, "ip -o -4 addr; ip route; ip -o link show eth1")
	for _, want := range []string{"eth0    inet 10.6.0.77/24", "eth1    inet 10.5.0.2/24", "default via 10.5.0.1 dev eth1", "02:01:02:03:04:05"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	next := w.open(s, "dd", func(r *network.Request) { r.Mode = "aa" })
	if next.Endpoints["aa"].IPAddress.String() != "10.5.0.3" {
		t.Error(next.Endpoints["aa"].IPAddress)
	}
}

func TestValidate(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	ctx := context.Background()
	w.create(s, mobynet.CreateRequest{Name: "app", IPAM: subnet("10.5.0.0/24")})
	for _, c := range []struct {
		r    network.Request
		text string
	}{
		{network.Request{Mode: "later", Endpoints: map[string]*mobynet.EndpointSettings{"later": {Aliases: []string{"x"}}}}, ""},
		{network.Request{ExtraHosts: []string{"x"}}, `bad format for add-host: "x"`},
		{network.Request{ExtraHosts: []string{"x:y"}}, `invalid IP address in add-host: "y"`},
		{network.Request{Endpoints: map[string]*mobynet.EndpointSettings{"bridge": {Aliases: []string{"x"}}}}, "invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks"},
		{network.Request{Endpoints: map[string]*mobynet.EndpointSettings{"app": {IPAMConfig: &mobynet.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("::1")}}}}, "invalid endpoint settings:\ninvalid IPv4 address: ::1"},
	} {
		err := s.Validate(ctx, c.r)
		if (err == nil) != (c.text == "") || (err != nil && (err.Error() != c.text || httperr.Status(err) != 400)) {
			t.Errorf("%v, want %q", err, c.text)
		}
	}
}

func TestIPv6Only(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	no, yes := false, true
	w.create(s, mobynet.CreateRequest{Name: "six", EnableIPv4: &no, EnableIPv6: &yes, IPAM: subnet("fd00:6::/64")})
	tcp := mobynet.MustParsePort("80/tcp")
	a := w.open(s, "a", func(r *network.Request) {
		r.Mode = "six"
		r.Bindings = mobynet.PortMap{tcp: bind("", "8080")}
	})
	serve(t, a.NetNS, "a", 80)
	if e := a.Endpoints["six"]; e.IPAddress.IsValid() || e.GlobalIPv6Address.String() != "fd00:6::2" || len(a.Ports[tcp]) != 1 {
		t.Errorf("%+v %v", e, a.Ports)
	}
	reach(t, "", "tcp", "[fd00:6::1]:8080", "a from")
}

func TestForeignBridge(t *testing.T) {
	w := newWorld(t)
	sh(t, "", "ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up")
	t.Cleanup(func() { sh(t, "", "ip link del docker0") })
	s := w.start()
	v, err := s.Inspect(context.Background(), "bridge", "")
	if err != nil || v.Options[network.OptName] != "longshore0" || v.IPAM.Config[0].Subnet.String() != "172.18.0.0/16" {
		t.Errorf("%+v %v", v, err)
	}
	own := w.daemon(func(c *Config) { c.Bridge = "docker0" })
	if err := own.Restore(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	box := w.open(own, "c", nil)
	if e := box.Endpoints["bridge"]; e.Gateway.String() != "172.17.0.1" {
		t.Errorf("%+v", e)
	}
	none := w.daemon(func(c *Config) { c.Bridge = "none" })
	if err := none.Restore(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if all, err := none.List(context.Background(), nil); err != nil || len(all) != 2 {
		t.Error(all, err)
	}
	missing := w.daemon(func(c *Config) { c.Bridge = "nosuchbridge" })
	if err := missing.Restore(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "must be created manually") {
		t.Error(err)
	}
	if box, err := none.Open(context.Background(), network.Request{ContainerID: containerID("x")}); err != nil || len(box.Endpoints) != 0 || box.NetNS == "" {
		t.Error(err)
	}
	if alias, there := s.links.Owner("docker0"); !there || alias != "" {
		t.Errorf("the stranger's bridge: %q %v", alias, there)
	}
	s.nets.mu.Lock()
	defer s.nets.mu.Unlock()
	must(s.links.Delete("longshore0"))
}
