package shimclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
	"unique"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/base/shimproto"
	"longshore/internal/core/runtime"
)

const (
	// retryChecker is how long checks are execs after the process that runs them could not be started.
	retryChecker = 10 * time.Second
	// answerTime is how much longer than a check's timeout its answer may take.
	answerTime = 15 * time.Second
	// sendTime is how long that process may keep us from writing a request to it.
	sendTime = 5 * time.Second
	// homeTime is how long HOME counts that was looked up in the container.
	homeTime  = time.Minute
	maxFilter = 32 << 10
)

// errNoCheck: the check has to be an exec.
var errNoCheck = fmt.Errorf("this health check is an exec: %w", errdefs.ErrNotImplemented)

// checker keeps the process that runs health checks, one for all containers, while a container has any
// (docs/decisions/0017). It is this daemon's own: it ends with the connection.
type checker struct {
	shim *program
	log  *slog.Logger

	mu     sync.Mutex // guards what follows
	users  int
	line   *checkLine // nil: none runs
	failed time.Time  // not tried again for a while
	closed bool
}

// checkLine is the connection to that process.
type checkLine struct {
	conn *net.UnixConn
	over chan struct{} // closed when the process has ended

	mu    sync.Mutex // guards what follows
	calls map[uint32]chan shimproto.CheckAnswer
	next  uint32
}

// open counts a container that has checks.
func (c *checker) open() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users++
}

// release ends the process with the last container that has checks.
func (c *checker) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.users == 0 && c.line != nil {
		c.line.conn.Close()
		c.line = nil
	}
}

// close ends the process and waits for it.
func (c *checker) close() {
	c.mu.Lock()
	line := c.line
	c.line, c.closed = nil, true
	c.mu.Unlock()
	if line != nil {
		line.conn.Close()
		<-line.over
	}
}

// running is the connection, to a new process if there is none.
func (c *checker) running(dir string) (*checkLine, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.line != nil {
		select {
		case <-c.line.over:
			c.line = nil
		default:
			return c.line, nil
		}
	}
	if c.closed || time.Since(c.failed) < retryChecker {
		return nil, errNoCheck
	}
	line, err := c.start(dir)
	if err != nil {
		c.failed = time.Now()
		c.log.Warn("health checks are execs: their own process does not start", "error", err)
		return nil, errNoCheck
	}
	c.line = line
	return line, nil
}

// start makes the process. dir is what it tells in its command line, which it has no use for itself.
func (c *checker) start(dir string) (*checkLine, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pair[1])
	file := os.NewFile(uintptr(pair[0]), "checks")
	defer file.Close()
	generic, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	conn, ok := generic.(*net.UnixConn)
	if !ok {
		generic.Close()
		return nil, errors.New("no unix socket")
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer unix.Close(null)
	pid := 0
	err = c.shim.use(func(path string) (err error) {
		pid, err = syscall.ForkExec(path, []string{"longshore-shim", shimproto.ChecksCommand, dir}, &syscall.ProcAttr{
			Dir: "/", Env: environment(),
			Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), shimproto.ControlFD: uintptr(pair[1])},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
		return err
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	line := &checkLine{conn: conn, over: make(chan struct{}), calls: map[uint32]chan shimproto.CheckAnswer{}}
	begun := time.Now()
	go func() {
		if line.read(pid) && time.Since(begun) < time.Second {
			c.mu.Lock()
			c.failed = time.Now()
			c.mu.Unlock()
		}
	}()
	return line, nil
}

// read takes answers until the process has ended, and tells whether it did so by itself.
func (l *checkLine) read(pid int) (died bool) {
	defer close(l.over)
	b := make([]byte, shimproto.MaxCheck)
	for {
		n, err := l.conn.Read(b)
		if err != nil || n == 0 {
			died = !errors.Is(err, net.ErrClosed)
			break
		}
		a, err := shimproto.DecodeCheckAnswer(b[:n])
		if err != nil {
			continue
		}
		l.mu.Lock()
		ch := l.calls[a.Call]
		delete(l.calls, a.Call)
		l.mu.Unlock()
		if ch != nil {
			ch <- a
		}
	}
	l.conn.Close()
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return died
		}
	}
}

// ask runs a command and waits for its end. A process that does not answer in time is given up.
func (l *checkLine) ask(ctx context.Context, w *checkWay, timeout time.Duration) (shimproto.CheckAnswer, error) {
	ch := make(chan shimproto.CheckAnswer, 1)
	l.mu.Lock()
	if l.next++; l.next == 0 {
		l.next++
	}
	call := l.next
	l.calls[call] = ch
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.calls, call)
		l.mu.Unlock()
	}()
	r := shimproto.CheckRequest{Call: call, TimeoutNano: int64(timeout), Rest: w.rest}
	if err := w.send(l.conn, r); err != nil {
		return shimproto.CheckAnswer{}, errNoCheck
	}
	limit := time.NewTimer(timeout + answerTime)
	defer limit.Stop()
	select {
	case a := <-ch:
		return a, nil
	case <-l.over:
		return shimproto.CheckAnswer{}, errNoCheck
	case <-limit.C:
		l.conn.Close()
		return shimproto.CheckAnswer{}, fmt.Errorf("no answer from the process that runs health checks: %w", errdefs.ErrUnavailable)
	case <-ctx.Done():
		_, _ = l.conn.Write(shimproto.EncodeCancel(call))
		return shimproto.CheckAnswer{}, ctx.Err()
	}
}

