package harness

import (
	"net"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Listen opens a TCP port of 127.0.0.1 in the daemon's network namespace, for a server that the test is itself.
func (d *Daemon) Listen() net.Listener {
	d.T.Helper()
	type opened struct {
		l   net.Listener
		err error
	}
	result := make(chan opened, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		f, err := os.Open(filepath.Join("/run/netns", d.NetNS))
		if err != nil {
			result <- opened{err: err}
			return
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- opened{err: err}
			return
		}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		result <- opened{l, err}
	}()
	r := <-result
	if r.err != nil {
		d.T.Fatal(r.err)
	}
	d.T.Cleanup(func() { _ = r.l.Close() })
	return r.l
}
