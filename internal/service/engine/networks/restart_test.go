package networks

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/network"
	"longshore/internal/service/engine/networks/spaces"
)

// leaks lists what is left in the kernel, in the directories and in the store.
func leaks(t *testing.T, s *Service) string {
	t.Helper()
	out := leaksOf(t, s)
	for k := range s.deps.Store.(*memory).docs {
		if strings.HasPrefix(k, bucketSandboxes) {
			out += k + "\n"
		}
	}
	return out
}

// leaksOf is leaks without the store.
func leaksOf(t *testing.T, s *Service) string {
	t.Helper()
	var out []string
	for _, l := range strings.Split(sh(t, "", "ip -o link"), "\n") {
		if strings.Contains(l, "veth") {
			out = append(out, l)
		}
	}
	paths, err := s.leftNamespaces()
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, paths...)
	for _, m := range []string{"ip longshore published", "ip longshore published_addr", "ip6 longshore published"} {
		if l := sh(t, "", "nft list map "+m); strings.Contains(l, "elements") {
			out = append(out, l)
		}
	}
	for _, l := range strings.Split(sh(t, "", "cat /proc/self/mountinfo"), "\n") {
		if strings.Contains(l, s.cfg.ExecRoot) {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

func TestRestartAdopts(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	ctx := context.Background()
	w.create(s, mobynet.CreateRequest{Name: "app", IPAM: subnet("10.5.0.0/29")})
	tcp := mobynet.MustParsePort("80/tcp")
	web := w.open(s, "web", func(r *network.Request) {
		r.Mode = "app"
		r.Bindings = mobynet.PortMap{tcp: bind("", "8080")}
	})
	dead := w.open(s, "dead", func(r *network.Request) {
		r.Mode = "app"
		r.Bindings = mobynet.PortMap{tcp: bind("", "8081")}
	})
	prepared, err := s.pool.Take(spaces.Plugged, "") // is left behind, too
	if err != nil {
		t.Fatal(err)
	}
	prepared.Space.Close()
	stop := serve(t, web.NetNS, "web", 80)
	// The daemon is killed: its reserving sockets close, everything else stays.
	for _, b := range s.boxes.all() {
		for _, l := range b.leases {
			l.Release()
		}
	}
	reach(t, "", "tcp", "127.0.0.1:8080", "web from")

	next := w.start(containerID("web"))
	reach(t, "", "tcp", "127.0.0.1:8080", "web from")
	unreachable(t, "", "tcp", "127.0.0.1:8081")
	if _, err := os.Stat(dead.NetNS); !os.IsNotExist(err) {
		t.Error("the dead container's namespace stays", err)
	}
	if l, err := net.Listen("tcp", "0.0.0.0:8080"); err == nil {
		l.Close()
		t.Error("the adopted port is not held")
	}
	v, err := next.Inspect(ctx, "app", "")
	if err != nil || len(v.Containers) != 1 || v.Containers[containerID("web")].IPv4Address != netip.MustParsePrefix("10.5.0.2/29") {
		t.Errorf("%+v %v", v, err)
	}
	again := w.open(next, "again", func(r *network.Request) {
		r.Mode = "app"
		r.Bindings = mobynet.PortMap{tcp: bind("", "8081")}
	})
	if a := again.Endpoints["app"].IPAddress; a == web.Endpoints["app"].IPAddress {
		t.Errorf("address %s given twice", a)
	}
	if got := addrs(ask(t, again.NetNS, "udp", "web.", dns.TypeA)); len(got) != 1 {
		t.Error(got)
	}
	if r := ask(t, again.NetNS, "udp", "dead.", dns.TypeA); len(r.Answer) != 0 {
		t.Error("a dead container has a name", r)
	}
	stop()
	for _, c := range []string{"web", "again"} {
		if err := next.Close(ctx, containerID(c)); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "nothing is left", func() bool { return leaks(t, next) == "" })
}

func TestRestartAfterReboot(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	w.create(s, mobynet.CreateRequest{Name: "app"})
	w.open(s, "web", func(r *network.Request) { r.Mode = "app" })
	for _, n := range s.nets.all() {
		must(s.links.Delete(n.rec.Bridge))
	}
	sh(t, "", "nft flush ruleset")
	next := w.start()
	box := w.open(next, "new", func(r *network.Request) { r.Mode = "app" })
	sh(t, box.NetNS, "busybox ping -c1 -W2 "+box.Endpoints["app"].Gateway.String())
}

func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.create(s, mobynet.CreateRequest{Name: "app"})
	busy := mobynet.PortMap{mobynet.MustParsePort("80/tcp"): bind("", "7777")}
	w.open(s, "holder", func(r *network.Request) { r.Mode, r.Bindings = "app", busy })
	var wg sync.WaitGroup
	seen := sync.Map{}
	for i := range 8 {
		wg.Go(func() {
			for j := range 12 {
				r := network.Request{ContainerID: containerID(fmt.Sprint(i, j)), Name: fmt.Sprintf("c%d-%d", i, j), Mode: "bridge"}
				if j%3 == 0 {
					r.Mode = "app"
				}
				r.Bindings = mobynet.PortMap{mobynet.MustParsePort("80/tcp"): bind("", "")}
				if j%4 == 1 {
					r.Mode, r.Bindings = "app", busy
				}
				box, err := s.Open(ctx, r)
				if (err != nil) != (j%4 == 1) {
					t.Error(err)
					return
				}
				for _, e := range box.Endpoints {
					if _, twice := seen.LoadOrStore(e.IPAddress, r.Name); twice {
						t.Errorf("address %s twice", e.IPAddress)
					}
				}
				if j%2 == 0 {
					if err := s.Close(ctx, r.ContainerID); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, b := range s.boxes.all() {
		if err := s.Close(ctx, b.rec.Request.ContainerID); err != nil {
			t.Error(err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	eventually(t, "nothing is left", func() bool { return leaks(t, s) == "" })
	if _, err := os.Stat(w.dir + "/resolver.sock"); !os.IsNotExist(err) {
		t.Error("the resolver's socket stays", err)
	}
}

// BenchmarkOpenClose is the hot path: what networking adds to the start and the end of a container.
func BenchmarkOpenClose(b *testing.B) {
	for _, c := range []struct {
		name, mode string
		publish    bool
	}{{"bridge", "default", false}, {"published", "default", true}, {"none", "none", false}, {"user-defined", "app", false}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b)
			s := w.start()
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			w.create(s, mobynet.CreateRequest{Name: "app"})
			r := network.Request{ContainerID: containerID("c"), Name: "c", Hostname: "c", Mode: c.mode}
			if c.publish {
				r.Bindings = mobynet.PortMap{mobynet.MustParsePort("80/tcp"): bind("", "8080")}
			}
			for b.Loop() {
				b.StopTimer()
				waitWarm(s)
				b.StartTimer()
				if _, err := s.Open(ctx, r); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Close(ctx, r.ContainerID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			stop()
			if err := <-done; err != nil {
				b.Error(err)
			}
		})
	}
}

func waitWarm(s *Service) {
	for s.pool.Missing()+len(s.reap) > 0 {
		time.Sleep(time.Millisecond)
	}
}
