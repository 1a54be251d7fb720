package resolver

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/miekg/dns"
)

// server is the resolver process' state: a table of names and two sockets per served container.
type server struct {
	table     *table
	forwarder *forwarder
	wg        sync.WaitGroup // of the listeners' goroutines

	mu        sync.Mutex // guards listeners and orders changes
	listeners map[string]*listener
}

func newServer() *server {
	return &server{table: newTable(), forwarder: newForwarder(), listeners: map[string]*listener{}}
}

// listener is one container's pair of DNS servers.
type listener struct {
	netns    string
	udp, tcp *dns.Server
	ports    Ports
}

// Ports are where a container's resolver listens at 127.0.0.11.
type Ports struct{ UDP, TCP uint16 }

// put makes a container known, and serves it when it has a namespace. A listener that is there already stays.
func (s *server) put(ctx context.Context, box Sandbox) (Ports, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.listeners[box.ID]; l != nil && l.netns != box.NetNS {
		s.close(box.ID)
	}
	s.table.put(box)
	if box.NetNS == "" {
		return Ports{}, nil
	}
	if l := s.listeners[box.ID]; l != nil {
		return l.ports, nil
	}
	l, err := s.listen(ctx, box)
	if err != nil {
		s.table.delete(box.ID)
		return Ports{}, err
	}
	s.listeners[box.ID] = l
	return l.ports, nil
}

func (s *server) listen(ctx context.Context, box Sandbox) (*listener, error) {
	addr := net.IPv4(127, 0, 0, 11)
	l := &listener{netns: box.NetNS}
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
	h := &handler{id: box.ID, table: s.table, forward: s.forwarder.ask, ctx: ctx}
	l.udp = &dns.Server{PacketConn: pc, Handler: h}
	l.tcp = &dns.Server{Listener: tl, Handler: h}
	s.wg.Go(func() { _ = l.udp.ActivateAndServe() })
	s.wg.Go(func() { _ = l.tcp.ActivateAndServe() })
	return l, nil
}

func (s *server) delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.delete(id)
	s.close(id)
}

// close ends a container's listeners. Their sockets would keep its namespace alive. The caller holds mu.
func (s *server) close(id string) {
	if l := s.listeners[id]; l != nil {
		delete(s.listeners, id)
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
}

// keep forgets every container that is not named.
func (s *server) keep(ids []string) {
	for _, id := range s.table.ids() {
		if !slices.Contains(ids, id) {
			s.delete(id)
		}
	}
}

func (s *server) shutdown() {
	s.mu.Lock()
	for id := range s.listeners {
		s.close(id)
	}
	s.mu.Unlock()
	s.wg.Wait()
}
