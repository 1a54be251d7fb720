// Package checks is the process that runs the health checks of a daemon's containers: one for all, so that it is warm
// where 500 shims that take turns are cold. It ends with its connection, and with it all that it has started.
//
// Nothing here waits in a system call of its own: the Go runtime's poller does, and what does not wait goes past the
// scheduler (RawSyscall), which would wake its timer thread for each call otherwise.
package checks

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"longshore/cmd/longshore-shim/internal/enter"
	"longshore/internal/base/shimproto"
)

const (
	// short is how long output is left in its pipe: most checks have ended by then.
	short = 20 * time.Millisecond
	// drainTime is how long output may come after the command has ended, from descendants; docker's, as for execs.
	drainTime = 2 * time.Second
)

// server is the process's state.
type server struct {
	host  *enter.Host
	conn  syscall.RawConn
	null  int // standard input of all
	epoll int

	mu    sync.Mutex // guards what follows, host.Begin, and the checks
	calls map[uint32]*check
	fds   map[int32]*check // by pidfd, and by the output's descriptor while it is watched
	buf   [shimproto.MaxCheckOutput]byte
}

// check is one command.
type check struct {
	call  uint32
	order *enter.Order
	pid   int
	pidfd int
	out   int // -1 once it has ended
	left  time.Duration
	timer *time.Timer

	watched bool // out is in the epoll
	ended   bool // the process has been reaped
	told    bool // the answer is sent, or not wanted
	answer  shimproto.CheckAnswer
	text    []byte
}

// Run serves the socket fd until it ends.
func Run(fd int) error {
	if !enter.Possible() {
		return errors.New("not on a read-only mount")
	}
	noFile, err := enter.FirstLimit()
	if err != nil {
		return err
	}
	s := &server{calls: map[uint32]*check{}, fds: map[int32]*check{}}
	if s.host, err = enter.NewHost(noFile); err != nil {
		return err
	}
	if s.null, err = syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0); err != nil {
		return err
	}
	if s.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	ends, err := poll(s.epoll)
	if err != nil {
		return err
	}
	syscall.CloseOnExec(fd)
	if s.conn, err = poll(fd); err != nil {
		return err
	}
	go s.watch(ends)
	s.serve()
	s.mu.Lock() // and is kept: nothing is started any more
	for _, c := range s.calls {
		enter.SignalFD(c.pidfd, syscall.SIGKILL)
	}
	return nil
}

// poll has the runtime's poller wait for a descriptor.
func poll(fd int) (syscall.RawConn, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "").SyscallConn()
}

// serve takes requests until the connection ends.
func (s *server) serve() {
	message := make([]byte, shimproto.MaxCheck+1)
	for {
		n, init := 0, -1
		var e syscall.Errno
		err := s.conn.Read(func(fd uintptr) bool {
			n, init, e = receive(fd, message)
			return e != syscall.EAGAIN && e != syscall.EINTR
		})
		if err != nil || e != 0 || n <= 0 {
			return
		}
		s.handle(message[:n], init)
	}
}

// receive takes a message and the descriptor that came with it, -1 without one.
func receive(fd uintptr, b []byte) (n, extra int, e syscall.Errno) {
	var oob [24]byte // of one descriptor
	iov := syscall.Iovec{Base: &b[0]}
	iov.SetLen(len(b))
	h := syscall.Msghdr{Iov: &iov, Iovlen: 1, Control: &oob[0]}
	h.SetControllen(len(oob))
	got, _, e := syscall.RawSyscall(syscall.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&h)), syscall.MSG_CMSG_CLOEXEC)
	if e != 0 {
		return 0, -1, e
	}
	extra = -1
	if list, err := syscall.ParseSocketControlMessage(oob[:h.Controllen]); err == nil && len(list) == 1 {
		if fds, err := syscall.ParseUnixRights(&list[0]); err == nil && len(fds) == 1 {
			extra = fds[0]
		}
	}
	return int(got), extra, 0
}

// handle starts a check or kills one.
func (s *server) handle(message []byte, init int) {
	r, at, plan, err := shimproto.DecodeCheck(message)
	switch {
	case err != nil || plan != nil && init < 0:
		closeFD(init)
		s.send(shimproto.CheckAnswer{Call: r.Call, Status: shimproto.Failed})
	case plan == nil:
		closeFD(init)
		s.cancel(r.Call)
	case at.Homed && at.Group == "":
		s.start(r, at, plan, init)
	default:
		go s.start(r, at, plan, init)
	}
}

// start begins a check; init is given away.
func (s *server) start(r shimproto.CheckRequest, at *shimproto.Place, plan *shimproto.Plan, init int) {
	defer closeFD(init)
	var p [2]int32
	if _, _, e := syscall.RawSyscall(syscall.SYS_PIPE2, uintptr(unsafe.Pointer(&p)), syscall.O_CLOEXEC, 0); e != 0 {
		s.send(shimproto.CheckAnswer{Call: r.Call, Status: shimproto.Failed})
		return
	}
	out, child := int(p[0]), int(p[1])
	defer closeFD(child)
	if plan.UID != 0 || plan.GID != 0 { // they may open it by name
		_ = syscall.Fchown(child, int(plan.UID), int(plan.GID))
	}
	syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(out), syscall.F_SETFL, syscall.O_NONBLOCK)
	order, err := s.host.Prepare(plan, at, init, [3]uintptr{uintptr(s.null), uintptr(child), uintptr(child)})
	if err != nil {
		closeFD(out)
		s.send(shimproto.CheckAnswer{Call: r.Call, Status: shimproto.Failed})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &check{call: r.Call, order: order, out: out, left: time.Duration(r.TimeoutNano), answer: shimproto.CheckAnswer{Call: r.Call, Home: order.Home}}
	c.pid, c.pidfd, err = s.host.Begin(order)
	if err == nil && !s.add(c.pidfd, c) {
		err = syscall.ENOMEM
		enter.SignalFD(c.pidfd, syscall.SIGKILL)
		_, _ = syscall.Wait4(c.pid, nil, 0, nil)
		closeFD(c.pidfd)
	}
	if err != nil {
		closeFD(out)
		c.answer.Status = shimproto.Failed
		if err == syscall.ESRCH {
			c.answer.Status = shimproto.Gone
		}
		s.send(c.answer)
		return
	}
	s.calls[c.call] = c
	c.timer = time.AfterFunc(min(short, c.left), func() { s.due(c) })
	c.left -= short
}

