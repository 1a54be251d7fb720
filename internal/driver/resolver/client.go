package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"longshore/internal/core/network"
)

// Client is the daemon's side: it starts the resolver process when the first container needs it, adopts the one that a
// daemon before has left, and starts it anew when it dies. Safe for concurrent use.
type Client struct {
	socket  string
	command []string
	log     *slog.Logger

	mu    sync.Mutex // guards all below and orders requests
	boxes map[string]Sandbox
	ports map[network.Proxied]bool
	conn  *connection
	child *exec.Cmd     // when it is ours to reap
	alive chan struct{} // made when a process is first wanted, closed by then
}

type connection struct {
	net.Conn
	enc *json.Encoder
	dec *json.Decoder
}

// NewClient makes a client; nothing is started. The control socket is "resolver.sock" in dir; command is the program
// that calls Run.
func NewClient(dir string, command []string, log *slog.Logger) *Client {
	return &Client{
		socket: filepath.Join(dir, "resolver.sock"), command: command, log: log,
		boxes: map[string]Sandbox{}, ports: map[network.Proxied]bool{}, alive: make(chan struct{}),
	}
}

// Start makes sure that a resolver runs, ahead of the first container that needs it.
func (c *Client) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		return nil
	}
	return c.connect(ctx)
}

// Put makes a container known, or changes what is known, and answers where its resolver listens.
func (c *Client) Put(ctx context.Context, s Sandbox) (Ports, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, had := c.boxes[s.ID]
	if had && s.UDP == 0 {
		s.UDP, s.TCP = old.UDP, old.TCP
	}
	out, err := c.call(ctx, request{Op: "put", Sandbox: &s})
	if err != nil {
		return Ports{}, err
	}
	p := out.Ports[s.ID]
	s.UDP, s.TCP = p.UDP, p.TCP
	c.boxes[s.ID] = s
	return p, nil
}

// Prepare opens the sockets of a namespace ahead of the container, when a resolver runs; without one it answers no
// ports, and Put will do it. The ports must be handed to Put.
func (c *Client) Prepare(ctx context.Context, netns string) (Ports, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return Ports{}, nil
	}
	out, err := c.call(ctx, request{Op: "prepare", ID: netns})
	return out.Ports[netns], err
}

// Forget closes the sockets of a prepared namespace that no container is put into.
func (c *Client) Forget(ctx context.Context, netns string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	_, err := c.call(ctx, request{Op: "forget", ID: netns})
	return err
}

// Delete makes a container unknown. One that is not known is no error, and starts no process.
func (c *Client) Delete(ctx context.Context, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.boxes[id]; !ok {
		return nil
	}
	delete(c.boxes, id)
	_, err := c.call(ctx, request{Op: "delete", ID: id})
	return err
}

// Proxy carries ports through the process: all of them or none.
func (c *Client) Proxy(ctx context.Context, ports []network.Proxied) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.call(ctx, request{Op: "proxy", Ports: ports}); err != nil {
		return err
	}
	for _, p := range ports {
		c.ports[p] = true
	}
	return nil
}

// Unproxy ends ports. Those that are not carried are no error, and start no process.
func (c *Client) Unproxy(ctx context.Context, ports []network.Proxied) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := false
	for _, p := range ports {
		known = known || c.ports[p]
		delete(c.ports, p)
	}
	if !known {
		return nil
	}
	_, err := c.call(ctx, request{Op: "unproxy", Ports: ports})
	return err
}

// Restore makes exactly these containers known and these ports carried, in place of what a resolver left by a daemon
// before has. Without any such resolver and without containers and ports nothing is started.
func (c *Client) Restore(ctx context.Context, all []Sandbox, ports []network.Proxied) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.boxes)
	clear(c.ports)
	for _, p := range ports {
		c.ports[p] = true
	}
	for _, s := range all {
		c.boxes[s.ID] = s
	}
	if len(all) == 0 && len(ports) == 0 {
		if err := c.dial(ctx); err != nil {
			return nil //nolint:nilerr // nobody there and nobody needed
		}
	}
	if c.conn == nil {
		return c.connect(ctx)
	}
	return c.sync(ctx)
}

// call does one request; a resolver that has died is started anew, with all that it knew, and asked again.
func (c *Client) call(ctx context.Context, r request) (response, error) {
	if c.conn != nil {
		out, err := c.conn.call(ctx, r)
		if err == nil {
			return out, nil
		}
		var refused refusedError
		if errors.As(err, &refused) || ctx.Err() != nil {
			return out, err
		}
		c.drop()
	}
	if err := c.connect(ctx); err != nil {
		return response{}, err
	}
	return c.conn.call(ctx, r)
}

