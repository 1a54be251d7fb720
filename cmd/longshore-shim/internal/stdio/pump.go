package stdio

import (
	"os"
	"syscall"
	"time"
)

// chunkSize is how much output is read at once: a pipe's default capacity.
const chunkSize = 64 << 10

// busyChunk is a read that tells of a process that writes faster than it is logged.
const busyChunk = chunkSize / 2

// wideChunk and widePipe are the sizes of chunks and pipe while a process is busy: fewer wake-ups of everybody on the way.
const (
	wideChunk = 128 << 10
	widePipe  = 256 << 10
)

// buffersAtMost bounds how far the log may be behind the clients.
const buffersAtMost = 3

// Log writes what a stream brought to the log. It may change nothing in p.
type Log func(p []byte, unixNano int64)

// Pump copies what a process writes until its end to the log and to the clients. The read deadline of f bounds it. What
// comes in small pieces is in the log before a client sees it; a process that writes much has its log written beside.
// Everything is logged when Pump returns.
func Pump(f *os.File, stream byte, log Log, out *Outlet) {
	var back *behind
	buf := newChunk(chunkSize)
	for {
		n, err := f.Read(buf[HeadRoom:])
		if n > 0 {
			now := time.Now().UnixNano()
			switch {
			case log == nil:
			case n >= busyChunk && back == nil:
				back = logBehind(log)
				back.take(buf, n, now)
				resize(f, widePipe)
			case back != nil && n < busyChunk && back.settled():
				back.end()
				back = nil
				resize(f, chunkSize)
				log(buf[HeadRoom:HeadRoom+n], now)
			case back != nil:
				back.take(buf, n, now)
			default:
				log(buf[HeadRoom:HeadRoom+n], now)
			}
			out.Write(stream, buf[:HeadRoom+n])
			if back != nil {
				buf = back.buffer()
			}
		}
		if err != nil { // io.EOF, EIO of a terminal without users, or the deadline
			if back != nil {
				back.end()
			}
			return
		}
	}
}

func newChunk(size int) []byte { return make([]byte, HeadRoom+size) }

// resize changes what a pipe holds. Wide pipes count against what all pipes of root may hold, containers' own among them,
// so that only those have one that are busy. Terminals have no size.
func resize(f *os.File, size int) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, uintptr(size)) })
}

// setPipeSize is F_SETPIPE_SZ, which package syscall lacks.
const setPipeSize = 1031

// behind logs in a goroutine of its own. It belongs to one Pump.
type behind struct {
	jobs chan job
	free chan []byte
	made int // buffers that exist
	away int // buffers that the log has
}

type job struct {
	buf      []byte
	n        int
	unixNano int64
}

func logBehind(log Log) *behind {
	b := &behind{jobs: make(chan job, buffersAtMost), free: make(chan []byte, buffersAtMost), made: 1}
	go func() {
		defer close(b.free)
		for j := range b.jobs {
			log(j.buf[HeadRoom:HeadRoom+j.n], j.unixNano)
			b.free <- j.buf
		}
	}()
	return b
}

// take gives a chunk to the log; the caller may go on reading it but not write to it.
func (b *behind) take(buf []byte, n int, unixNano int64) {
	b.away++
	b.jobs <- job{buf, n, unixNano}
}

// buffer is one to read into next. It waits when the log is too far behind.
func (b *behind) buffer() []byte {
	if b.made < buffersAtMost && len(b.free) == 0 {
		b.made++
		return newChunk(wideChunk)
	}
	b.away--
	return <-b.free
}

// settled tells whether everything that was taken is logged.
func (b *behind) settled() bool { return len(b.free) == b.away }

// end waits until everything is logged.
func (b *behind) end() {
	close(b.jobs)
	for range b.free {
	}
}
