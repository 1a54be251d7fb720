package shimclient

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/base/shimproto"
	"longshore/internal/core/runtime"
)

// execution is one exec of a process.
type execution struct {
	p      *process
	id     string
	pid    int
	stream runtime.Stream

	exited chan struct{} // closed when exit is set
	once   sync.Once
	exit   runtime.Exit
}

var _ runtime.Exec = (*execution)(nil)

// Exec implements runtime.Process.
func (p *process) Exec(ctx context.Context, l runtime.ExecLaunch) (runtime.Exec, error) {
	if l.ID == "" || strings.ContainsAny(l.ID, "/\x00") || len(l.ID) > 128 || l.Process == nil {
		return nil, fmt.Errorf("exec with ID %q: %w", l.ID, errdefs.ErrInvalidArgument)
	}
	e := &execution{p: p, id: l.ID, exited: make(chan struct{})}
	if err := p.addExec(e); err != nil {
		return nil, err
	}
	if err := e.run(ctx, l); err != nil {
		p.mu.Lock()
		delete(p.execs, l.ID)
		p.mu.Unlock()
		if e.stream != nil {
			e.stream.Close()
		}
		return nil, err
	}
	return e, nil
}

// addExec registers before the request goes out, because the end can be told before the answer.
func (p *process) addExec(e *execution) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return fmt.Errorf("container %s is not running: %w", p.l.ID, errdefs.ErrNotFound)
	}
	if p.execs[e.id] != nil {
		return fmt.Errorf("exec %s: %w", e.id, errdefs.ErrAlreadyExists)
	}
	p.execs[e.id] = e
	return nil
}

func (e *execution) run(ctx context.Context, l runtime.ExecLaunch) error {
	p := e.p
	process := *l.Process
	process.Terminal = l.Terminal
	if l.Terminal && l.ConsoleHeight != 0 && l.ConsoleWidth != 0 {
		process.ConsoleSize = &specs.Box{Height: l.ConsoleHeight, Width: l.ConsoleWidth}
	}
	b, err := json.Marshal(&process)
	if err != nil {
		return err
	}
	r := shimproto.ExecRequest{
		ID: l.ID, Terminal: l.Terminal, Stdin: l.Stdin, Stdout: l.Stdout, Stderr: l.Stderr,
		Height: uint16(l.ConsoleHeight), Width: uint16(l.ConsoleWidth),
	}
	file := filepath.Join(p.l.Dir, shimproto.ExecFile(l.ID))
	if r.Plan = planOf(p.open(), &process, b); r.Plan == nil {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return fmt.Errorf("exec in container %s: %w", p.l.ID, err)
		}
	}
	if r.HasStream() {
		flags := streamFlags(runtime.AttachOptions{Stdin: l.Stdin, Stdout: l.Stdout, Stderr: l.Stderr})
		conn, err := dial(p.l.Dir, shimproto.Preface{Purpose: shimproto.ExecConn, Flags: flags, ExecID: l.ID})
		if err != nil {
			os.Remove(file)
			return fmt.Errorf("exec in container %s: %w: %w", p.l.ID, err, errdefs.ErrNotFound)
		}
		e.stream = stream{conn}
	}
	a, err := p.call(ctx, shimproto.Exec, r.Encode())
	switch {
	case err != nil:
		return fmt.Errorf("exec in container %s: %w", p.l.ID, err)
	case a.Status == shimproto.Gone:
		return fmt.Errorf("container %s is not running: %w", p.l.ID, errdefs.ErrNotFound)
	case a.Status != shimproto.OK:
		return execFailure(&process, a.Text)
	}
	e.pid = a.PID
	return nil
}

func (p *process) execEnded(id string, x runtime.Exit) {
	p.mu.Lock()
	e := p.execs[id]
	delete(p.execs, id)
	p.mu.Unlock()
	if e != nil {
		e.finish(x)
	}
}

func (e *execution) finish(x runtime.Exit) {
	e.once.Do(func() {
		e.exit = x
		close(e.exited)
	})
}

// PID implements runtime.Exec.
func (e *execution) PID() int { return e.pid }

// Stream implements runtime.Exec.
func (e *execution) Stream() runtime.Stream { return e.stream }

// Wait implements runtime.Exec.
func (e *execution) Wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-e.exited:
		return e.exit, nil
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
}

// Resize implements runtime.Exec.
func (e *execution) Resize(ctx context.Context, height, width uint) error {
	return e.p.resize(ctx, e.id, height, width)
}

// Signal implements runtime.Exec.
func (e *execution) Signal(ctx context.Context, sig unix.Signal) error {
	return e.p.signal(ctx, e.id, sig)
}