// refusedError is an answer of the resolver, unlike a failure to reach it.
type refusedError string

func (e refusedError) Error() string { return "resolver: " + string(e) }

// callTimeout bounds one request; the resolver does nothing in them that waits for others.
const callTimeout = 10 * time.Second

func (n *connection) call(ctx context.Context, r request) (response, error) {
	deadline := time.Now().Add(callTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	var out response
	err := n.SetDeadline(deadline)
	if err == nil {
		err = n.enc.Encode(r)
	}
	if err == nil {
		err = n.dec.Decode(&out)
	}
	if err != nil {
		return out, fmt.Errorf("resolver: %s: %w", r.Op, err)
	}
	if out.Error != "" {
		return out, refusedError(out.Error)
	}
	return out, nil
}

func (c *Client) drop() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// connect reaches a resolver, running or newly started, and tells it all containers. It does not stop half-way when ctx
// is cancelled, since a process without a connection would be left; each step has a limit of its own. The caller holds mu.
func (c *Client) connect(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	if err := c.dial(ctx); err != nil {
		if err := c.start(ctx); err != nil {
			return fmt.Errorf("start resolver: %w", err)
		}
	}
	select {
	case <-c.alive:
	default:
		close(c.alive)
	}
	return c.sync(ctx)
}

func (c *Client) sync(ctx context.Context) error {
	out, err := c.conn.call(ctx, request{Op: "sync", All: slices.Collect(maps.Values(c.boxes)), Ports: slices.Collect(maps.Keys(c.ports))})
	if err != nil {
		c.drop()
		return err
	}
	for id, p := range out.Ports {
		box := c.boxes[id]
		box.UDP, box.TCP = p.UDP, p.TCP
		c.boxes[id] = box
	}
	return nil
}

// dial connects to a running resolver. One that speaks another protocol is told to end.
func (c *Client) dial(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return err
	}
	n := &connection{Conn: conn, enc: json.NewEncoder(conn), dec: json.NewDecoder(conn)}
	out, err := n.call(ctx, request{Op: "hello"})
	if err == nil && out.Protocol != protocol {
		_, _ = n.call(ctx, request{Op: "exit"})
		err = fmt.Errorf("resolver speaks protocol %d", out.Protocol)
	}
	if err != nil {
		_ = conn.Close()
		return err
	}
	c.conn = n
	return nil
}

// start makes the control socket and a process that listens on it, in a session of its own so that nothing that ends
// the daemon ends it.
func (c *Client) start(ctx context.Context) error {
	c.reap()
	if err := os.Remove(c.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(c.socket, 0o600); err != nil {
		return err
	}
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(c.command[0], c.command[1:]...)
	cmd.ExtraFiles = []*os.File{f}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.child = cmd
	// Only the process holds the socket now: when it ends at once, so does the connection.
	_ = f.Close()
	_ = l.Close()
	if err := c.dial(ctx); err != nil {
		c.reap()
		return err
	}
	return nil
}

// reap ends and waits for a process of ours that has no connection.
func (c *Client) reap() {
	if c.child == nil {
		return
	}
	_ = c.child.Process.Kill()
	_ = c.child.Wait()
	c.child = nil
}

// retry is how long Run waits after a start that failed.
const retry = time.Second

// Run looks after the process: when it dies, it is started anew. It ends with ctx; the process goes on.
func (c *Client) Run(ctx context.Context) error {
	select {
	case <-c.alive:
	case <-ctx.Done():
		return nil
	}
	for {
		c.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		c.log.Warn("the DNS resolver of containers has ended; starting it anew")
		if err := c.revive(ctx); err != nil {
			c.log.Error("the DNS resolver of containers does not start", "error", err)
			select {
			case <-time.After(retry):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

func (c *Client) revive(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
	return c.connect(ctx)
}

// watch returns when the resolver is gone or ctx ends.
func (c *Client) watch(ctx context.Context) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if json.NewEncoder(conn).Encode(request{Op: "watch"}) == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}

// Stop ends the resolver process when no container needs it; otherwise only the connection. For a daemon that ends.
func (c *Client) Stop(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return
	}
	if len(c.boxes) == 0 && len(c.ports) == 0 {
		if _, err := c.conn.call(ctx, request{Op: "exit"}); err == nil {
			_ = os.Remove(c.socket)
			if c.child != nil {
				_ = c.child.Wait()
				c.child = nil
			}
		}
	}
	c.drop()
}
