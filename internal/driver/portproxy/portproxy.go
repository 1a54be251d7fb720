// Package portproxy carries published ports in user space, where the kernel's translation cannot: from the host's IPv6
// addresses to a container that has IPv4 only, from ::1, and from anywhere when the engine may not touch the firewall. A
// container sees such a connection come from its bridge's own address.
package portproxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/base/socket"
	"longshore/internal/core/network"
)

// Proxies are the ports of one process. Safe for concurrent use.
type Proxies struct {
	wg sync.WaitGroup

	mu    sync.Mutex // guards ports
	ports map[network.Proxied]*port
}

// port is one carried port; close ends it and all that goes through it.
type port struct {
	listener io.Closer

	mu     sync.Mutex // guards all below
	conns  map[io.Closer]struct{}
	closed bool
}

// New makes an empty set.
func New() *Proxies { return &Proxies{ports: map[network.Proxied]*port{}} }

// Open carries ports: all of them or none. One that is carried already is no error.
func (p *Proxies) Open(ports []network.Proxied) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var opened []network.Proxied
	for _, want := range ports {
		if p.ports[want] != nil {
			continue
		}
		if err := p.open(want); err != nil {
			p.close(opened)
			return err
		}
		opened = append(opened, want)
	}
	return nil
}

// Close ends ports with their connections; those that are not carried are no error.
func (p *Proxies) Close(ports []network.Proxied) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close(ports)
}

func (p *Proxies) close(ports []network.Proxied) {
	for _, want := range ports {
		if have := p.ports[want]; have != nil {
			delete(p.ports, want)
			have.close()
		}
	}
}

// Keep carries exactly these ports; what cannot be opened is left out.
func (p *Proxies) Keep(ports []network.Proxied) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := map[network.Proxied]bool{}
	for _, want := range ports {
		wanted[want] = true
	}
	for have := range p.ports {
		if !wanted[have] {
			p.close([]network.Proxied{have})
		}
	}
	for _, want := range ports {
		if p.ports[want] == nil {
			_ = p.open(want)
		}
	}
}

// Shutdown ends everything and waits for it.
func (p *Proxies) Shutdown() {
	p.Keep(nil)
	p.wg.Wait()
}

// open starts a port. The caller holds mu.
func (p *Proxies) open(want network.Proxied) error {
	port := &port{conns: map[io.Closer]struct{}{}}
	if want.Proto == unix.IPPROTO_UDP {
		var conn *net.UDPConn
		err := socket.RetryInUse(func() (err error) {
			conn, err = net.ListenUDP(family("udp", want.Host.Addr()), net.UDPAddrFromAddrPort(want.Host))
			return err
		})
		if err != nil {
			return bindError(want, err)
		}
		port.listener = conn
		p.wg.Go(func() { port.serveUDP(conn, want.Target) })
	} else {
		var l *net.TCPListener
		err := socket.RetryInUse(func() (err error) {
			l, err = net.ListenTCP(family("tcp", want.Host.Addr()), net.TCPAddrFromAddrPort(want.Host))
			return err
		})
		if err != nil {
			return bindError(want, err)
		}
		port.listener = l
		p.wg.Go(func() { port.serveTCP(l, want.Target) })
	}
	p.ports[want] = port
	return nil
}

// family keeps a socket to the family of its address: [::] must leave IPv4 to others.
func family(proto string, a netip.Addr) string {
	if a.Is6() {
		return proto + "6"
	}
	return proto + "4"
}

func bindError(want network.Proxied, err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return fmt.Errorf("failed to bind host port %s: %w", want.Host, errno)
	}
	return fmt.Errorf("failed to bind host port %s: %w", want.Host, err)
}

// hold registers a connection to be closed with the port; false when the port is closed already.
func (p *port) hold(c io.Closer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *port) let(c io.Closer) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *port) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// dialLimit bounds the wait for a container that does not answer.
const dialLimit = 30 * time.Second

func (p *port) serveTCP(l *net.TCPListener, target netip.AddrPort) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			pause()
			continue
		}
		wg.Go(func() { p.carry(conn, target) })
	}
}

// pause keeps a full table of descriptors from becoming a busy loop.
func pause() { <-time.After(50 * time.Millisecond) }

// carry joins a client's connection with one to the container, both ways, half-closing as they do.
func (p *port) carry(client *net.TCPConn, target netip.AddrPort) {
	if !p.hold(client) {
		return
	}
	defer p.let(client)
	c, err := net.DialTimeout("tcp", target.String(), dialLimit)
	if err != nil {
		_ = client.SetLinger(0) // the client is told as by a closed port
		return
	}
	server := c.(*net.TCPConn)
	if !p.hold(server) {
		return
	}
	defer p.let(server)
	var wg sync.WaitGroup
	wg.Go(func() { pipe(server, client) })
	pipe(client, server)
	wg.Wait()
}

// pipe moves one direction; the kernel splices it.
func pipe(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = to.Close()
		_ = from.Close()
		return
	}
	_ = to.CloseWrite()
	_ = from.CloseRead()
}

// idle is how long a UDP client is remembered, as long as docker's proxy does; packet is the largest datagram.
const (
	idle   = 90 * time.Second
	packet = 65507
)

// serveUDP gives each client a socket of its own towards the container, so that answers find their way back.
func (p *port) serveUDP(l *net.UDPConn, target netip.AddrPort) {
	var wg sync.WaitGroup
	defer wg.Wait()
	flows := &flows{open: map[netip.AddrPort]*net.UDPConn{}}
	buf := make([]byte, packet)
	for {
		n, client, err := l.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // what an ICMP message says of one client
		}
		flow, made, err := flows.get(client, target)
		if err != nil {
			continue
		}
		if made {
			if !p.hold(flow) {
				return
			}
			wg.Go(func() {
				defer p.let(flow)
				flows.answer(l, flow, client)
			})
		}
		_, _ = flow.Write(buf[:n])
	}
}

// flows are the clients of a UDP port.
type flows struct {
	mu   sync.Mutex // guards open
	open map[netip.AddrPort]*net.UDPConn
}

func (f *flows) get(client, target netip.AddrPort) (flow *net.UDPConn, made bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if flow := f.open[client]; flow != nil {
		return flow, false, nil
	}
	flow, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(target))
	if err == nil {
		f.open[client] = flow
	}
	return flow, true, err
}

// answer sends what the container says back to the client until nothing was said for a while.
func (f *flows) answer(l, flow *net.UDPConn, client netip.AddrPort) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.open, client)
	}()
	buf := make([]byte, packet)
	for {
		_ = flow.SetReadDeadline(time.Now().Add(idle))
		n, err := flow.Read(buf)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue // the container does not listen yet
		}
		if err != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if _, err := l.WriteToUDPAddrPort(buf[:n], client); err != nil {
			return
		}
	}
}
