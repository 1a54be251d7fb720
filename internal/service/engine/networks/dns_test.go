package networks

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/network"
)

func same(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func TestEmbeddedDNS(t *testing.T) {
	w := newWorld(t)
	upstream(t, "127.0.0.1:53")
	s := w.start()
	w.create(s, mobynet.CreateRequest{Name: "app"})
	w.create(s, mobynet.CreateRequest{Name: "back"})
	onApp := func(aliases ...string) func(*network.Request) {
		return func(r *network.Request) {
			r.Mode = "app"
			r.Endpoints = map[string]*mobynet.EndpointSettings{"app": {Aliases: aliases}}
		}
	}
	web := w.open(s, "web", onApp("front"))
	db1 := w.open(s, "db1", onApp("db"))
	db2 := w.open(s, "db2x", onApp("db"))
	ip := func(b network.Sandbox) string { return b.Endpoints["app"].IPAddress.String() }
	for _, proto := range []string{"udp", "tcp"} {
		for name, want := range map[string][]string{
			"web.": {ip(web)}, "WEB.app.": {ip(web)}, "front.": {ip(web)}, "db.": {ip(db1), ip(db2)},
			containerID("db1")[:12] + ".": {ip(db1)}, "example.org.": {"192.0.2.80"},
		} {
			if got := addrs(ask(t, web.NetNS, proto, name, dns.TypeA)); !same(got, want) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
	}
	if r := ask(t, web.NetNS, "udp", "db1.", dns.TypeAAAA); r.Rcode != dns.RcodeSuccess || len(r.Answer) != 0 {
		t.Error(r)
	}
	rev, _ := dns.ReverseAddr(ip(db1))
	if got := addrs(ask(t, web.NetNS, "udp", rev, dns.TypePTR)); !slices.Equal(got, []string{"db1.app."}) {
		t.Error(got)
	}
	if r := ask(t, web.NetNS, "udp", "nobody.", dns.TypeA); r.Rcode != dns.RcodeNameError {
		t.Error(r)
	}
	if !strings.Contains(string(web.Resolv), "nameserver 127.0.0.11\noptions ndots:0\n") {
		t.Errorf("%s", web.Resolv)
	}
	// A DNS server of the container's own is not in the way.
	serve(t, web.NetNS, "own", 53)
	if got := addrs(ask(t, web.NetNS, "udp", "db1.", dns.TypeA)); len(got) != 1 {
		t.Error(got)
	}

	ctx := context.Background()
	if _, err := s.Rename(ctx, containerID("db1"), "main", nil); err != nil {
		t.Fatal(err)
	}
	if got := addrs(ask(t, web.NetNS, "udp", "main.", dns.TypeA)); !slices.Equal(got, []string{ip(db1)}) {
		t.Error(got)
	}
	if err := s.Close(ctx, containerID("db2x")); err != nil {
		t.Fatal(err)
	}
	if got := addrs(ask(t, web.NetNS, "udp", "db.", dns.TypeA)); !slices.Equal(got, []string{ip(db1)}) {
		t.Error(got)
	}
	back := w.open(s, "backend", func(r *network.Request) { r.Mode = "back" })
	if r := ask(t, back.NetNS, "udp", "web.", dns.TypeA); r.Rcode != dns.RcodeNameError {
		t.Error("a name of another network is known", r)
	}
}

// A server that the user names is asked from inside of the container.
func TestOwnDNSServer(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	w.create(s, mobynet.CreateRequest{Name: "app"})
	server := w.open(s, "server", func(r *network.Request) { r.Mode = "app" })
	if err := in(t, server.NetNS, func() error { upstream(t, ":53"); return nil }); err != nil {
		t.Fatal(err)
	}
	at := server.Endpoints["app"].IPAddress.String()
	c := w.open(s, "client", func(r *network.Request) {
		r.Mode = "app"
		r.DNS, r.DNSSearch, r.DNSOptions = []string{"127.0.0.11", at}, []string{"x.example"}, []string{"ndots:3"}
	})
	for _, proto := range []string{"udp", "tcp"} {
		if got := addrs(ask(t, c.NetNS, proto, "example.org.", dns.TypeA)); !slices.Equal(got, []string{"192.0.2.80"}) {
			t.Error(proto, got)
		}
	}
	if !strings.Contains(string(c.Resolv), "nameserver 127.0.0.11\nsearch x.example\noptions ndots:3\n") {
		t.Errorf("%s", c.Resolv)
	}
	plain := w.open(s, "plain", func(r *network.Request) { r.DNS = []string{at} })
	if !strings.Contains(string(plain.Resolv), "nameserver "+at+"\n") {
		t.Errorf("%s", plain.Resolv)
	}
}

// upstream is a DNS server in the thread's namespace: it knows example.org.
func upstream(t *testing.T, address string) {
	t.Helper()
	mux := dns.NewServeMux()
	mux.HandleFunc(".", func(rw dns.ResponseWriter, q *dns.Msg) { _ = rw.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError)) })
	mux.HandleFunc("example.org.", func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR("example.org. 60 IN A 192.0.2.80")
		m.Answer = []dns.RR{rr}
		_ = rw.WriteMsg(m)
	})
	pc, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: mux}, {Listener: l, Handler: mux}} {
		go func() { _ = srv.ActivateAndServe() }()
		t.Cleanup(func() { _ = srv.Shutdown() })
	}
}

