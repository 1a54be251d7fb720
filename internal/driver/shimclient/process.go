package shimclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"longshore/internal/base/shimproto"
	"longshore/internal/core/runtime"
)

// process is one run, seen through a control connection.
type process struct {
	c       *Client
	l       runtime.Launch
	line    line
	shimPID int           // our child that is to be reaped; 0 for an adopted one
	ended   chan struct{} // closed when the connection has ended and the shim is reaped
	exited  chan struct{} // closed when exit or err is set

	mu    sync.Mutex // guards what follows
	calls map[uint32]chan shimproto.Answer
	next  uint32
	pid   int
	exit  runtime.Exit
	err   error // set instead of exit when this client was closed
	execs map[string]*execution
	over  bool // the connection has ended
	way   way
}

// line is the control connection.
type line struct {
	conn io.ReadWriteCloser
	mu   sync.Mutex // held while writing a frame
}

// way is what decides who starts an exec: the shim does it where it can and the container allows it.
type way struct {
	ground *ground
	enters bool // the shim has said so
	check  checkWay
}

var _ runtime.Process = (*process)(nil)

// connect takes over a control connection and starts its reader, which Client.Close waits for.
func (c *Client) connect(l runtime.Launch, conn io.ReadWriteCloser, shimPID int) (*process, error) {
	l.Spec = commandOnly(l.Spec) // the rest is up to a hundred kilobytes that nobody asks for again
	p := &process{
		c: c, l: l, line: line{conn: conn}, shimPID: shimPID,
		ended: make(chan struct{}), exited: make(chan struct{}),
		calls: map[uint32]chan shimproto.Answer{}, execs: map[string]*execution{},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.Close()
		return nil, fmt.Errorf("shim client is closed: %w", errdefs.ErrUnavailable)
	}
	c.live[p] = struct{}{}
	go p.read()
	return p, nil
}

// read receives frames until the connection ends.
func (p *process) read() {
	defer close(p.ended)
	r := bufio.NewReaderSize(p.line.conn, 512)
	for {
		f, err := shimproto.Read(r)
		if err != nil {
			break
		}
		p.receive(f)
	}
	p.line.conn.Close()
	p.mu.Lock()
	child := p.shimPID
	p.mu.Unlock()
	for child != 0 { // it closes the connection only by ending
		if _, err := unix.Wait4(child, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	p.disconnected()
	p.way.check.close(&p.c.checks)
	p.c.mu.Lock()
	delete(p.c.live, p)
	p.c.mu.Unlock()
}

// stands notes what is known of the container.
func (p *process) stands(g *ground) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.way.ground = g
}

// open is the ground for an exec that the shim may start by itself; nil when it is the runtime's.
func (p *process) open() *ground {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.way.enters {
		return nil
	}
	return p.way.ground
}

func (p *process) receive(f shimproto.Frame) {
	switch f.Kind {
	case shimproto.Hello:
		if st, err := shimproto.DecodeState(f.Payload); err == nil {
			p.hello(st)
		}
	case shimproto.Reply:
		if a, err := shimproto.DecodeAnswer(f.Payload); err == nil {
			p.mu.Lock()
			ch := p.calls[f.Call]
			delete(p.calls, f.Call)
			p.mu.Unlock()
			if ch != nil {
				ch <- a
			}
		}
	case shimproto.Exited:
		parser := shimproto.Parser{B: f.Payload}
		if e := shimproto.ParseExit(&parser); parser.Err == nil {
			p.finish(exitOf(p.l, e), nil)
			p.send(shimproto.Frame{Kind: shimproto.Ack})
		}
	case shimproto.ExecExited:
		parser := shimproto.Parser{B: f.Payload}
		id, e := parser.String(), shimproto.ParseExit(&parser)
		if parser.Err == nil {
			p.execEnded(id, runtime.Exit{Code: e.Code, At: time.Unix(0, e.AtUnixNano)})
		}
	case shimproto.Warned:
		parser := shimproto.Parser{B: f.Payload}
		p.c.log.Warn("container output is not logged", "container", p.l.ID, "error", parser.String())
	case shimproto.Ping:
		p.send(shimproto.Frame{Kind: shimproto.Pong})
	}
}

func (p *process) hello(st shimproto.State) {
	p.mu.Lock()
	p.pid, p.way.enters = st.PID, st.Enters
	p.mu.Unlock()
	if st.Phase == shimproto.Ended {
		p.finish(exitOf(p.l, st.Exit), nil)
		p.send(shimproto.Frame{Kind: shimproto.Ack})
	}
}

// finish settles how the run ended; the first word counts.
func (p *process) finish(e runtime.Exit, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.exited:
	default:
		p.exit, p.err = e, err
		close(p.exited)
	}
}

// release gives the connection up on this side.
func (p *process) release() {
	p.finish(runtime.Exit{}, fmt.Errorf("shim client is closed: %w", errdefs.ErrUnavailable))
	p.mu.Lock()
	p.shimPID = 0 // the shim goes on; whoever reaps orphans gets it
	p.mu.Unlock()
	p.line.conn.Close()
}

