package networks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/network"
	"longshore/internal/driver/netns"
	"longshore/internal/driver/nftables"
)

// in runs f inside of a namespace; an empty path is the host.
func in(t testing.TB, ns string, f func() error) error {
	t.Helper()
	if ns == "" {
		return f()
	}
	s, err := netns.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.Do(f)
}

// serve answers "name from peer" on TCP and UDP of a port inside of a namespace until stop or the test's end. Its
// sockets keep the namespace alive.
func serve(t testing.TB, ns, name string, port int) (stop func()) {
	t.Helper()
	var l net.Listener
	var pc net.PacketConn
	err := in(t, ns, func() (err error) {
		if l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); err != nil {
			return err
		}
		pc, err = net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	stop = func() { _ = l.Close(); _ = pc.Close() }
	t.Cleanup(stop)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, _ = io.WriteString(c, name+" from "+host)
			_ = c.Close()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			_, peer, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(peer.String())
			_, _ = pc.WriteTo([]byte(name+" from "+host), peer)
		}
	}()
	return stop
}

// call asks a server; an error when it cannot be reached within the time.
func call(t testing.TB, ns, proto, address string, limit time.Duration) (string, error) {
	t.Helper()
	var answer []byte
	err := in(t, ns, func() error {
		c, err := net.DialTimeout(proto, address, limit)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(limit))
		if proto == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
			answer = make([]byte, 100)
			n, err := c.Read(answer)
			answer = answer[:n]
			return err
		}
		answer, err = io.ReadAll(c)
		return err
	})
	return string(answer), err
}

func reach(t testing.TB, ns, proto, address, want string) {
	t.Helper()
	got, err := call(t, ns, proto, address, 3*time.Second)
	if err != nil || !strings.HasPrefix(got, want) {
		t.Errorf("%s %s from %q: %q, %v; want %q", proto, address, ns, got, err, want)
	}
}

func unreachable(t testing.TB, ns, proto, address string) {
	t.Helper()
	if got, err := call(t, ns, proto, address, 300*time.Millisecond); err == nil {
		t.Errorf("%s %s from %q answered %q", proto, address, ns, got)
	}
}

