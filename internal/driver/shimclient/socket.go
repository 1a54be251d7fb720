package shimclient

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"longshore/internal/base/shimproto"
	"longshore/internal/core/runtime"
)

// maxSocketPath is how long the path of a unix socket can be.
const maxSocketPath = 107

// withPath gives the path of the shim's socket to use; a path that is too long goes through a descriptor of dir.
func withPath(dir string, use func(path string) error) error {
	path := filepath.Join(dir, shimproto.SocketName)
	if len(path) <= maxSocketPath {
		return use(path)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return use("/proc/self/fd/" + strconv.Itoa(fd) + "/" + shimproto.SocketName)
}

// listen makes the socket that a shim inherits.
func listen(dir string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = withPath(dir, func(path string) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: path}) })
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// dial connects to the shim in dir and says what for.
func dial(dir string, p shimproto.Preface) (*net.UnixConn, error) {
	var conn *net.UnixConn
	err := withPath(dir, func(path string) (err error) {
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := p.Write(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// stream is a client's end of stdio.
type stream struct{ *net.UnixConn }

// Read maps the reset, which a shim that leaves input unread causes, to the end that it is.
func (s stream) Read(p []byte) (int, error) {
	n, err := s.UnixConn.Read(p)
	if err != nil && errors.Is(err, unix.ECONNRESET) {
		err = io.EOF
	}
	return n, err
}

func streamFlags(o runtime.AttachOptions) (f byte) {
	if o.Stdin {
		f |= shimproto.WantStdin
	}
	if o.Stdout {
		f |= shimproto.WantStdout
	}
	if o.Stderr {
		f |= shimproto.WantStderr
	}
	return f
}

// panicText is what a dead shim's Go runtime printed, shortened.
func panicText(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, shimproto.PanicName))
	if err != nil || len(b) == 0 {
		return ""
	}
	return string(b[:min(len(b), 1000)])
}
