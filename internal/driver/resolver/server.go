package resolver

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/miekg/dns"
)

// server is the resolver process' state: a table of names and two sockets per served namespace.
type server struct {
	table     *table
	forwarder *forwarder
	proxies   Proxies
	wg        sync.WaitGroup // of the listeners' goroutines

	mu        sync.Mutex           // guards listeners and orders changes
	listeners map[string]*listener // by path of the namespace
}

func newServer(proxies Proxies) *server {
	return &server{table: newTable(), forwarder: newForwarder(), proxies: proxies, listeners: map[string]*listener{}}
}

// listener is one namespace's pair of DNS servers. Until a container is put into it, it answers nothing.
type listener struct {
	handler  *handler
	udp, tcp *dns.Server
	ports    Ports
}

// Ports are where a namespace's resolver listens at 127.0.0.11.
type Ports struct{ UDP, TCP uint16 }

// put makes a container known, and serves it when it has a namespace. A listener that is there already stays.
func (s *server) put(ctx context.Context, box Sandbox) (Ports, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.table.sandbox(box.ID); ok && old.NetNS != box.NetNS {
		s.close(old.NetNS)
	}
	if box.NetNS == "" {
		s.table.put(box)
		return Ports{}, nil
	}
	l, err := s.listen(ctx, box)
	if err != nil {
		s.table.delete(box.ID)
		return Ports{}, err
	}
	s.table.put(box)
	l.handler.id.Store(&box.ID)
	return l.ports, nil
}

// prepare opens the sockets of a namespace that a container will be put into.
func (s *server) prepare(ctx context.Context, netns string) (Ports, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listen(ctx, Sandbox{NetNS: netns})
	if err != nil {
		return Ports{}, err
	}
	return l.ports, nil
}

// listen finds or makes a namespace's listener. The caller holds mu.
func (s *server) listen(ctx context.Context, box Sandbox) (*listener, error) {
	if l := s.listeners[box.NetNS]; l != nil {
		return l, nil
	}
	addr := net.IPv4(127, 0, 0, 11)
	l := &listener{}
	var pc *net.UDPConn
	var tl *net.TCPListener
	err := inside(box.NetNS, func() (err error) {
		if pc, err = net.ListenUDP("udp4", &net.UDPAddr{IP: addr, Port: int(box.UDP)}); err != nil {
			return err
		}
		tl, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: addr, Port: int(box.TCP)})
		return err
	})
	if err != nil {
		if pc != nil {
			_ = pc.Close()
		}
		return nil, fmt.Errorf("listen in %s: %w", box.NetNS, err)
	}
	l.ports = Ports{UDP: uint16(pc.LocalAddr().(*net.UDPAddr).Port), TCP: uint16(tl.Addr().(*net.TCPAddr).Port)}
	l.handler = &handler{table: s.table, forward: s.forwarder.ask, ctx: ctx}
	l.udp = &dns.Server{PacketConn: pc, Handler: l.handler}
	l.tcp = &dns.Server{Listener: tl, Handler: l.handler}
	s.wg.Go(func() { _ = l.udp.ActivateAndServe() })
	s.wg.Go(func() { _ = l.tcp.ActivateAndServe() })
	s.listeners[box.NetNS] = l
	return l, nil
}

func (s *server) delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if box, ok := s.table.sandbox(id); ok {
		s.table.delete(id)
		s.close(box.NetNS)
	}
}

// forget ends a prepared namespace's listener.
func (s *server) forget(netns string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close(netns)
}

// close ends a namespace's listener. Its sockets would keep the namespace alive. The caller holds mu.
func (s *server) close(netns string) {
	l := s.listeners[netns]
	if l == nil {
		return
	}
	delete(s.listeners, netns)
	s.wg.Go(func() {
		// Shutdown closes the socket, then waits for answers under way; it refuses before the server has begun.
		if l.udp.Shutdown() != nil {
			_ = l.udp.PacketConn.Close()
		}
	})
	s.wg.Go(func() {
		if l.tcp.Shutdown() != nil {
			_ = l.tcp.Listener.Close()
		}
	})
}

// keep forgets every container that is not named, and every prepared namespace.
func (s *server) keep(ids []string) {
	for _, id := range s.table.ids() {
		if !slices.Contains(ids, id) {
			s.delete(id)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for netns, l := range s.listeners {
		if l.handler.id.Load() == nil {
			s.close(netns)
		}
	}
}

func (s *server) shutdown() {
	s.proxies.Shutdown()
	s.mu.Lock()
	for netns := range s.listeners {
		s.close(netns)
	}
	s.mu.Unlock()
	s.wg.Wait()
}