// otherHost is a namespace that reaches the host at 10.9.0.1 and is 10.9.0.2 itself.
func otherHost(t testing.TB, w *world) string {
	t.Helper()
	path := w.dir + "/other"
	s, err := netns.Create(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	t.Cleanup(func() {
		if err := netns.Remove(path); err != nil {
			t.Error(err)
		}
		sh(t, "", "ip link del up0 2>/dev/null || true")
	})
	sh(t, "", "ip link add up0 type veth peer name up1 && ip addr add 10.9.0.1/24 dev up0 && ip link set up0 up")
	sh(t, "", "exec 3<"+path+"; nsenter --net="+path+" sleep 3 & p=$!; for i in $(seq 50); do [ \"$(readlink /proc/$p/ns/net)\" != \"$(readlink /proc/$$/ns/net)\" ] && break; sleep 0.01; done; ip link set up1 netns $p; kill $p")
	sh(t, path, "ip addr add 10.9.0.2/24 dev up1 && ip link set up1 up && ip route add default via 10.9.0.1")
	return path
}

// containerID is a test container's ID, made of its name.
func containerID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func (w *world) open(s *Service, name string, change func(*network.Request)) network.Sandbox {
	w.t.Helper()
	r := network.Request{ContainerID: containerID(name), Name: name, Mode: "default"}
	r.Hostname = r.ContainerID[:12]
	if change != nil {
		change(&r)
	}
	box, err := s.Open(context.Background(), r)
	if err != nil {
		w.t.Fatalf("open %s: %v", name, err)
	}
	w.t.Cleanup(func() { _ = s.Close(context.Background(), r.ContainerID) })
	return box
}

func (w *world) create(s *Service, r mobynet.CreateRequest) string {
	w.t.Helper()
	out, err := s.Create(context.Background(), r)
	if err != nil {
		w.t.Fatalf("create %s: %v", r.Name, err)
	}
	return out.ID
}

func bind(ip, port string) []mobynet.PortBinding {
	b := mobynet.PortBinding{HostPort: port}
	if ip != "" {
		b.HostIP = netip.MustParseAddr(ip)
	}
	return []mobynet.PortBinding{b}
}

func TestPublishedPorts(t *testing.T) {
	// Other engines load br_netfilter, which shows bridged packets to the firewall: both ways must do.
	const nf = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	for _, on := range []string{"0", "1"} {
		if err := os.WriteFile(nf, []byte(on), 0o644); err != nil && on == "1" {
			t.Skip("no br_netfilter here")
		}
		t.Run("br_netfilter="+on, testPublishedPorts)
	}
}

func testPublishedPorts(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	other := otherHost(t, w)
	w.create(s, mobynet.CreateRequest{Name: "app"})
	tcp, udp := mobynet.MustParsePort("80/tcp"), mobynet.MustParsePort("80/udp")
	web := w.open(s, "web", func(r *network.Request) {
		r.Bindings = mobynet.PortMap{tcp: append(bind("", "8080"), bind("127.0.0.1", "8081")...), udp: bind("", "8080")}
	})
	neighbour := w.open(s, "neighbour", nil)
	stranger := w.open(s, "stranger", func(r *network.Request) { r.Mode = "app" })
	serve(t, web.NetNS, "web", 80)
	for _, proto := range []string{"tcp", "udp"} {
		reach(t, other, proto, "10.9.0.1:8080", "web from 10.9.0.2")
		reach(t, "", proto, "127.0.0.1:8080", "web from 172.17.0.1")
		reach(t, "", proto, "10.9.0.1:8080", "web from")
		reach(t, "", proto, "172.17.0.2:80", "web from 172.17.0.1")
		reach(t, neighbour.NetNS, proto, "172.17.0.1:8080", "web from")
		reach(t, neighbour.NetNS, proto, "10.9.0.1:8080", "web from")
		reach(t, neighbour.NetNS, proto, "172.17.0.2:80", "web from 172.17.0.3")
		reach(t, web.NetNS, proto, "10.9.0.1:8080", "web from")
		reach(t, stranger.NetNS, proto, "10.9.0.1:8080", "web from")
		reach(t, stranger.NetNS, proto, "172.18.0.1:8080", "web from")
		unreachable(t, stranger.NetNS, proto, "172.17.0.2:80") // other bridge
		unreachable(t, other, proto, "172.17.0.2:80")          // not published there
	}
	reach(t, "", "tcp", "127.0.0.1:8081", "web from")
	unreachable(t, other, "tcp", "10.9.0.1:8081")
	serve(t, other, "outside", 7)
	reach(t, neighbour.NetNS, "tcp", "10.9.0.2:7", "outside from 10.9.0.1") // masqueraded
	serve(t, "", "host", 9)
	unreachable(t, neighbour.NetNS, "tcp", "127.0.0.1:9")
	sh(t, "", "nft flush ruleset")
	if err := s.firewall.(*nftables.Firewall).Repair(); err != nil {
		t.Fatal(err)
	}
	reach(t, other, "tcp", "10.9.0.1:8080", "web from 10.9.0.2")
	if err := s.Close(context.Background(), containerID("web")); err != nil {
		t.Fatal(err)
	}
	unreachable(t, other, "tcp", "10.9.0.1:8080")
	if out := sh(t, "", "nft list map ip longshore published"); strings.Contains(out, "8080") {
		t.Error(out)
	}
}

func TestInternalNetwork(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	other := otherHost(t, w)
	w.create(s, mobynet.CreateRequest{Name: "in", Internal: true})
	a := w.open(s, "a", func(r *network.Request) {
		r.Mode = "in"
		r.Bindings = mobynet.PortMap{mobynet.MustParsePort("80/tcp"): bind("", "8080")}
	})
	b := w.open(s, "bb", func(r *network.Request) { r.Mode = "in" })
	if e := a.Endpoints["in"]; e.Gateway.IsValid() || len(a.Ports[mobynet.MustParsePort("80/tcp")]) != 0 {
		t.Errorf("%+v %v", e, a.Ports)
	}
	serve(t, a.NetNS, "a", 80)
	serve(t, other, "outside", 7)
	reach(t, b.NetNS, "tcp", a.Endpoints["in"].IPAddress.String()+":80", "a from")
	unreachable(t, b.NetNS, "tcp", "10.9.0.2:7")
	unreachable(t, other, "tcp", a.Endpoints["in"].IPAddress.String()+":80")
	r := ask(t, b.NetNS, "udp", "example.org.", dns.TypeA)
	if r.Rcode != dns.RcodeServerFailure {
		t.Error(r)
	}
}

// ask is a question to the embedded DNS from inside of a namespace.
func ask(t testing.TB, ns, proto, name string, kind uint16) *dns.Msg {
	t.Helper()
	var reply *dns.Msg
	err := in(t, ns, func() error {
		c, err := net.DialTimeout(proto, "127.0.0.11:53", time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		q := new(dns.Msg).SetQuestion(name, kind)
		client := dns.Client{Net: proto, Timeout: 3 * time.Second}
		reply, _, err = client.ExchangeWithConn(q, &dns.Conn{Conn: c})
		return err
	})
	if err != nil {
		t.Fatalf("ask %s: %v", name, err)
	}
	return reply
}

// addrs are the addresses of an answer.
func addrs(m *dns.Msg) []string {
	var out []string
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			out = append(out, rr.A.String())
		case *dns.AAAA:
			out = append(out, rr.AAAA.String())
		case *dns.PTR:
			out = append(out, rr.Ptr)
		}
	}
	return out
}

// dialFrom is a UDP socket inside of a namespace, connected to an address.
func dialFrom(t testing.TB, ns, address string) net.Conn {
	t.Helper()
	var c net.Conn
	err := in(t, ns, func() (err error) {
		c, err = net.Dial("udp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// askAgain asks until there is an answer.
func askAgain(t testing.TB, c net.Conn) string {
	t.Helper()
	b := make([]byte, 100)
	for range 20 {
		_, _ = c.Write([]byte("?"))
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := c.Read(b); err == nil {
			return string(b[:n])
		}
	}
	return ""
}
