package stream

import (
	"bufio"
	"errors"
	"net"
	"syscall"
)

// Conn is a hijacked connection: reads what the server had buffered first.
type Conn struct {
	net.Conn
	r *bufio.Reader
}

// NewConn wraps a connection and the reader that may hold bytes of it.
func NewConn(c net.Conn, r *bufio.Reader) *Conn { return &Conn{Conn: c, r: r} }

// Read implements io.Reader.
func (c *Conn) Read(p []byte) (int, error) {
	if c.r != nil {
		if n := c.r.Buffered(); n > 0 {
			return c.r.Read(p[:min(len(p), n)])
		}
		c.r = nil
	}
	return c.Conn.Read(p)
}

// CloseWrite half-closes towards the client; transports that cannot say so.
func (c *Conn) CloseWrite() error {
	if hc, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SyscallConn gives the socket to whoever writes through the kernel; what encrypts has none.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