// disconnected settles everything that waits for the shim.
func (p *process) disconnected() {
	p.mu.Lock()
	p.over = true
	calls, execs := p.calls, p.execs
	p.calls, p.execs = nil, nil
	p.mu.Unlock()
	for _, ch := range calls {
		close(ch)
	}
	select {
	case <-p.exited:
	default:
		if e, err := readExit(p.l); err == nil && e != nil {
			p.finish(*e, nil)
		} else {
			text := "shim was killed"
			if t := panicText(p.l.Dir); t != "" {
				text = "shim died: " + t
			}
			p.c.log.Warn("shim vanished", "container", p.l.ID, "error", text)
			p.finish(runtime.Exit{Code: 137, At: time.Now(), Error: text}, nil)
		}
	}
	for _, e := range execs {
		e.finish(runtime.Exit{Code: 137, At: time.Now(), Error: "shim has ended"})
	}
}

func (p *process) send(f shimproto.Frame) error {
	p.line.mu.Lock()
	defer p.line.mu.Unlock()
	return f.Write(p.line.conn)
}

// call sends a request and waits for its answer. An end of the shim is ErrUnavailable.
func (p *process) call(ctx context.Context, kind shimproto.Kind, payload []byte) (shimproto.Answer, error) {
	ch := make(chan shimproto.Answer, 1)
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return shimproto.Answer{}, p.gone()
	}
	p.next++
	id := p.next
	p.calls[id] = ch
	p.mu.Unlock()
	if err := p.send(shimproto.Frame{Kind: kind, Call: id, Payload: payload}); err != nil {
		p.forget(id)
		return shimproto.Answer{}, p.gone()
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return a, p.gone()
		}
		return a, nil
	case <-ctx.Done():
		p.forget(id)
		return shimproto.Answer{}, ctx.Err()
	}
}

func (p *process) forget(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, id)
}

// gone is what a request gets that found no shim.
func (p *process) gone() error {
	select {
	case <-p.exited:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err != nil {
			return p.err
		}
		if p.exit.Error == "" {
			return fmt.Errorf("container %s has ended: %w", p.l.ID, errdefs.ErrNotFound)
		}
	default:
	}
	return fmt.Errorf("shim of container %s is gone: %w", p.l.ID, errdefs.ErrUnavailable)
}

// Start implements runtime.Process.
func (p *process) Start(ctx context.Context) error {
	a, err := p.call(ctx, shimproto.Start, nil)
	if err != nil {
		return fmt.Errorf("start container %s: %w", p.l.ID, err)
	}
	if a.Status != shimproto.OK {
		return startFailure(p.l, a.Text)
	}
	p.mu.Lock()
	p.pid = a.PID
	p.mu.Unlock()
	return nil
}

// PID implements runtime.Process.
func (p *process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Wait implements runtime.Process.
func (p *process) Wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-p.exited:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.exit, p.err
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
}

// Signal implements runtime.Process.
func (p *process) Signal(ctx context.Context, sig unix.Signal) error { return p.signal(ctx, "", sig) }

func (p *process) signal(ctx context.Context, target string, sig unix.Signal) error {
	var w shimproto.Writer
	w.String(target)
	w.Uint(uint64(sig))
	a, err := p.call(ctx, shimproto.Signal, w)
	if err == nil {
		err = answerError(a)
	}
	if err != nil {
		return fmt.Errorf("signal %d to container %s: %w", int(sig), p.l.ID, err)
	}
	return nil
}

// Resize implements runtime.Process.
func (p *process) Resize(ctx context.Context, height, width uint) error {
	return p.resize(ctx, "", height, width)
}

func (p *process) resize(ctx context.Context, target string, height, width uint) error {
	var w shimproto.Writer
	w.String(target)
	w.Uint(uint64(height))
	w.Uint(uint64(width))
	a, err := p.call(ctx, shimproto.Resize, w)
	if err == nil {
		err = answerError(a)
	}
	if err != nil {
		return fmt.Errorf("resize terminal of container %s: %w", p.l.ID, err)
	}
	return nil
}

func answerError(a shimproto.Answer) error {
	switch a.Status {
	case shimproto.OK:
		return nil
	case shimproto.Gone:
		return fmt.Errorf("process has ended: %w", errdefs.ErrNotFound)
	default:
		return errors.New(a.Text)
	}
}

// Attach implements runtime.Process. When it returns, the stream misses nothing that comes afterwards.
func (p *process) Attach(ctx context.Context, o runtime.AttachOptions) (runtime.Stream, error) {
	conn, err := dial(p.l.Dir, shimproto.Preface{Purpose: shimproto.AttachConn, Flags: streamFlags(o)})
	if err != nil {
		return nil, fmt.Errorf("attach to container %s: %w: %w", p.l.ID, err, errdefs.ErrNotFound)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	var ack [1]byte
	_, err = io.ReadFull(conn, ack[:])
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("attach to container %s: %w: %w", p.l.ID, err, errdefs.ErrNotFound)
	}
	return stream{conn}, nil
}
