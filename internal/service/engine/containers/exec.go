package containers

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/fault"
	"longshore/internal/core/runtime"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/containers/names"
	"longshore/internal/service/engine/containers/request"
	"longshore/internal/service/engine/containers/streams"
)

// keepExecs is how long an ended exec can still be inspected.
const keepExecs = 5 * time.Minute

// execution is an exec from its creation until it is forgotten.
type execution struct {
	id   string
	h    *handle
	req  container.ExecCreateRequest
	keys []byte

	mu      sync.Mutex
	started bool
	running runtime.Exec
	code    *int
	pid     int
	ended   time.Time
	done    chan struct{} // closed when the end is recorded
}

// execTable finds execs by ID.
type execTable struct{ m sync.Map }

func (t *execTable) find(id string) (*execution, error) {
	if v, ok := t.m.Load(id); ok {
		return v.(*execution), nil
	}
	return nil, fault.NotFound("No such exec instance: %s", id)
}

// forget drops the execs of a container that is gone.
func (t *execTable) forget(container string) {
	t.m.Range(func(k, v any) bool {
		if v.(*execution).h.id == container {
			t.m.Delete(k)
		}
		return true
	})
}

// sweep drops execs that ended long ago.
func (t *execTable) sweep(now time.Time) {
	t.m.Range(func(k, v any) bool {
		e := v.(*execution)
		e.mu.Lock()
		old := !e.ended.IsZero() && now.Sub(e.ended) > keepExecs
		e.mu.Unlock()
		if old {
			t.m.Delete(k)
			e.h.execs.Delete(k)
		}
		return true
	})
}

// ExecCreate prepares an exec and answers its ID.
func (s *Service) ExecCreate(ctx context.Context, ref string, req container.ExecCreateRequest) (string, error) {
	h, err := s.find(ref)
	if err != nil {
		return "", err
	}
	if err := request.TakesExec(h.record()); err != nil {
		return "", err
	}
	if len(req.Cmd) == 0 {
		return "", fault.Invalid("No exec command specified")
	}
	keys, err := streams.ParseKeys(req.DetachKeys, "escape")
	if err != nil {
		return "", err
	}
	if req.User != "" { // told now, and not on the stream
		l, err := h.process()
		if err == nil {
			_, err = s.execProcess(h, l, &req)
		}
		if err != nil {
			return "", err
		}
	}
	e := &execution{id: names.NewID(), h: h, req: req, keys: keys, done: make(chan struct{})}
	s.execs.m.Store(e.id, e)
	h.execs.Store(e.id, e)
	e.tell(ctx, s, events.ActionExecCreate)
	return e.id, nil
}

func (e *execution) attrs(code *int) map[string]string {
	m := map[string]string{"execID": e.id}
	if code != nil {
		m["exitCode"] = strconv.Itoa(*code)
	}
	return m
}

// tell publishes an event that has the command in its name.
func (e *execution) tell(ctx context.Context, s *Service, what events.Action) {
	s.event(ctx, e.h, events.Action(string(what)+": "+strings.Join(e.req.Cmd, " ")), e.attrs(nil))
}

// ExecStart is an exec that is about to run.
type ExecStart struct {
	s   *Service
	e   *execution
	raw bool // the client wants the output as it comes, without frames
}

// ExecPrepare checks that an exec can start, once. Serve or Detach then runs it.
func (s *Service) ExecPrepare(id string, req container.ExecStartRequest) (*ExecStart, error) {
	e, err := s.execs.find(id)
	if err != nil {
		return nil, err
	}
	if err := request.TakesExec(e.h.record()); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.code != nil {
		return nil, fault.Conflict("exec command %s has already run", id)
	}
	if e.started {
		return nil, fault.Conflict("exec command %s is already running", id)
	}
	if req.ConsoleSize != nil {
		if !e.req.Tty {
			return nil, fault.Invalid("console size is only supported when TTY is enabled")
		}
		e.req.ConsoleSize = req.ConsoleSize
	}
	e.started = true
	return &ExecStart{s: s, e: e, raw: req.Tty}, nil
}

// Raw tells whether the output goes to the client without frames: as with dockerd the start says so, whatever the exec was
// created with.
func (x *ExecStart) Raw() bool { return x.raw }

// Detach runs the exec without a client.
func (x *ExecStart) Detach(ctx context.Context) error {
	_, err := x.run(ctx, false)
	return err
}

// Serve runs the exec for a client. What prevents the start is told on the stream, as docker does.
func (x *ExecStart) Serve(ctx context.Context, conn streams.Conn) error {
	p, err := x.run(ctx, true)
	if err != nil {
		text := []byte(err.Error() + "\r\n")
		if !x.raw {
			text = streams.Frame(text)
		}
		_, _ = conn.Write(text)
		return err
	}
	r := &x.e.req
	if st := p.Stream(); st != nil {
		detached := streams.Proxy(ctx, conn, st, streams.Options{
			Stdin: r.AttachStdin, Output: r.AttachStdout || r.AttachStderr, TTY: r.Tty, Frame: r.Tty && !x.raw, Unframe: !r.Tty && x.raw, CloseStdin: true, Keys: x.e.keys,
			Ended: func() { x.e.await(ctx, p, x.s.deps.Now) },
		})
		if detached {
			x.s.event(ctx, x.e.h, events.ActionExecDetach, x.e.attrs(nil))
			return nil
		}
	}
	x.e.await(ctx, p, x.s.deps.Now)
	return nil
}

