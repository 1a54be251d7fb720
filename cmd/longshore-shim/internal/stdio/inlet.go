package stdio

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Inlet is the input side of a process: a pipe, a terminal's master, or nothing (then input is read and dropped).
type Inlet struct {
	closeOnEnd bool
	ready      chan struct{} // closed when the target is known
	once       sync.Once
	w          atomic.Pointer[os.File]
	mu         sync.Mutex // held over a write, so that clients' chunks stay whole
}

// NewInlet makes an inlet whose target comes later with Open. closeOnEnd makes the end of any client's input the end of
// the process's (StdinOnce, and execs).
func NewInlet(closeOnEnd bool) *Inlet {
	return &Inlet{closeOnEnd: closeOnEnd, ready: make(chan struct{})}
}

// Open gives the inlet its target, which it then owns; nil drops input. Only the first call counts.
func (in *Inlet) Open(w *os.File) {
	first := false
	in.once.Do(func() {
		in.w.Store(w)
		close(in.ready)
		first = true
	})
	if !first && w != nil {
		w.Close()
	}
}

// Close ends the process's stdin. A write that waits for the process is interrupted.
func (in *Inlet) Close() {
	in.Open(nil)
	if w := in.w.Swap(nil); w != nil {
		w.Close()
	}
}

func (in *Inlet) write(p []byte) {
	<-in.ready
	in.mu.Lock()
	defer in.mu.Unlock()
	w := in.w.Load()
	if w == nil {
		return
	}
	if _, err := w.Write(p); err != nil {
		in.Close()
	}
}

// Feed copies a client's input until it ends, then waits until the client has gone altogether. A client that does not
// send input is only watched.
func (in *Inlet) Feed(f *os.File, input bool) {
	size := 512
	if input {
		size = 32 << 10
	}
	buf := make([]byte, size)
	for {
		n, err := f.Read(buf)
		if n > 0 && input {
			in.write(buf[:n])
		}
		if err != nil {
			break
		}
	}
	if input && in.closeOnEnd {
		<-in.ready // input that was sent before the process started has been written by now
		in.Close()
	}
	waitHangup(f)
}

// waitHangup returns when the other side has closed both directions, or f was closed here.
func waitHangup(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(func(fd uintptr) bool { return hungUp(int32(fd)) })
}

const pollHangup, pollError = 0x10, 0x8

// hungUp asks the kernel without waiting. The runtime's poller wakes us on every change of the socket.
func hungUp(fd int32) bool {
	p := struct {
		fd              int32
		events, revents int16
	}{fd: fd}
	var now syscall.Timespec
	_, _, e := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return e != 0 && e != syscall.EINTR || p.revents&(pollHangup|pollError) != 0
}