// add watches a descriptor of a check. The caller holds the lock.
func (s *server) add(fd int, c *check) bool {
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	_, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(s.epoll), syscall.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
	if e == 0 {
		s.fds[int32(fd)] = c
	}
	return e == 0
}

// watch follows what happens to processes and outputs.
func (s *server) watch(ends syscall.RawConn) {
	var list [16]syscall.EpollEvent
	for {
		n := uintptr(0)
		err := ends.Read(func(fd uintptr) bool {
			const sysPwait = syscall.SYS_EPOLL_PWAIT
			var e syscall.Errno
			n, _, e = syscall.RawSyscall6(sysPwait, fd, uintptr(unsafe.Pointer(&list)), uintptr(len(list)), 0, 0, 0)
			return e == 0 && n > 0 || e != 0 && e != syscall.EINTR
		})
		if err != nil {
			os.Exit(1)
		}
		s.mu.Lock()
		for _, event := range list[:n] {
			if c := s.fds[event.Fd]; c == nil {
				continue
			} else if int(event.Fd) == c.out {
				s.read(c)
			} else {
				s.reap(c)
			}
		}
		s.mu.Unlock()
	}
}

// reap takes the process's end. The caller holds the lock.
func (s *server) reap(c *check) {
	var status uint32
	pid, _, e := syscall.RawSyscall6(syscall.SYS_WAIT4, uintptr(c.pid), uintptr(unsafe.Pointer(&status)), syscall.WNOHANG, 0, 0, 0)
	if e != 0 || pid == 0 {
		return
	}
	c.ended = true
	w := syscall.WaitStatus(status)
	c.answer.Code = w.ExitStatus()
	if w.Signaled() {
		c.answer.Code = 128 + int(w.Signal())
	}
	delete(s.fds, int32(c.pidfd))
	closeFD(c.pidfd)
	if s.host.Failed(c.order) {
		c.answer.Status = shimproto.Failed
		s.closeOut(c)
	}
	if c.told {
		s.drop(c)
		return
	}
	if c.out >= 0 {
		s.read(c)
	}
	if c.told { // the output has ended, too
		return
	}
	c.timer.Stop()
	c.timer = time.AfterFunc(drainTime, func() { s.due(c) })
	s.listen(c)
}

// read takes what there is of the output. The caller holds the lock.
func (s *server) read(c *check) {
	for c.out >= 0 {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(c.out), uintptr(unsafe.Pointer(&s.buf)), uintptr(len(s.buf)))
		switch {
		case e == syscall.EINTR:
			continue
		case e == syscall.EAGAIN:
			return
		case e != 0 || n == 0:
			s.closeOut(c)
			continue
		}
		kept := min(int(n), shimproto.MaxCheckOutput-len(c.text))
		c.text = append(c.text, s.buf[:kept]...)
		c.answer.More = c.answer.More || kept < int(n)
	}
	if c.ended && !c.told {
		s.finish(c)
	}
}

// listen has the output read as it comes. The caller holds the lock.
func (s *server) listen(c *check) {
	if c.out >= 0 && !c.watched {
		c.watched = s.add(c.out, c)
	}
}

func (s *server) closeOut(c *check) {
	if c.out >= 0 {
		delete(s.fds, int32(c.out))
		closeFD(c.out)
		c.out = -1
	}
}

// due is the check's timer: first its output is read, so that a full pipe does not hold it, then its time is over; after
// its end, that of the output.
func (s *server) due(c *check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.told:
	case c.ended:
		s.finish(c)
	case c.left > 0:
		c.timer = time.AfterFunc(c.left, func() { s.due(c) })
		c.left = 0
		s.listen(c)
	default:
		if c.out >= 0 {
			s.read(c)
		}
		c.answer.Late = true
		enter.SignalFD(c.pidfd, syscall.SIGKILL)
		s.finish(c)
	}
}

// cancel kills a check whose end nobody waits for.
func (s *server) cancel(call uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[call]
	if c == nil || c.told {
		return
	}
	c.told = true
	if !c.ended {
		enter.SignalFD(c.pidfd, syscall.SIGKILL)
	}
	s.drop(c)
}

// finish answers. The caller holds the lock.
func (s *server) finish(c *check) {
	c.told = true
	c.answer.Output = string(c.text)
	s.drop(c)
	s.send(c.answer)
}

// drop gives back what the check has; its process is waited for.
func (s *server) drop(c *check) {
	c.timer.Stop()
	s.closeOut(c)
	if c.ended {
		delete(s.calls, c.call)
	}
}

// send answers a request. A daemon that does not read its answers is waited for.
func (s *server) send(a shimproto.CheckAnswer) {
	b := a.Encode()
	_ = s.conn.Write(func(fd uintptr) bool {
		_, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
		return e != syscall.EAGAIN && e != syscall.EINTR
	})
}

// closeFD closes a descriptor whose closing does not wait: pipes, pidfds.
func closeFD(fd int) {
	if fd >= 0 {
		syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0)
	}
}