// checkWay is how a run's checks are started: what the requests for them have in common.
type checkWay struct {
	mu      sync.Mutex // guards what follows, and is held while it is made
	init    *os.File   // pidfd; nil: not known yet
	ground  *ground
	place   shimproto.Place
	filter  unique.Handle[string] // 500 containers have the same
	process *specs.Process        // that of rest
	rest    []byte
	homed   time.Time // when HOME was looked up
	over    bool
}

// Check implements runtime.Checker.
func (p *process) Check(ctx context.Context, l runtime.CheckLaunch) (runtime.Checked, error) {
	w, err := p.checkWay(l.Process)
	if err != nil {
		return runtime.Checked{}, err
	}
	line, err := p.c.checks.running(filepath.Dir(p.l.Dir))
	if err != nil {
		return runtime.Checked{}, err
	}
	a, err := line.ask(ctx, w, l.Timeout)
	switch {
	case err != nil:
		return runtime.Checked{}, err
	case a.Status == shimproto.Gone:
		return runtime.Checked{}, fmt.Errorf("container %s is not running: %w", p.l.ID, errdefs.ErrNotFound)
	case a.Status != shimproto.OK: // the runtime's words are clients'
		return runtime.Checked{}, errNoCheck
	}
	w.found(a.Home)
	return runtime.Checked{Code: a.Code, Late: a.Late, Output: a.Output, More: a.More}, nil
}

// checkWay makes the way once in a run.
func (p *process) checkWay(process *specs.Process) (*checkWay, error) {
	p.mu.Lock()
	g, pid, w := p.way.ground, p.pid, &p.way.check
	p.mu.Unlock()
	if g == nil || g.SharesPIDs || pid == 0 {
		return nil, errNoCheck
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return nil, fmt.Errorf("container %s is not running: %w", p.l.ID, errdefs.ErrNotFound)
	}
	if w.init == nil {
		if err := w.find(g, &p.l, pid); err != nil {
			return nil, errNoCheck
		}
		p.c.checks.open()
	}
	if w.process != process || w.place.Homed && time.Since(w.homed) > homeTime {
		w.place.Homed = false
		if !w.encode(process, "") {
			return nil, errNoCheck
		}
	}
	if len(w.rest) > shimproto.MaxCheck-64 {
		return nil, errNoCheck
	}
	return w, nil
}

// encode makes what requests have in common. home is to be added to the environment unless it is empty.
func (w *checkWay) encode(process *specs.Process, home string) bool {
	plan := planOf(w.ground, process, nil)
	if plan == nil {
		return false
	}
	plan.Filter = ""
	if home != "" {
		plan.Env = append(slices.Clip(plan.Env), home)
	}
	w.process, w.rest = process, shimproto.EncodeWay(&w.place, plan)
	return true
}

// found notes what was found for HOME, so that not every check looks for it.
func (w *checkWay) found(home string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.place.Homed {
		w.place.Homed, w.homed = true, time.Now()
		w.encode(w.process, home)
	}
}

// find opens the container's init and learns its groups and its filter.
func (w *checkWay) find(g *ground, l *runtime.Launch, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	if readState(l.Dir).pid("init") != pid { // not yet noted, or no longer that process: then the pidfd may be another's
		unix.Close(fd)
		return errNoCheck
	}
	w.place = shimproto.Place{Init: pid}
	if g.Filter != "" {
		b, err := os.ReadFile(g.Filter)
		if err != nil || len(b) == 0 || len(b) > maxFilter {
			unix.Close(fd)
			return errNoCheck
		}
		w.filter = unique.Make(string(b))
		w.place.Filter = w.filter.Value()
	}
	for _, dir := range l.CgroupDirs {
		if _, err := os.Stat(dir + "/tasks"); err == nil {
			w.place.Tasks = append(w.place.Tasks, dir+"/tasks")
		} else {
			w.place.Group = dir
		}
	}
	w.init, w.ground = os.NewFile(uintptr(fd), "init"), g
	return nil
}

// send writes a request with the pidfd, which cannot be closed meanwhile.
func (w *checkWay) send(conn *net.UnixConn, r shimproto.CheckRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return errNoCheck
	}
	_ = conn.SetWriteDeadline(time.Now().Add(sendTime))
	_, _, err := conn.WriteMsgUnix(r.Encode(), unix.UnixRights(int(w.init.Fd())), nil)
	return err
}

// close gives the pidfd back. A check that is asked for afterwards finds no container.
func (w *checkWay) close(c *checker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.init != nil {
		w.init.Close()
		c.release()
	}
}
