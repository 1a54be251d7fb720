package main

import (
	"os"
	"strconv"
	"syscall"

	"longshore/cmd/longshore-shim/internal/stdio"
)

// wiring is the stdio of a process that is being launched: the child's ends and ours.
type wiring struct {
	child      [3]uintptr
	opened     []int // descriptors of the child's side
	ours       [3]*os.File
	complaints *os.File // where an OCI runtime that uses a console would complain
	console    *consoleSocket
}

// wire makes the pipes. With a terminal the OCI runtime's own output goes to a pipe of its own.
func (t *task) wire() (w *wiring, err error) {
	w = &wiring{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	w.opened = append(w.opened, null)
	w.child = [3]uintptr{uintptr(null), uintptr(null), uintptr(null)}
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

func (w *wiring) input() error {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
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
	w.child[i] = uintptr(p[1])
	w.opened = append(w.opened, p[1])
	return ourEnd(p[0]), nil
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

// consoleSocket takes a terminal's master from an OCI runtime.
type consoleSocket struct {
	fd, dir int
	file    string
	path    string // as the OCI runtime is to be told
}

// listenConsole listens on <dir>/<name>. A directory whose path is too long is reached through our descriptor of it.
func listenConsole(dir, name string) (*consoleSocket, error) {
	c := &consoleSocket{fd: -1, dir: -1, file: dir + "/" + name, path: dir + "/" + name}
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
		c.fd = fd
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

// receive takes the master. The OCI runtime has ended well by now, so it has connected and sent: nothing waits here.
func (c *consoleSocket) receive() (int, error) {
	conn, _, err := syscall.Accept4(c.fd, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
	if err != nil {
		return -1, err
	}
	defer syscall.Close(conn)
	var data [4096]byte
	var oob [64]byte
	_, n, _, _, err := syscall.Recvmsg(conn, data[:], oob[:], syscall.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return -1, err
	}
	for i := range messages {
		if fds, err := syscall.ParseUnixRights(&messages[i]); err == nil && len(fds) > 0 {
			return fds[0], nil
		}
	}
	return -1, textError("no terminal came")
}

func (c *consoleSocket) close() {
	if c.fd >= 0 {
		syscall.Close(c.fd)
		os.Remove(c.file)
	}
	if c.dir >= 0 {
		syscall.Close(c.dir)
	}
}