// resolverPID finds the resolver process of this test's world.
func resolverPID(t *testing.T, s *Service) int {
	t.Helper()
	conn, err := net.Dial("unix", s.cfg.ExecRoot+"/resolver.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var hello struct{ PID int }
	if _, err := conn.Write([]byte(`{"Op":"hello"}`)); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(conn).Decode(&hello); err != nil {
		t.Fatal(err)
	}
	return hello.PID
}

func TestConnectAndDisconnect(t *testing.T) {
	w := newWorld(t)
	upstream(t, "127.0.0.1:53")
	s := w.start()
	ctx := context.Background()
	w.create(s, mobynet.CreateRequest{Name: "app", IPAM: &mobynet.IPAM{Config: []mobynet.IPAMConfig{{Subnet: netip.MustParsePrefix("10.77.0.0/24")}}}})
	c := w.open(s, "c", func(r *network.Request) {
		r.Bindings = mobynet.PortMap{mobynet.MustParsePort("80/tcp"): bind("", "8080")}
	})
	db := w.open(s, "db", func(r *network.Request) { r.Mode = "app" })
	serve(t, c.NetNS, "c", 80)
	cid := containerID("c")
	w.events.take()
	box, err := s.Connect(ctx, cid, "app", &mobynet.EndpointSettings{
		Aliases: []string{"cc"}, IPAMConfig: &mobynet.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("10.77.0.50")}, GwPriority: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := box.Endpoints["app"]; e == nil || e.IPAddress.String() != "10.77.0.50" || !strings.Contains(string(box.Resolv), "127.0.0.11") ||
		!strings.Contains(string(box.Hosts), "10.77.0.50\t") || !strings.Contains(string(box.Hosts), "172.17.0.2\t") {
		t.Fatalf("%+v\n%s\n%s", e, box.Hosts, box.Resolv)
	}
	if got := addrs(ask(t, c.NetNS, "udp", "db.", dns.TypeA)); len(got) != 1 {
		t.Error(got)
	}
	if got := addrs(ask(t, db.NetNS, "udp", "cc.", dns.TypeA)); !slices.Equal(got, []string{"10.77.0.50"}) {
		t.Error(got)
	}
	if out := sh(t, c.NetNS, "ip route"); !strings.Contains(out, "default via 10.77.0.1 dev eth1") {
		t.Error(out)
	}
	reach(t, "", "tcp", "127.0.0.1:8080", "c from 10.77.0.1")
	if _, err := s.Connect(ctx, cid, "app", nil); err == nil || !strings.Contains(err.Error(), "already exists in network app") {
		t.Error(err)
	}
	if err := s.Remove(ctx, "app"); err == nil || !strings.Contains(err.Error(), `error while removing network: network app has active endpoints (name:"`) {
		t.Error(err)
	}
	box, err = s.Disconnect(ctx, cid, "app", false)
	if err != nil {
		t.Fatal(err)
	}
	if box.Endpoints["app"] != nil || strings.Contains(string(box.Resolv), "127.0.0.11") {
		t.Fatalf("%+v", box)
	}
	if out := sh(t, c.NetNS, "ip route; ip -o link"); !strings.Contains(out, "default via 172.17.0.1 dev eth0") || strings.Contains(out, "eth1") {
		t.Error(out)
	}
	reach(t, "", "tcp", "127.0.0.1:8080", "c from 172.17.0.1")
	if got := strings.Join(w.events.take(), "\n"); got != "connect app "+cid+"\ndisconnect app "+cid {
		t.Error(got)
	}
	if _, err := s.Disconnect(ctx, cid, "app", false); err == nil || !strings.Contains(err.Error(), "is not connected to network app") {
		t.Error(err)
	}
}

func TestResolverSurvives(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	w.create(s, mobynet.CreateRequest{Name: "app"})
	a := w.open(s, "a", func(r *network.Request) { r.Mode = "app" })
	b := w.open(s, "bb", func(r *network.Request) { r.Mode = "app" })
	ids := []string{containerID("a"), containerID("bb")}
	pid := resolverPID(t, s)

	// The daemon dies (it is simply forgotten); names go on, and a new daemon takes the process over.
	next := w.start(ids...)
	if got := resolverPID(t, next); got != pid {
		t.Errorf("the resolver was replaced: %d, %d", pid, got)
	}
	want := b.Endpoints["app"].IPAddress.String()
	if got := addrs(ask(t, a.NetNS, "udp", "bb.", dns.TypeA)); !slices.Equal(got, []string{want}) {
		t.Error(got)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- next.Run(ctx) }()
	defer func() {
		for _, id := range ids {
			if err := next.Close(context.Background(), id); err != nil {
				t.Error(err)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the resolver is back", func() bool {
		conn, err := net.Dial("unix", w.dir+"/resolver.sock")
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
	eventually(t, "names are back", func() bool {
		var got []string
		_ = in(t, a.NetNS, func() error {
			m, err := dns.Exchange(new(dns.Msg).SetQuestion("bb.", dns.TypeA), "127.0.0.11:53")
			if err == nil {
				got = addrs(m)
			}
			return nil
		})
		return slices.Equal(got, []string{want})
	})
}

func TestResolverStartsWithTheFirstNetwork(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	reachable := func() bool {
		conn, err := net.Dial("unix", w.dir+"/resolver.sock")
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	if reachable() {
		t.Error("a resolver runs for nobody")
	}
	w.create(s, mobynet.CreateRequest{Name: "app"})
	eventually(t, "the resolver runs", reachable)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if reachable() {
		t.Error("the resolver goes on without need")
	}
}
