package stdio

import (
	"bytes"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pair is a client's connection: our end and the client's.
func pair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	p, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(p[0]), "ours"), os.NewFile(uintptr(p[1]), "theirs")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func chunk(text string) []byte { return append(make([]byte, HeadRoom), text...) }

func add(t *testing.T, o *Outlet, f *os.File, greeting ...byte) (remove func()) {
	t.Helper()
	remove, err := o.Add(f, true, true, greeting...)
	if err != nil {
		t.Fatal(err)
	}
	return remove
}

func TestFrames(t *testing.T) {
	var idle atomic.Int32
	o := NewOutlet(true, nil, func() { idle.Add(1) })
	ours, theirs := pair(t)
	add(t, o, ours, 'G')
	o.Write(Stdout, chunk("out"))
	o.Write(Stderr, chunk("error"))
	o.Close()
	got, err := io.ReadAll(theirs)
	if err != nil || string(got) != "G\x01\x00\x00\x00\x00\x00\x00\x03out\x02\x00\x00\x00\x00\x00\x00\x05error" {
		t.Errorf("%q %v", got, err)
	}
	if o.Busy() || idle.Load() != 1 {
		t.Error("the outlet is busy")
	}
	late, end := pair(t)
	add(t, o, late, 'G')
	if got, _ := io.ReadAll(end); string(got) != "G" {
		t.Errorf("after the end: %q", got)
	}
}

// TestQueue: more than the socket holds is delivered in order after the process has ended.
func TestQueue(t *testing.T) {
	o := NewOutlet(false, nil, func() {})
	ours, theirs := pair(t)
	add(t, o, ours)
	var want bytes.Buffer
	big := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	for i := range 14 { // a little less than the limit and the socket's buffer
		big[0] = byte('a' + i)
		want.Write(big)
		o.Write(Stdout, chunk(string(big)))
	}
	o.Release()
	for i := range 30 { // now without a limit
		big[0] = byte('A' + i)
		want.Write(big)
		o.Write(Stdout, chunk(string(big)))
	}
	o.Close()
	if got, err := io.ReadAll(theirs); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes of %d, %v", len(got), want.Len(), err)
	}
}

// fill writes until the client's queue is full and the writer waits; the channel closes when it goes on to its end.
func fill(o *Outlet) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		c := chunk(string(make([]byte, 64<<10)))
		for range 64 {
			o.Write(Stdout, c)
		}
	}()
	return over
}

// TestStalled: a client whose daemon does not answer is cut off; a living daemon's client is waited for.
func TestStalled(t *testing.T) {
	var lives atomic.Bool
	lives.Store(true)
	asked := make(chan struct{}, 100)
	idle := make(chan struct{})
	o := NewOutlet(false, func() bool { asked <- struct{}{}; return lives.Load() }, func() { close(idle) })
	o.stall = 5 * time.Millisecond
	ours, _ := pair(t)
	add(t, o, ours)
	over := fill(o)
	for range 3 {
		<-asked
	}
	select {
	case <-over:
		t.Error("nobody waited for the client")
	default:
	}
	lives.Store(false)
	<-over
	<-idle // the client is forgotten
}

// TestRemoved: a client that goes away frees who waits for it.
func TestRemoved(t *testing.T) {
	o := NewOutlet(false, func() bool { return true }, func() {})
	ours, theirs := pair(t)
	remove := add(t, o, ours)
	over := fill(o)
	buf := make([]byte, 1)
	theirs.Read(buf)
	var wg sync.WaitGroup
	in := NewInlet(false)
	in.Open(nil)
	wg.Go(func() { in.Feed(ours, false); remove() })
	theirs.Close()
	<-over
	wg.Wait()
}

