package main

import (
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"longshore/cmd/longshore-shim/internal/stdio"
)

// wiring is the stdio of a process that is being launched: the child's ends and ours.
type wiring struct {
	child      [3]uintptr
	opened     []int // descriptors of the child's side
	ours       [3]*os.File
	complaints *os.File // where an OCI runtime that uses a console would complain
	console    *consoleSocket
	uid, gid   int // the container's root on the host
}

// wire makes the pipes. With a terminal the OCI runtime's own output goes to a pipe of its own.
func (t *task) wire() (w *wiring, err error) {
	w = &wiring{uid: t.s.cfg.UID, gid: t.s.cfg.GID}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if err = w.unwanted(t.cfg.pipes); err != nil {
		return nil, err
	}
	c := t.cfg
	if c.terminal {
		if w.complaints, err = w.output(1); err != nil {
			return nil, err
		}
		w.child[2] = w.child[1]
		return w, nil
	}
	if c.stdin {
		if err = w.input(); err != nil {
			return nil, err
		}
	}
	for i, wanted := range []bool{stdio.Stdout: c.stdout, stdio.Stderr: c.stderr} {
		if wanted {
			if w.ours[i], err = w.output(i); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

// unwanted gives the child streams that lead nowhere. In a user namespace, and for an exec that crun starts, these are not
// the host's /dev/null: crun gives what it finds there to the container's root, or to the exec's user.
func (w *wiring) unwanted(pipes bool) error {
	if w.uid == 0 && w.gid == 0 && !pipes {
		null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		w.opened = append(w.opened, null)
		w.child = [3]uintptr{uintptr(null), uintptr(null), uintptr(null)}
		return nil
	}
	if err := w.input(); err != nil {
		return err
	}
	w.take(0).Close()
	out, err := w.output(1)
	if err != nil {
		return err
	}
	go func() { // ends with the last process that has the stream
		io.Copy(io.Discard, out)
		out.Close()
	}()
	w.child[2] = w.child[1]
	return nil
}

func (w *wiring) input() error {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	w.give(p[0])
	w.child[0] = uintptr(p[0])
	w.opened = append(w.opened, p[0])
	w.ours[0] = ourEnd(p[1])
	return nil
}

func (w *wiring) output(i int) (*os.File, error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	w.give(p[1])
	w.child[i] = uintptr(p[1])
	w.opened = append(w.opened, p[1])
	return ourEnd(p[0]), nil
}

// give lets the container's root open the child's end by name (/dev/stdout), in a user namespace too.
func (w *wiring) give(fd int) {
	if w.uid != 0 || w.gid != 0 {
		syscall.Fchown(fd, w.uid, w.gid)
	}
}

// giveTo lets a user of the container open the child's pipes by name; the host's /dev/null stays the host's.
func (w *wiring) giveTo(uid, gid int) {
	if uid == 0 && gid == 0 {
		return
	}
	for _, fd := range w.opened {
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFIFO {
			syscall.Fchown(fd, uid, gid)
		}
	}
}

func ourEnd(fd int) *os.File {
	syscall.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "")
}

// closeChild closes the child's side once the child has it.
func (w *wiring) closeChild() {
	for _, fd := range w.opened {
		syscall.Close(fd)
	}
	w.opened = nil
}

// take gives one of our ends away; nil when there is none.
func (w *wiring) take(i int) *os.File {
	f := w.ours[i]
	w.ours[i] = nil
	return f
}

// close closes everything that was not taken.
func (w *wiring) close() {
	w.closeChild()
	for _, f := range append(w.ours[:], w.complaints) {
		if f != nil {
			f.Close()
		}
	}
}

// words collects what the OCI runtime said about its failure: its log, then what it wrote to stderr.
func (w *wiring) words(logFile string, code int) string {
	b, _ := os.ReadFile(logFile)
	if len(b) > 64<<10 {
		b = b[len(b)-64<<10:]
	}
	text := string(b)
	for _, f := range []*os.File{w.ours[2], w.complaints} {
		if f == nil {
			continue
		}
		var fd int
		raw, err := f.SyscallConn()
		if err != nil {
			continue
		}
		buf := make([]byte, 16<<10)
		n := 0
		raw.Control(func(h uintptr) { fd = int(h); n, _ = syscall.Read(fd, buf) }) // never waits: the end is non-blocking
		text += string(buf[:max(n, 0)])
	}
	if text == "" {
		text = "the OCI runtime ended with status " + strconv.Itoa(code)
	}
	return text
}

// maxSocketPath is how long the path of a unix socket can be.
const maxSocketPath = 107

// consoleTime is how long a terminal that the OCI runtime has sent may take to arrive.
const consoleTime = 5 * time.Second

// consoleSocket takes a terminal's master from an OCI runtime.
type consoleSocket struct {
	l    *os.File // the listening socket
	dir  int
	file string
	path string // as the OCI runtime is to be told
	came chan master
}

// master is a terminal's master side, or why it did not come.
type master struct {
	f   *os.File
	err error
}

// listenConsole listens on <dir>/<name>. A directory whose path is too long is reached through our descriptor of it.
func listenConsole(dir, name string) (*consoleSocket, error) {
	c := &consoleSocket{dir: -1, came: make(chan master, 1), file: dir + "/" + name, path: dir + "/" + name}
	bind := c.path
	if len(bind) > maxSocketPath {
		fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		c.dir = fd
		rest := "/fd/" + strconv.Itoa(fd) + "/" + name
		bind, c.path = "/proc/self"+rest, "/proc/"+strconv.Itoa(os.Getpid())+rest
	}
	os.Remove(c.file)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err == nil {
		c.l = os.NewFile(uintptr(fd), "")
		err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: bind})
	}
	if err == nil {
		err = syscall.Listen(fd, 1)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// receive waits for the master while the OCI runtime is at work and gives it its size before the process can ask: not
// every runtime does that for an exec.
func (c *consoleSocket) receive(size func() winsize) {
	f, err := c.take()
	if err == nil {
		if z := size(); z.rows != 0 || z.cols != 0 {
			setSize(f, z)
		}
	}
	c.came <- master{f, err}
}

func (c *consoleSocket) take() (*os.File, error) {
	raw, err := c.l.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var got error
	if err := raw.Read(func(l uintptr) bool {
		fd, _, got = syscall.Accept4(int(l), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
		return got != syscall.EAGAIN
	}); err != nil {
		return nil, err
	}
	if got != nil {
		return nil, got
	}
	conn := os.NewFile(uintptr(fd), "")
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(consoleTime))
	if raw, err = conn.SyscallConn(); err != nil {
		return nil, err
	}
	var data [4096]byte
	var oob [64]byte
	var n int
	if err := raw.Read(func(s uintptr) bool {
		_, n, _, _, got = syscall.Recvmsg(int(s), data[:], oob[:], syscall.MSG_CMSG_CLOEXEC)
		return got != syscall.EAGAIN
	}); err != nil {
		return nil, err
	}
	if got != nil {
		return nil, got
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, err
	}
	for i := range messages {
		if fds, err := syscall.ParseUnixRights(&messages[i]); err == nil && len(fds) > 0 {
			syscall.SetNonblock(fds[0], true)
			return os.NewFile(uintptr(fds[0]), ""), nil
		}
	}
	return nil, textError("no terminal came")
}

// wait returns the master. The OCI runtime has ended well by now, so it has sent it.
func (c *consoleSocket) wait() (*os.File, error) {
	limit := time.NewTimer(consoleTime)
	defer limit.Stop()
	select {
	case m := <-c.came:
		return m.f, m.err
	case <-limit.C:
		return nil, textError("no terminal came")
	}
}

// close gives up; a master that nobody waited for is closed.
func (c *consoleSocket) close() {
	if c.l != nil {
		c.l.Close() // ends receive
		os.Remove(c.file)
	}
	select {
	case m := <-c.came:
		if m.f != nil {
			m.f.Close()
		}
	default:
	}
	if c.dir >= 0 {
		syscall.Close(c.dir)
	}
}
