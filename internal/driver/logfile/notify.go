package logfile

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// notifier shares one inotify instance among all followers, because the kernel allows a user only 128 of them. It
// exists while somebody follows.
type notifier struct {
	mu    sync.Mutex // guards what follows
	f     *os.File
	raw   int
	ended chan struct{} // closed when the reading goroutine of f has ended
	dirs  map[string]*watched
	byWD  map[int32]*watched
}

type watched struct {
	dir  string
	wd   int
	subs map[chan struct{}]struct{}
}

// events of a log's directory: a file grew, appeared, or was renamed.
const events = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO

// watch delivers a token after changes in dir until cancel.
func (n *notifier) watch(dir string) (wake <-chan struct{}, cancel func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.f == nil {
		if err := n.open(); err != nil {
			return nil, nil, err
		}
	}
	w := n.dirs[dir]
	if w == nil {
		wd, err := unix.InotifyAddWatch(n.raw, dir, events)
		if err != nil {
			n.closeIdle()
			return nil, nil, &os.PathError{Op: "watch", Path: dir, Err: err}
		}
		if w = n.byWD[int32(wd)]; w == nil { // else the same directory by another name
			w = &watched{dir: dir, wd: wd, subs: map[chan struct{}]struct{}{}}
			n.byWD[int32(wd)] = w
			n.dirs[dir] = w
		}
	}
	ch := make(chan struct{}, 1)
	w.subs[ch] = struct{}{}
	return ch, func() { n.drop(w, ch) }, nil
}

func (n *notifier) open() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	n.f, n.raw, n.ended = os.NewFile(uintptr(fd), "inotify"), fd, make(chan struct{})
	n.dirs, n.byWD = map[string]*watched{}, map[int32]*watched{}
	go n.read(n.f, n.ended)
	return nil
}

func (n *notifier) drop(w *watched, ch chan struct{}) {
	n.mu.Lock()
	delete(w.subs, ch)
	if len(w.subs) == 0 && n.byWD[int32(w.wd)] == w {
		unix.InotifyRmWatch(n.raw, uint32(w.wd))
		n.forget(w)
	}
	ended := n.closeIdle()
	n.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

func (n *notifier) forget(w *watched) {
	delete(n.byWD, int32(w.wd))
	delete(n.dirs, w.dir)
}

// closeIdle closes an instance that nobody uses; the caller may wait for its goroutine once it has let the lock go.
func (n *notifier) closeIdle() <-chan struct{} {
	if n.f == nil || len(n.byWD) > 0 {
		return nil
	}
	n.f.Close()
	n.f = nil
	return n.ended
}

// read wakes subscribers. A lost event (queue overflow) wakes all.
func (n *notifier) read(f *os.File, ended chan<- struct{}) {
	defer close(ended)
	buf := make([]byte, 16<<10)
	for {
		k, err := f.Read(buf)
		if err != nil {
			return
		}
		n.mu.Lock()
		if n.f == f {
			for b := buf[:k]; len(b) >= unix.SizeofInotifyEvent; {
				wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
				size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
				b = b[min(size, len(b)):]
				n.event(wd, mask)
			}
		}
		n.mu.Unlock()
	}
}

func (n *notifier) event(wd int32, mask uint32) {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		for _, w := range n.byWD {
			w.wake()
		}
		return
	}
	w := n.byWD[wd]
	if w == nil {
		return
	}
	w.wake()
	if mask&unix.IN_IGNORED != 0 { // the directory is gone
		n.forget(w)
	}
}

func (w *watched) wake() {
	for ch := range w.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
