package main

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"longshore/cmd/longshore-shim/internal/logwriter"
	"longshore/cmd/longshore-shim/internal/proc"
	"longshore/cmd/longshore-shim/internal/stdio"
	"longshore/internal/base/shimproto"
)

// taskConfig says which streams a process has.
type taskConfig struct {
	terminal              bool
	stdin, stdout, stderr bool // the others are /dev/null
	closeStdin            bool // with the first client's
	height, width         uint16
	// pipes: streams that lead nowhere are pipes, never the host's /dev/null.
	pipes bool
}

// task is a process of the container with its stdio: the container itself, or an exec.
type task struct {
	s   *supervisor
	cfg taskConfig
	out *stdio.Outlet
	in  *stdio.Inlet
	log *logwriter.Writer // nil: output is not logged
	// oomBase counts OOM kills in the container's group before it ran.
	oomBase int

	pumps   sync.WaitGroup
	sources []*os.File // what the pumps read; set before the process is known to run

	mu     sync.Mutex // guards what follows
	master *os.File   // of the terminal, while it lives
	size   winsize
}

type winsize struct{ rows, cols, x, y uint16 }

func (s *supervisor) newTask(cfg taskConfig) *task {
	return &task{
		s: s, cfg: cfg,
		out:  stdio.NewOutlet(!cfg.terminal, s.alive, s.settle),
		in:   stdio.NewInlet(cfg.closeStdin),
		size: winsize{rows: cfg.height, cols: cfg.width},
	}
}

func (t *task) logTo(w *logwriter.Writer) { t.log = w }

// attach joins a client and serves it until it has gone. The byte that it reads first says that from now on it
// misses nothing.
func (t *task) attach(f *os.File, flags byte) {
	remove, err := t.out.Add(f, flags&shimproto.WantStdout != 0, flags&shimproto.WantStderr != 0, 0)
	if err != nil {
		f.Close()
		return
	}
	t.in.Feed(f, flags&shimproto.WantStdin != 0)
	remove()
}

// launch is one call of the OCI runtime that leaves a process behind.
type launch struct {
	logFile, pidFile string
	console          string // name of the console socket, in the run directory
	args             []string
	hide             []string // mounts that the runtime must not see
	id               string
}

// launch runs the OCI runtime and joins the process's stdio. pid 0 without an error means that the runtime failed, with
// its words in text. The caller holds the reaper.
func (t *task) launch(l launch) (pid int, text string, err error) {
	w, err := t.wire()
	if err != nil {
		return 0, "", err
	}
	defer w.close()
	argv := append(append([]string(nil), t.s.cfg.Runtime...), "--log", l.logFile, "--log-format", "json")
	argv = append(argv, l.args...)
	if t.cfg.terminal {
		c, err := listenConsole(t.s.cfg.Dir, l.console)
		if err != nil {
			return 0, "", prefixed("console socket: ", err)
		}
		defer c.close()
		w.console = c
		go c.receive(t.terminalSize)
		argv = append(argv, "--console-socket", c.path)
	}
	runtimePID, err := t.startRuntime(append(argv, l.id), w, l.hide)
	if err != nil {
		return 0, "", prefixed("fork/exec "+argv[0]+": ", err)
	}
	w.closeChild()
	over := make(chan proc.Status, 1)
	t.s.reaper.Claim(runtimePID, func(st proc.Status) { over <- st })
	if st := <-over; st.Code != 0 {
		return 0, w.words(l.logFile, st.Code), nil
	}
	b, err := os.ReadFile(l.pidFile)
	if err != nil {
		return 0, "", err
	}
	if pid, err = strconv.Atoi(string(bytes.TrimSpace(b))); err != nil {
		return 0, "", err
	}
	if t.cfg.terminal {
		err = t.joinConsole(w)
	} else {
		t.joinPipes(w)
	}
	return pid, "", err
}

// startRuntime starts the OCI runtime. The first one tells the limit of open files that the shim was started with.
func (t *task) startRuntime(argv []string, w *wiring, hide []string) (pid int, err error) {
	s := t.s
	if s.door == nil || s.door.Learnt() {
		return proc.Start(argv, w.child, s.cfg.CgroupDirs, hide)
	}
	resume := s.reaper.Pause()
	defer resume()
	if pid, err = proc.Start(argv, w.child, s.cfg.CgroupDirs, hide); err == nil {
		s.door.Learn(pid)
	}
	return pid, err
}

// joinPipes starts to read and write the process's pipes.
func (t *task) joinPipes(w *wiring) {
	t.in.Open(w.take(0))
	for i, name := range []string{1: "stdout", 2: "stderr"} {
		if f := w.take(i); f != nil && i > 0 {
			t.pump(f, byte(i), name)
		}
	}
}

// joinConsole takes the terminal's master from the OCI runtime.
func (t *task) joinConsole(w *wiring) error {
	master, err := w.console.wait()
	if err != nil {
		return prefixed("console socket: ", err)
	}
	input, err := duplicate(master)
	if err != nil {
		master.Close()
		return err
	}
	t.mu.Lock()
	t.master = master
	size := t.size
	t.mu.Unlock()
	if size.rows != 0 || size.cols != 0 { // it may have changed in the meantime
		setSize(master, size)
	}
	t.in.Open(input)
	t.pump(master, stdio.Stdout, "stdout")
	return nil
}

func (t *task) pump(f *os.File, stream byte, name string) {
	t.sources = append(t.sources, f)
	t.pumps.Add(1)
	go func() {
		defer t.pumps.Done()
		if t.log == nil {
			stdio.Pump(f, stream, nil, t.out)
			return
		}
		ls := logwriter.NewStream(name)
		stdio.Pump(f, stream, func(p []byte, now int64) { t.s.warn(t.log.Write(ls, p, now)) }, t.out)
		t.s.warn(t.log.End(ls, time.Now().UnixNano()))
	}()
}

// drain reads what the process has left behind, for a limited time. Clients that are slow no longer hold it up.
func (t *task) drain() {
	t.in.Close()
	t.out.Release()
	limit := time.Now().Add(drainTime)
	for _, f := range t.sources {
		f.SetReadDeadline(limit)
	}
	t.pumps.Wait()
	t.mu.Lock()
	t.master = nil
	t.mu.Unlock()
	for _, f := range t.sources {
		f.Close()
	}
}

// close lets the clients go once they have everything.
func (t *task) close() {
	t.in.Close()
	t.out.Close()
}

func (t *task) resize(height, width uint16) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size = winsize{rows: height, cols: width}
	if t.master == nil {
		return nil
	}
	return setSize(t.master, t.size)
}

func (t *task) terminalSize() winsize {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size
}

// duplicate makes a second descriptor of a terminal's master, for input.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) {
		if fd, err = syscall.Dup(int(old)); err == nil {
			syscall.CloseOnExec(fd)
		}
	}); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), ""), nil
}

func setSize(master *os.File, size winsize) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	var e syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, e = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size)))
	})
	if err == nil && e != 0 {
		err = e
	}
	return err
}
