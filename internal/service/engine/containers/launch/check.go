package launch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/runtime"
	"longshore/internal/service/engine/containers/streams"
)

// maxCheckOutput is how much of a check's output is kept, in bytes.
const maxCheckOutput = 4096

// Check is one health check: it goes by the way that the container's process has for checks, or is an exec.
type Check struct {
	ID      string // of the exec that clients see in events
	In      runtime.Process
	Process *specs.Process // the same pointer for all checks of a run
	Timeout time.Duration
	// Tell publishes the check's creation and its start; Ended, its end.
	Tell  func(what events.Action)
	Ended func(code int)
}

// Run runs the check to its end. -1 means that the command did not end, or that the container has gone; the output says why.
func (c *Check) Run(ctx context.Context) (code int, output string) {
	c.Tell(events.ActionExecCreate)
	if in, ok := c.In.(runtime.Checker); ok {
		done, err := in.Check(ctx, runtime.CheckLaunch{Process: c.Process, Timeout: c.Timeout})
		switch {
		case err == nil:
			return c.checked(done)
		case !errdefs.IsNotImplemented(err):
			return startFailed(err)
		}
	}
	return c.exec(ctx)
}

// checked tells both events at once: one answer says that the command has run.
func (c *Check) checked(done runtime.Checked) (code int, output string) {
	c.Tell(events.ActionExecStart)
	if output = done.Output; done.More {
		output += streams.Truncated
	}
	if done.Late {
		return c.late(output)
	}
	c.Ended(done.Code)
	return done.Code, output
}

func (c *Check) late(output string) (int, string) {
	return -1, fmt.Sprintf("Health check exceeded timeout (%v): %s", c.Timeout, output)
}

func startFailed(err error) (int, string) { return StartCode(err), err.Error() }

// exec runs the check as an exec.
func (c *Check) exec(ctx context.Context) (code int, output string) {
	p, err := c.In.Exec(ctx, runtime.ExecLaunch{ID: c.ID, Process: c.Process, Stdout: true, Stderr: true})
	if err != nil {
		return startFailed(err)
	}
	c.Tell(events.ActionExecStart)
	limit, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	text := make(chan string, 1)
	go func() { text <- streams.Text(p.Stream(), maxCheckOutput) }()
	exit, err := p.Wait(limit)
	if err != nil {
		_ = p.Signal(context.WithoutCancel(ctx), unix.SIGKILL)
		_ = p.Stream().Close()
		out := <-text
		if errors.Is(err, context.DeadlineExceeded) {
			return c.late(out)
		}
		return -1, err.Error()
	}
	// A grandchild may hold the output open; what the probe itself wrote has arrived.
	stop := context.AfterFunc(limit, func() { _ = p.Stream().Close() })
	defer stop()
	out := <-text
	_ = p.Stream().Close()
	c.Ended(exit.Code)
	return exit.Code, out
}

// StartCode is docker's exit code of an exec that could not be started.
func StartCode(err error) int {
	var se *runtime.StartError
	if errors.As(err, &se) && se.Code != 0 {
		return se.Code
	}
	return 126
}
