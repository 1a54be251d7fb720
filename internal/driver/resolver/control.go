package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"longshore/internal/core/network"
)

// protocol is the number of the control protocol; a daemon replaces a resolver that speaks another.
const protocol = 2

// The control protocol is JSON, one request and one response after the other on a unix stream socket.
type request struct {
	Op      string            // hello, put, delete, prepare, forget, proxy, unproxy, sync, exit; watch is answered never
	ID      string            `json:",omitempty"` // of a container, or the path of a namespace
	Sandbox *Sandbox          `json:",omitempty"`
	All     []Sandbox         `json:",omitempty"`
	Ports   []network.Proxied `json:",omitempty"`
}

type response struct {
	Protocol int              `json:",omitempty"`
	PID      int              `json:",omitempty"`
	Error    string           `json:",omitempty"`
	Ports    map[string]Ports `json:",omitempty"`
}

// Proxies carries published ports. It lives in the resolver's process, since that is the one that outlives the daemon.
// Implemented by driver/portproxy.
type Proxies interface {
	// Open carries ports: all of them or none. One that is carried already is no error.
	Open(ports []network.Proxied) error
	// Close ends ports with their connections; those that are not carried are no error.
	Close(ports []network.Proxied)
	// Keep carries exactly these ports; what cannot be opened is left out.
	Keep(ports []network.Proxied)
	// Shutdown ends everything and waits for it.
	Shutdown()
}

// Run is the resolver process. The listening control socket is its descriptor 3. It ends with ctx or when a daemon
// tells it to.
func Run(ctx context.Context, proxies Proxies) error {
	debug.SetGCPercent(20) // one small process per host that idles nearly always
	f := os.NewFile(3, "control")
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("resolver: control socket: %w", err)
	}
	_ = f.Close()
	return Serve(ctx, l, proxies)
}

// Serve answers daemons on a control socket until ctx ends or one of them says so. It closes the socket.
func Serve(ctx context.Context, l net.Listener, proxies Proxies) error {
	ctx, exit := context.WithCancel(ctx)
	defer exit()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path may be a successor's already
	}
	s := newServer(proxies)
	var conns sync.WaitGroup
	conns.Go(func() {
		defer exit()
		defer l.Close()
		untilUnreachable(ctx, l.Addr().String())
	})
	var failed error
	for {
		conn, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				failed = fmt.Errorf("resolver: accept: %w", err)
			}
			break
		}
		conns.Go(func() { s.control(ctx, exit, conn) })
	}
	exit()
	conns.Wait()
	s.shutdown()
	return failed
}

// lookAfter is how often a resolver looks whether it can still be reached.
const lookAfter = 10 * time.Second

// untilUnreachable returns when ctx ends or the control socket's path is no longer ours: then no daemon can find this
// process any more, and its sockets would keep dead containers' namespaces alive for ever.
func untilUnreachable(ctx context.Context, path string) {
	ours, err := os.Stat(path)
	if err != nil {
		<-ctx.Done() // not a socket with a path
		return
	}
	tick := time.NewTicker(lookAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, err := os.Stat(path); err != nil || !os.SameFile(ours, now) {
			return
		}
	}
}

// control serves one daemon's connection.
func (s *server) control(ctx context.Context, exit func(), conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	dec, enc := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		var r request
		if dec.Decode(&r) != nil {
			return
		}
		if r.Op == "watch" {
			continue
		}
		out := s.do(ctx, r)
		if enc.Encode(out) != nil {
			return
		}
		if r.Op == "exit" {
			exit()
			return
		}
	}
}

func (s *server) do(ctx context.Context, r request) response {
	out := response{Protocol: protocol, PID: os.Getpid()}
	switch {
	case r.Op == "put" && r.Sandbox != nil:
		ports, err := s.put(ctx, *r.Sandbox)
		return out.with(r.Sandbox.ID, ports, err)
	case r.Op == "prepare":
		ports, err := s.prepare(ctx, r.ID)
		return out.with(r.ID, ports, err)
	case r.Op == "forget":
		s.forget(r.ID)
	case r.Op == "delete":
		s.delete(r.ID)
	case r.Op == "proxy":
		if err := s.proxies.Open(r.Ports); err != nil {
			out.Error = err.Error()
		}
	case r.Op == "unproxy":
		s.proxies.Close(r.Ports)
	case r.Op == "sync":
		s.proxies.Keep(r.Ports)
		return s.sync(ctx, r.All)
	case r.Op == "hello", r.Op == "exit":
	default:
		out.Error = "unknown operation " + r.Op
	}
	return out
}

func (r response) with(key string, p Ports, err error) response {
	if err != nil {
		r.Error = err.Error()
		return r
	}
	r.Ports = map[string]Ports{key: p}
	return r
}

// sync makes exactly these containers known. One that cannot be served does not keep the others from it: it is missing
// in the answer's ports.
func (s *server) sync(ctx context.Context, all []Sandbox) response {
	out := response{Protocol: protocol, Ports: map[string]Ports{}}
	ids := make([]string, 0, len(all))
	for _, box := range all {
		ids = append(ids, box.ID)
	}
	s.keep(ids)
	for _, box := range all {
		if ports, err := s.put(ctx, box); err == nil {
			out.Ports[box.ID] = ports
		}
	}
	return out
}
