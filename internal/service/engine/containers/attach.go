package containers

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/logs"
	"longshore/internal/core/runtime"
	"longshore/internal/service/engine/containers/streams"
)

// AttachRequest is what a client wants of a container's stdio.
type AttachRequest struct {
	Stdin, Stdout, Stderr bool
	// Logs replays what was written before; Stream follows.
	Logs, Stream bool
	DetachKeys   string
}

// Attachment is a client's place at a container's stdio. It is held from the moment Attach answers, so that output of a
// container that is started then is complete; Serve or Close ends it.
type Attachment struct {
	s    *Service
	h    *handle
	req  AttachRequest
	keys []byte
	wait *attachment
	at   time.Time
	tty  bool
}

// attachment waits for the process of a container.
type attachment struct {
	opts  runtime.AttachOptions
	ready chan struct{}
	once  sync.Once
	mu    sync.Mutex
	left  bool
	s     runtime.Stream
	err   error
}

// Attach takes a place at the stdio. ctx ends the place if Serve is never called.
func (s *Service) Attach(ctx context.Context, ref string, req AttachRequest) (*Attachment, error) {
	keys, err := streams.ParseKeys(req.DetachKeys)
	if err != nil {
		return nil, err
	}
	h, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	rec := h.record()
	switch rec.State.Phase {
	case core.Paused:
		return nil, fault.Conflict("container %s is paused, unpause the container before attach", ref)
	case core.Restarting:
		return nil, fault.Conflict("container %s is restarting, wait until the container is running", ref)
	}
	a := &Attachment{s: s, h: h, req: req, keys: keys, at: s.deps.Now(), tty: rec.Config.Tty}
	if !req.Stream {
		return a, nil
	}
	a.wait = &attachment{
		opts:  runtime.AttachOptions{Stdin: req.Stdin && rec.Config.OpenStdin, Stdout: req.Stdout, Stderr: req.Stderr},
		ready: make(chan struct{}),
	}
	if l := h.clients.wait(a.wait); l != nil {
		a.wait.open(ctx, l)
		if a.wait.err != nil {
			return nil, a.wait.err
		}
	}
	context.AfterFunc(ctx, a.Close)
	s.event(ctx, h, events.ActionAttach, nil)
	return a, nil
}

// TTY tells whether the container has a terminal, that is: whether output is unframed.
func (a *Attachment) TTY() bool { return a.tty }

// Close gives the place up.
func (a *Attachment) Close() {
	if a.wait == nil {
		return
	}
	a.h.clients.leave(a.wait)
	a.wait.leave()
}

// Serve copies between the client and the container until either ends.
func (a *Attachment) Serve(ctx context.Context, conn streams.Conn) error { return a.serve(ctx, conn, false) }

// ServeUnframed is Serve with both output streams as plain bytes, also without a terminal.
func (a *Attachment) ServeUnframed(ctx context.Context, conn streams.Conn) error {
	return a.serve(ctx, conn, !a.tty)
}

func (a *Attachment) serve(ctx context.Context, conn streams.Conn, unframe bool) error {
	defer a.Close()
	if a.req.Logs {
		if err := a.replay(ctx, conn, unframe); err != nil {
			return err
		}
	}
	if a.wait == nil {
		return conn.CloseWrite()
	}
	select {
	case <-a.wait.ready:
	case <-a.h.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.wait.err != nil || a.wait.s == nil {
		return a.wait.err
	}
	rec := a.h.record()
	detached := streams.Proxy(ctx, conn, a.wait.s, streams.Options{
		Stdin: a.wait.opts.Stdin, Output: a.req.Stdout || a.req.Stderr, TTY: a.tty, Unframe: unframe,
		CloseStdin: rec.Config.StdinOnce, Keys: a.keys,
	})
	if detached {
		a.s.event(ctx, a.h, events.ActionDetach, nil)
	}
	return nil
}

func (a *Attachment) replay(ctx context.Context, w io.Writer, unframe bool) error {
	lw := &streams.LogWriter{W: w, Raw: a.tty || unframe}
	o := logs.ReadOptions{Tail: -1, Stdout: a.req.Stdout, Stderr: a.req.Stderr}
	if a.wait != nil {
		o.Until = a.at // what came later comes by the stream
	}
	return a.s.deps.Logs.Read(ctx, a.s.launcher.LogSource(a.h.record()), o, lw.Write)
}

// open gives a waiting client its stream.
func (a *attachment) open(ctx context.Context, l *live) {
	s, err := l.Attach(context.WithoutCancel(ctx), a.opts)
	a.mu.Lock()
	if a.left && s != nil {
		_ = s.Close()
		s = nil
	}
	a.s, a.err = s, err
	a.mu.Unlock()
	a.once.Do(func() { close(a.ready) })
}

// fail tells a waiting client that nothing will come.
func (a *attachment) fail() { a.once.Do(func() { close(a.ready) }) }

// leave closes the stream, also one that is still to be opened.
func (a *attachment) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = true
	if a.s != nil {
		_ = a.s.Close()
	}
}

// LogsRequest selects log lines.
type LogsRequest struct {
	Stdout, Stderr, Follow, Timestamps, Details bool
	Since, Until                                time.Time
	Tail                                        int // negative: all
}

// LogStream is a selection of a container's log.
type LogStream struct {
	s   *Service
	h   *handle
	req LogsRequest
	tty bool
}

// LogsOf selects lines of a container's log; Send reads them.
func (s *Service) LogsOf(ref string, req LogsRequest) (*LogStream, error) {
	if !req.Stdout && !req.Stderr {
		return nil, fault.Invalid("Bad parameters: you must choose at least one stream")
	}
	h, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	rec := h.record()
	if rec.HostConfig.LogConfig.Type == "none" {
		return nil, fault.NotImplemented("configured logging driver does not support reading")
	}
	return &LogStream{s: s, h: h, req: req, tty: rec.Config.Tty}, nil
}

// TTY tells whether lines are unframed.
func (l *LogStream) TTY() bool { return l.tty }

// Send writes the lines to w; a follow ends with the run.
func (l *LogStream) Send(ctx context.Context, w io.Writer) error {
	rec := l.h.record()
	lw := &streams.LogWriter{W: w, Raw: l.tty, Timestamps: l.req.Timestamps, Details: l.req.Details}
	o := logs.ReadOptions{Since: l.req.Since, Until: l.req.Until, Tail: l.req.Tail, Stdout: l.req.Stdout, Stderr: l.req.Stderr}
	if l.req.Follow && rec.State.Active() {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		over := make(chan struct{})
		go func() {
			defer close(over)
			defer close(done)
			exits := rec.State.Exits
			_, _, _ = l.h.await(ctx, func(r *core.Record) bool { return r.State.Exits != exits && !r.State.Active() })
		}()
		defer func() { cancel(); <-over }()
		o.Follow, o.Done = true, done
		return l.s.deps.Logs.Read(ctx, l.s.launcher.LogSource(rec), o, lw.Write)
	}
	return l.s.deps.Logs.Read(ctx, l.s.launcher.LogSource(rec), o, lw.Write)
}
