// Package socket asks the kernel about connections.
package socket

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection that lets its socket be looked at.
type Conn interface {
	syscall.Conn
	SetReadDeadline(t time.Time) error
}

// HungUp waits until the client has closed the whole connection, without reading from it: true. One that has closed only
// its own half still wants an answer. It is false when ctx is done, or when the transport cannot tell. Nobody may read
// meanwhile.
func HungUp(ctx context.Context, c Conn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.SetReadDeadline(time.Unix(1, 0))
		close(woken)
	})
	gone := false
	_ = raw.Read(func(fd uintptr) bool { // called again whenever something happens to the socket
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
		return gone
	})
	if !stop() {
		<-woken
	}
	_ = c.SetReadDeadline(time.Time{})
	return gone
}
