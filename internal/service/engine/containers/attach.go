package containers

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/moby/moby/api/types/events"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
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
	seat *streams.Seat
	at   time.Time
	tty  bool
}

// Attach takes a place at the stdio. ctx ends the place if Serve is never called.
func (s *Service) Attach(ctx context.Context, ref string, req AttachRequest) (*Attachment, error) {
	keys, err := streams.ParseKeys(req.DetachKeys, "detach")
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
	a.seat, err = h.room.Sit(ctx, runtime.AttachOptions{
		Stdin: req.Stdin && rec.Config.OpenStdin, Stdout: req.Stdout, Stderr: req.Stderr,
	})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, a.Close)
	s.event(ctx, h, events.ActionAttach, nil)
	return a, nil
}

// TTY tells whether the container has a terminal, that is: whether output is unframed.
func (a *Attachment) TTY() bool { return a.tty }

// Close gives the place up.
func (a *Attachment) Close() {
	if a.seat != nil {
		a.seat.Leave()
	}
}

// Serve copies between the client and the container until either ends.
func (a *Attachment) Serve(ctx context.Context, conn streams.Conn) error {
	return a.serve(ctx, conn, false)
}

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
	if a.seat == nil {
		return conn.CloseWrite()
	}
	if err := a.seat.Await(ctx, conn, a.h.gone); err != nil {
		return err
	}
	exits := a.h.record().State.Exits
	stream, err := a.seat.Stream()
	if err != nil || stream == nil {
		return err
	}
	detached := streams.Proxy(ctx, conn, stream, streams.Options{
		Stdin: a.seat.Options().Stdin, Output: a.req.Stdout || a.req.Stderr, TTY: a.tty, Unframe: unframe,
		CloseStdin: a.h.record().Config.StdinOnce, Keys: a.keys, Ended: func() { a.settled(ctx, exits) },
	})
	if detached {
		a.s.event(ctx, a.h, events.ActionDetach, nil)
	}
	return nil
}

// settled gives the end of the run a moment to arrive, so that a client that inspects when the stream has ended finds it.
func (a *Attachment) settled(ctx context.Context, exits uint64) {
	ctx, cancel := context.WithTimeout(ctx, time.Second) // the container may have closed its output and go on
	defer cancel()
	_, _, _ = a.h.await(ctx, func(r *core.Record) bool { return r.State.Exits != exits })
}

func (a *Attachment) replay(ctx context.Context, w io.Writer, unframe bool) error {
	lw := streams.NewLogWriter(w, streams.LogFormat{Raw: a.tty || unframe})
	o := streams.Selection{Tail: -1, Stdout: a.req.Stdout, Stderr: a.req.Stderr}
	if a.seat != nil {
		o.Until = a.at // what came later comes by the stream
	}
	return errors.Join(a.s.deps.Logs.Read(ctx, a.s.launcher.LogSource(a.h.record()), o, lw.Write), lw.Close())
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
	if s.launcher.LogSource(rec).Driver == "none" {
		return nil, fault.NotImplemented("configured logging driver does not support reading")
	}
	return &LogStream{s: s, h: h, req: req, tty: rec.Config.Tty}, nil
}

// TTY tells whether lines are unframed.
func (l *LogStream) TTY() bool { return l.tty }

// Send writes the lines to w; a follow ends with the run.
func (l *LogStream) Send(ctx context.Context, w io.Writer) error {
	rec := l.h.record()
	o := streams.Selection{Since: l.req.Since, Until: l.req.Until, Tail: l.req.Tail, Stdout: l.req.Stdout, Stderr: l.req.Stderr}
	if l.req.Follow && rec.State.Active() {
		done, stop := l.untilEnd(ctx, rec.State.Exits)
		defer stop()
		o.Follow, o.Done = true, done
	}
	lw := streams.NewLogWriter(w, streams.LogFormat{Raw: l.tty, Timestamps: l.req.Timestamps, Details: l.req.Details})
	err := l.s.deps.Logs.Read(ctx, l.s.launcher.LogSource(rec), o, lw.Write)
	return errors.Join(err, lw.Close())
}

// untilEnd closes done when the container has ended for good; stop waits for the goroutine that looks.
func (l *LogStream) untilEnd(ctx context.Context, exits uint64) (done chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done = make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = l.h.await(ctx, func(r *core.Record) bool { return r.State.Exits != exits && !r.State.Active() })
	}()
	return done, func() { cancel(); <-done }
}
