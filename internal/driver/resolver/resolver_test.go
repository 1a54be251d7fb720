package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"longshore/internal/core/network"
)

func box(id string, endpoints ...Endpoint) Sandbox { return Sandbox{ID: id, Endpoints: endpoints} }

func on(network, ip string, names ...string) Endpoint {
	return Endpoint{Network: network, NetworkName: network + "net", Names: names, IPv4: netip.MustParseAddr(ip)}
}

func ips(found []Endpoint) string {
	var out []string
	for _, e := range found {
		out = append(out, e.IPv4.String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestTable(t *testing.T) {
	tab := newTable()
	a := box("a", on("n1", "10.0.0.1", "web", "Front", "front"), on("n2", "10.2.0.1", "web"))
	a.Links = map[string]string{"database": "db"}
	tab.put(a)
	tab.put(box("b", on("n1", "10.0.0.2", "db", "front")))
	tab.put(box("c", on("n2", "10.2.0.3", "db")))
	for _, c := range []struct{ who, name, want string }{
		{"a", "web.", "10.0.0.1"}, {"a", "WEB", "10.0.0.1"}, {"a", "web.n1net.", "10.0.0.1"}, {"a", "web.n2net.", "10.2.0.1"},
		{"a", "front", "10.0.0.1 10.0.0.2"}, {"a", "db", "10.0.0.2"}, {"a", "db.n2net", "10.2.0.3"}, {"a", "Database.", "10.0.0.2"},
		{"b", "database", ""}, {"b", "db.n2net", ""}, {"c", "front", ""}, {"c", "web", "10.2.0.1"}, {"x", "web", ""}, {"a", "", ""}, {"a", "n1net", ""},
	} {
		if got := ips(tab.lookup(c.who, c.name)); got != c.want {
			t.Errorf("%s asks %q: %q, want %q", c.who, c.name, got, c.want)
		}
	}
	if n, ok := tab.reverse("c", netip.MustParseAddr("10.2.0.1")); !ok || n != "web.n2net" {
		t.Error(n, ok)
	}
	if n, ok := tab.reverse("c", netip.MustParseAddr("10.0.0.1")); ok {
		t.Error("a name of a strange network", n)
	}
	tab.put(box("a", on("n1", "10.0.0.1", "www")))
	if got := ips(tab.lookup("b", "front")); got != "10.0.0.2" {
		t.Error(got)
	}
	for _, id := range []string{"a", "b", "c", "c"} {
		tab.delete(id)
	}
	if len(tab.sandboxes) != 0 || len(tab.networks) != 0 {
		t.Errorf("left: %v %v", tab.sandboxes, tab.networks)
	}
}

func TestRoundRobin(t *testing.T) {
	tab := newTable()
	for i := range 4 {
		tab.put(box(fmt.Sprint(i), on("n", fmt.Sprintf("10.0.0.%d", i), "db")))
	}
	first := map[netip.Addr]bool{}
	for range 200 {
		first[tab.lookup("0", "db")[0].IPv4] = true
	}
	if len(first) != 4 {
		t.Errorf("only %v come first", first)
	}
}

func FuzzAddrOf(f *testing.F) {
	for _, a := range []string{"10.1.2.3", "fd00::12ab"} {
		name, _ := dns.ReverseAddr(a)
		f.Add(name)
	}
	f.Add("1.2.in-addr.arpa.")
	f.Fuzz(func(t *testing.T, name string) {
		a, ok := addrOf(name)
		if !ok {
			return
		}
		back, err := dns.ReverseAddr(a.String())
		if again, ok := addrOf(back); err != nil || !ok || again != a {
			t.Errorf("%q: %s, back %q, %s", name, a, back, again)
		}
	})
}

// writer is a dns.ResponseWriter for one client.
type writer struct {
	dns.ResponseWriter
	network string
	got     *dns.Msg
}

func (w *writer) RemoteAddr() net.Addr {
	if w.network == "tcp" {
		return &net.TCPAddr{}
	}
	return &net.UDPAddr{}
}
func (w *writer) WriteMsg(m *dns.Msg) error { w.got = m; return nil }

func TestHandler(t *testing.T) {
	tab := newTable()
	tab.put(box("a", on("n", "10.0.0.1", "web")))
	isolated := box("i", on("n", "10.0.0.2", "inner"))
	isolated.Isolated = true
	tab.put(isolated)
	for i := range 60 {
		tab.put(box(fmt.Sprint("m", i), on("n", fmt.Sprintf("10.0.1.%d", i), "many")))
	}
	forward := func(_ context.Context, s Sandbox, q *dns.Msg, _ string) (*dns.Msg, error) {
		if q.Question[0].Name == "broken." {
			return nil, errors.New("no server")
		}
		return new(dns.Msg).SetRcode(q, dns.RcodeNameError), nil
	}
	ask := func(id, network, name string, kind uint16) *dns.Msg {
		w := &writer{network: network}
		h := &handler{table: tab, forward: forward, ctx: t.Context()}
		if id != "" {
			h.id.Store(&id)
		}
		h.ServeDNS(w, new(dns.Msg).SetQuestion(name, kind))
		return w.got
	}
	for _, c := range []struct {
		id, network, name string
		kind              uint16
		rcode, answers    int
		truncated         bool
	}{
		{"a", "udp", "web.", dns.TypeA, dns.RcodeSuccess, 1, false},
		{"a", "udp", "web.", dns.TypeAAAA, dns.RcodeSuccess, 0, false},
		{"a", "udp", "web.", dns.TypeMX, dns.RcodeSuccess, 0, false},
		{"a", "udp", "1.0.0.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, 1, false},
		{"a", "udp", "9.9.9.9.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, 0, false},
		{"a", "udp", "example.org.", dns.TypeA, dns.RcodeNameError, 0, false},
		{"a", "udp", "broken.", dns.TypeA, dns.RcodeServerFailure, 0, false},
		{"i", "udp", "example.org.", dns.TypeA, dns.RcodeNameError, 0, false},
		{"i", "udp", "web.", dns.TypeA, dns.RcodeSuccess, 1, false},
		{"", "udp", "web.", dns.TypeA, dns.RcodeServerFailure, 0, false}, // nobody is in the namespace yet
		{"gone", "udp", "web.", dns.TypeA, dns.RcodeServerFailure, 0, false},
		{"a", "tcp", "many.", dns.TypeA, dns.RcodeSuccess, 60, false},
	} {
		got := ask(c.id, c.network, c.name, c.kind)
		if got.Rcode != c.rcode || len(got.Answer) != c.answers || got.Truncated != c.truncated {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if got := ask("a", "udp", "many.", dns.TypeA); !got.Truncated || got.Len() > dns.MinMsgSize {
		t.Errorf("%d bytes, truncated %v", got.Len(), got.Truncated)
	}
	w := &writer{network: "udp"}
	(&handler{table: tab, forward: forward, ctx: t.Context()}).ServeDNS(w, &dns.Msg{})
	if w.got.Rcode != dns.RcodeFormatError {
		t.Error(w.got)
	}
}

func TestControl(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "lsdns")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	serve := func() (stop func()) {
		l, err := net.Listen("unix", filepath.Join(dir, "resolver.sock"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Serve(ctx, l, noProxies{}) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	stop := serve()
	ctx := t.Context()
	c := NewClient(dir, []string{"/bin/false"}, slog.New(slog.DiscardHandler))
	if err := c.Delete(ctx, "unknown"); err != nil {
		t.Error(err)
	}
	// Without a namespace a container only has names: no privilege is needed here.
	if _, err := c.Put(ctx, box("a", on("n", "10.0.0.1", "web"))); err != nil {
		t.Fatal(err)
	}
	bad := box("b", on("n", "10.0.0.2", "x"))
	bad.NetNS = filepath.Join(dir, "nothing")
	var refused refusedError
	if _, err := c.Put(ctx, bad); !errors.As(err, &refused) {
		t.Error(err)
	}
	if err := c.Restore(ctx, []Sandbox{box("c", on("n", "10.0.0.3", "y"))}, nil); err != nil {
		t.Error(err)
	}
	// The server goes away and another takes its place: the next call tells it everything.
	stop()
	if err := os.Remove(filepath.Join(dir, "resolver.sock")); err != nil {
		t.Error(err)
	}
	stop = serve()
	if _, err := c.Put(ctx, box("d", on("n", "10.0.0.4", "z"))); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx, "c"); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx, "d"); err != nil {
		t.Error(err)
	}
	c.Stop(ctx) // nobody needs it any more: it ends by itself
	deadline := time.Now().Add(5 * time.Second)
	for {
		conn, err := net.Dial("unix", filepath.Join(dir, "resolver.sock"))
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the resolver goes on")
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	if _, err := c.Put(ctx, box("e")); err == nil {
		t.Error("a program that fails was no error")
	}
}

// noProxies carries nothing.
type noProxies struct{}

func (noProxies) Open([]network.Proxied) error { return nil }
func (noProxies) Close([]network.Proxied)      {}
func (noProxies) Keep([]network.Proxied)       {}
func (noProxies) Shutdown()                    {}

// Isolated containers have nothing asked from the host's namespace.
func TestForwardIsolated(t *testing.T) {
	udp, err := net.ListenPacket("udp4", "127.0.0.66:53")
	if err != nil {
		t.Skip(err)
	}
	served := &dns.Server{PacketConn: udp, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError))
	})}
	done := make(chan error, 1)
	go func() { done <- served.ActivateAndServe() }()
	t.Cleanup(func() {
		if err := errors.Join(udp.Close(), <-done); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	s := Sandbox{Servers: []Server{{Addr: netip.MustParseAddr("127.0.0.66")}}}
	q := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
	if reply, err := newForwarder().ask(t.Context(), s, q, "udp"); err != nil || reply.Rcode != dns.RcodeNameError {
		t.Fatal(reply, err)
	}
	s.Isolated = true
	if reply, err := newForwarder().ask(t.Context(), s, q, "udp"); !errors.Is(err, errNoServer) {
		t.Errorf("an isolated container's question was answered: %v %v", reply, err)
	}
}
