package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// perServer bounds one server's answer.
	perServer = 4 * time.Second
	// atOnce bounds the questions under way of all containers together.
	atOnce = 1024
)

var errNoServer = errors.New("no DNS server answered")

// forwarder asks other DNS servers.
type forwarder struct {
	slots chan struct{}
}

func newForwarder() *forwarder { return &forwarder{slots: make(chan struct{}, atOnce)} }

// ask hands a question to a container's servers in order until one answers it.
func (f *forwarder) ask(ctx context.Context, s Sandbox, q *dns.Msg, network string) (*dns.Msg, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil, errNoServer // too many under way: the client tries again
	}
	var last *dns.Msg
	for _, server := range s.Servers {
		if s.Isolated && !server.Inside {
			continue
		}
		reply, err := exchange(ctx, s.NetNS, server, q, network)
		if err != nil {
			continue
		}
		if reply.Rcode != dns.RcodeServerFailure && reply.Rcode != dns.RcodeRefused {
			return reply, nil
		}
		last = reply
	}
	if last == nil {
		return nil, errNoServer
	}
	return last, nil
}

func exchange(ctx context.Context, netns string, server Server, q *dns.Msg, network string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, perServer)
	defer cancel()
	address := netip.AddrPortFrom(server.Addr, 53).String()
	var conn net.Conn
	dial := func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	}
	var err error
	if server.Inside {
		conn, err = dialInside(ctx, netns, network, server.Addr)
	} else {
		err = dial()
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := &dns.Client{Net: network, Timeout: perServer, UDPSize: dns.MaxMsgSize}
	reply, _, err := client.ExchangeWithConnContext(ctx, q.Copy(), &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize})
	if err != nil {
		return nil, err
	}
	reply.Id = q.Id
	return reply, nil
}

// dialInside connects from a container's namespace. Go's dialler moves between threads, so the socket is made by hand
// on a locked one and connected there: at once for UDP, in the background for TCP.
func dialInside(ctx context.Context, netns, network string, a netip.Addr) (net.Conn, error) {
	kind, family := unix.SOCK_STREAM, unix.AF_INET
	var sa unix.Sockaddr
	if strings.HasPrefix(network, "udp") {
		kind = unix.SOCK_DGRAM
	}
	if a.Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: 53, Addr: a.As16()}
	} else {
		sa = &unix.SockaddrInet4{Port: 53, Addr: a.As4()}
	}
	var conn net.Conn
	err := inside(netns, func() error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "dns")
		defer f.Close()
		if err := unix.Connect(fd, sa); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			return err
		}
		conn, err = net.FileConn(f)
		return err
	})
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	return conn, nil
}

// inside runs f on a thread in the network namespace at path. (The daemon's side of this is driver/netns; drivers do
// not import each other.)
func inside(path string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			home, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer home.Close()
			ns, err := os.Open(path)
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("setns %s: %w", path, err)
			}
			err = f()
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			return err
		}()
	}()
	return <-done
}