// await gives the exit code a moment to arrive, so that a client that inspects after the stream ended finds it. A
// process that closed its output and goes on is not waited for any longer.
func (e *execution) await(ctx context.Context, p runtime.Exec, now func() time.Time) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if exit, err := p.Wait(ctx); err == nil {
		e.finish(exit.Code, now())
	}
}

// run starts the process and has the container's actor wait for its end.
func (x *ExecStart) run(ctx context.Context, client bool) (runtime.Exec, error) {
	e, s := x.e, x.s
	p, err := s.startExec(context.WithoutCancel(ctx), e, client)
	if err != nil {
		e.finish(launch.StartCode(err), s.deps.Now())
		var se *runtime.StartError
		if errors.As(err, &se) {
			return nil, fault.Invalid("%w", err)
		}
		return nil, err
	}
	e.tell(ctx, s, events.ActionExecStart)
	return p, nil
}

func (s *Service) startExec(ctx context.Context, e *execution, client bool) (runtime.Exec, error) {
	l, err := e.h.process()
	if err != nil {
		return nil, err
	}
	proc, err := s.execProcess(e.h, l, &e.req)
	if err != nil {
		return nil, err
	}
	r := &e.req
	x := runtime.ExecLaunch{
		ID: e.id, Process: proc, Terminal: r.Tty,
		Stdin: client && r.AttachStdin, Stdout: client && r.AttachStdout, Stderr: client && r.AttachStderr,
	}
	if r.Tty && r.ConsoleSize != nil {
		x.ConsoleHeight, x.ConsoleWidth = r.ConsoleSize[0], r.ConsoleSize[1]
	}
	p, err := l.Exec(ctx, x)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.running, e.pid = p, p.PID()
	e.mu.Unlock()
	// The actor owns the goroutine that waits: it ends with the container at the latest.
	err = e.h.post(ctx, func(actor context.Context) {
		e.h.tasks.Go(func() { s.watchExec(actor, e, p) })
	})
	return p, err
}

func (s *Service) watchExec(ctx context.Context, e *execution, p runtime.Exec) {
	exit, err := p.Wait(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		exit.Code = 255
	}
	e.finish(exit.Code, s.deps.Now())
	s.event(ctx, e.h, events.ActionExecDie, e.attrs(&exit.Code))
}

// finish records the end; the first report counts.
func (e *execution) finish(code int, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.code == nil {
		close(e.done)
	}
	e.code, e.running, e.ended = &code, nil, at
}

// execProcess builds the process of an exec from the container's specification, which is made again when a former
// daemon had it.
func (s *Service) execProcess(h *handle, l *live, req *container.ExecCreateRequest) (*specs.Process, error) {
	rec := h.record()
	spec := l.spec.Load()
	if spec == nil {
		joins, err := s.launcher.JoinsOf(rec, s.recordOf)
		if err != nil {
			return nil, err
		}
		if spec, err = s.launcher.Spec(rec, joins); err != nil {
			return nil, err
		}
		l.spec.Store(spec)
	}
	return s.launcher.Exec(rec, spec, req)
}

// ExecInspect shows an exec.
func (s *Service) ExecInspect(id string) (*container.ExecInspectResponse, error) {
	e, err := s.execs.find(id)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	priv := e.req.Privileged
	return &container.ExecInspectResponse{
		ID: e.id, Running: e.running != nil, ExitCode: e.code, Pid: e.pid, ContainerID: e.h.id,
		OpenStdin: e.req.AttachStdin, OpenStdout: e.req.AttachStdout, OpenStderr: e.req.AttachStderr,
		CanRemove: e.code != nil, DetachKeys: e.keys,
		ProcessConfig: &container.ExecProcessConfig{
			Tty: e.req.Tty, Entrypoint: e.req.Cmd[0], Arguments: e.req.Cmd[1:], Privileged: &priv, User: e.req.User,
		},
	}, nil
}

// ExecResize sets the terminal size of a running exec.
func (s *Service) ExecResize(ctx context.Context, id string, height, width uint) error {
	e, err := s.execs.find(id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	p := e.running
	e.mu.Unlock()
	if p == nil {
		if err := request.TakesExec(e.h.record()); err != nil {
			return err
		}
		return fault.Conflict("exec process is not started")
	}
	return p.Resize(ctx, height, width)
}

// Resize sets the terminal size of a running container.
func (s *Service) Resize(ctx context.Context, ref string, height, width uint) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	l, err := h.process()
	if err != nil {
		return err
	}
	if err := l.Resize(ctx, height, width); err != nil {
		return err
	}
	s.event(ctx, h, events.ActionResize, map[string]string{
		"height": strconv.FormatUint(uint64(height), 10), "width": strconv.FormatUint(uint64(width), 10),
	})
	return nil
}
