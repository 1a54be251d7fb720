package shimclient

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// spliceAfter is how much is copied before a stream is worth a pipe of its own.
const spliceAfter = 128 << 10

// pipeSize is what is asked for; a system that refuses leaves the default.
const pipeSize = 1 << 20

// buffers are as large as what a unix socket holds, so that a fast container needs few system calls.
var buffers = sync.Pool{New: func() any { b := make([]byte, 192<<10); return &b }}

// WriteTo copies the output until its end. Where the client is a socket too, the kernel moves the pages from one to the
// other once there is much to move.
func (s stream) WriteTo(w io.Writer) (int64, error) {
	to, ok := rawConn(w)
	if !ok {
		return s.copy(w, -1)
	}
	n, err := s.copy(w, spliceAfter)
	if err != nil || n < spliceAfter {
		return n, err
	}
	from, err := s.SyscallConn()
	if err != nil {
		return n, err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		m, err := s.copy(w, -1) // out of descriptors: the old way
		return n + m, err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	_, _ = unix.FcntlInt(uintptr(pipe[1]), unix.F_SETPIPE_SZ, pipeSize)
	m, err := splice(to, from, pipe)
	return n + m, err
}

// copy copies through memory until the end or, with a limit of 0 or more, until at least limit bytes were copied.
func (s stream) copy(w io.Writer, limit int64) (n int64, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for limit < 0 || n < limit {
		k, err := s.Read(*buf)
		if k > 0 {
			m, werr := w.Write((*buf)[:k])
			n += int64(m)
			if werr != nil {
				return n, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// rawConn is the socket behind a connection, if it is one.
func rawConn(w io.Writer) (syscall.RawConn, bool) {
	c, ok := w.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := c.SyscallConn()
	return raw, err == nil
}

// splice moves what comes from one socket to the other through a pipe until the end.
func splice(to, from syscall.RawConn, pipe [2]int) (total int64, err error) {
	for {
		n, err := splicePart(from.Read, func(fd int) (int64, error) {
			return unix.Splice(fd, nil, pipe[1], nil, pipeSize, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		})
		if errors.Is(err, unix.ECONNRESET) { // a shim that leaves input unread causes it
			err = nil
		}
		if n <= 0 || err != nil {
			return total, err
		}
		for n > 0 {
			m, err := splicePart(to.Write, func(fd int) (int64, error) {
				return unix.Splice(pipe[0], nil, fd, nil, int(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			})
			if err != nil {
				return total, err
			}
			n -= m
			total += m
		}
	}
}

// splicePart is one system call that has moved something, or met the end; wait is the socket's Read or Write.
func splicePart(wait func(func(fd uintptr) bool) error, call func(fd int) (int64, error)) (n int64, err error) {
	werr := wait(func(fd uintptr) bool {
		for {
			n, err = call(int(fd))
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if werr != nil {
		return 0, werr
	}
	return n, err
}
