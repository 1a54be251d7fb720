package socket

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// AwaitRead waits until the other side of a local socket has read what was sent to it, or the limit is over. Of other
// connections nobody can tell: it returns at once.
func AwaitRead(conn net.Conn, limit time.Duration) {
	sc, ok := conn.(syscall.Conn)
	if !ok || conn.LocalAddr().Network() != "unix" {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	unread := func() bool {
		n := 0
		broken := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		return broken == nil && err == nil && n > 0
	}
	begin := time.Now()
	for pause := 20 * time.Microsecond; unread() && time.Since(begin) < limit; pause = min(2*pause, time.Millisecond) {
		time.Sleep(pause)
	}
}