// TestFeed: the end of input is told apart from the end of the client.
func TestFeed(t *testing.T) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
	defer r.Close()
	in := NewInlet(true)
	ours, theirs := pair(t)
	var fed atomic.Bool
	over := make(chan struct{})
	go func() { in.Feed(ours, true); fed.Store(true); close(over) }()
	theirs.Write([]byte("early ")) // before the process runs
	in.Open(w)
	theirs.Write([]byte("late"))
	raw, _ := theirs.SyscallConn()
	raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	if got, err := io.ReadAll(r); err != nil || string(got) != "early late" {
		t.Errorf("%q %v", got, err)
	}
	if fed.Load() {
		t.Error("the client counts as gone after its half-close")
	}
	theirs.Close()
	<-over
}

// TestPump: everything up to the end goes to the log and to the clients.
func TestPump(t *testing.T) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
	o := NewOutlet(false, nil, func() {})
	ours, theirs := pair(t)
	add(t, o, ours)
	go func() { w.Write([]byte("text")); w.Close() }()
	var log bytes.Buffer
	Pump(r, Stdout, func(p []byte, _ int64) { log.Write(p) }, o)
	o.Close()
	if got, _ := io.ReadAll(theirs); string(got) != "text" || log.String() != "text" {
		t.Errorf("%q %q", got, log.String())
	}
}

// TestPumpMuch: whatever the sizes of the pieces and the speed of the log, log and clients get everything in order.
func TestPumpMuch(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	o := NewOutlet(false, func() bool { return true }, func() {})
	ours, theirs := pair(t)
	add(t, o, ours)
	var want, logged bytes.Buffer
	for i := range 400 { // phases of large and small pieces
		n := 10
		if i/50%2 == 0 {
			n = chunkSize
		}
		want.Write(bytes.Repeat([]byte{byte(i)}, n))
	}
	go func() {
		defer w.Close()
		text := want.Bytes()
		for i := 0; len(text) > 0; i++ {
			n := min(10, len(text))
			if i/50%2 == 0 {
				n = min(chunkSize, len(text))
			}
			if _, err := w.Write(text[:n]); err != nil {
				return
			}
			text = text[n:]
		}
	}()
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(theirs)
		got <- b
	}()
	var last int64
	Pump(r, Stdout, func(p []byte, now int64) {
		if now < last {
			t.Error("the log goes back in time")
		}
		last = now
		if len(p) == chunkSize && logged.Len()%(5*chunkSize) < chunkSize {
			time.Sleep(time.Millisecond) // a log that is slow at times
		}
		logged.Write(p)
	}, o)
	o.Close()
	if !bytes.Equal(logged.Bytes(), want.Bytes()) {
		t.Errorf("logged %d bytes of %d, or others", logged.Len(), want.Len())
	}
	if b := <-got; !bytes.Equal(b, want.Bytes()) {
		t.Errorf("the client got %d bytes of %d, or others", len(b), want.Len())
	}
}

// TestPipeOfBusyProcess: the pipe of a process that writes much is wide, and narrow again afterwards; nothing is lost or
// turned round on the way.
func TestPipeOfBusyProcess(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var log bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		Pump(r, Stdout, func(p []byte, _ int64) { log.Write(p) }, NewOutlet(true, nil, func() {}))
	}()
	size := func() uintptr {
		n, _, _ := syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), 1032, 0) // F_GETPIPE_SZ
		return n
	}
	block := bytes.Repeat([]byte("0123456789abcde\n"), 64<<10/16)
	var want bytes.Buffer
	for limit := time.Now().Add(30 * time.Second); size() != widePipe; {
		if time.Now().After(limit) {
			t.Fatalf("the pipe of a busy process holds %d bytes", size())
		}
		want.Write(block)
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	for limit := time.Now().Add(30 * time.Second); size() != chunkSize; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the pipe of a quiet process holds %d bytes", size())
		}
		want.WriteString("quiet\n")
		if _, err := w.WriteString("quiet\n"); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	<-done
	if !bytes.Equal(log.Bytes(), want.Bytes()) {
		t.Errorf("%d bytes were logged of %d", log.Len(), want.Len())
	}
}
