package shimclient

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/logs"
	"longshore/internal/core/runtime"
	"longshore/internal/driver/logfile"
)

func (r *rig) attach(p runtime.Process, o runtime.AttachOptions) runtime.Stream {
	r.t.Helper()
	s, err := p.Attach(testContext(r.t), o)
	r.check(err)
	r.t.Cleanup(func() { s.Close() })
	return s
}

func (r *rig) start(l runtime.Launch) runtime.Process {
	r.t.Helper()
	p := r.spawn(l)
	r.check(p.Start(testContext(r.t)))
	return p
}

// expect reads until text has come.
func (r *rig) expect(s io.Reader, text string) string {
	r.t.Helper()
	if d, ok := s.(interface{ SetReadDeadline(time.Time) error }); ok {
		r.check(d.SetReadDeadline(time.Now().Add(20 * time.Second)))
		defer d.SetReadDeadline(time.Time{})
	}
	var got []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(got, []byte(text)) {
		n, err := s.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			r.t.Fatalf("%v; got %q, want %q", err, got, text)
		}
	}
	return string(got)
}

func TestTerminal(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sh", "-c", "stty size; read x; stty size; echo got $x >&2; exit 3")
		l.Terminal, l.Stdin, l.ConsoleHeight, l.ConsoleWidth = true, true, 40, 100
		p := r.spawn(l)
		s := r.attach(p, runtime.AttachOptions{Stdin: true, Stdout: true, Stderr: true})
		r.check(p.Start(testContext(t)))
		r.expect(s, "40 100\r\n")
		r.check(p.Resize(testContext(t), 50, 120))
		_, err := io.WriteString(s, "word\n")
		r.check(err)
		rest, err := io.ReadAll(s)
		r.check(err)
		if string(rest) != "word\r\n50 120\r\ngot word\r\n" {
			t.Errorf("terminal output %q", rest)
		}
		if x := r.wait(p); x.Code != 3 {
			t.Errorf("exit %+v", x)
		}
		if log := r.log(l); !strings.Contains(log, `{"log":"got word\r\n","stream":"stdout"`) {
			t.Errorf("log %s", log)
		}
	})
}

func TestStdin(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		once := r.launch("cat")
		once.Stdin, once.StdinOnce = true, true
		if x, out := r.run(once, "to cat\n"); x.Code != 0 || out != frame(1, "to cat\n") {
			t.Errorf("half-close: %+v %q", x, out)
		}

		gone := r.launch("cat") // a client that goes away altogether ends stdin as well
		gone.Stdin, gone.StdinOnce = true, true
		p := r.start(gone)
		r.attach(p, runtime.AttachOptions{Stdin: true}).Close()
		if x := r.wait(p); x.Code != 0 {
			t.Errorf("client gone: %+v", x)
		}

		many := r.launch("sh", "-c", "read a; read b; echo $a$b")
		many.Stdin = true
		p = r.start(many)
		out := r.attach(p, runtime.AttachOptions{Stdout: true})
		for _, word := range []string{"one\n", "two\n"} {
			s := r.attach(p, runtime.AttachOptions{Stdin: true})
			_, err := io.WriteString(s, word)
			r.check(err)
			r.check(s.CloseWrite()) // without StdinOnce this ends the client's input only
			s.Close()
		}
		got, err := io.ReadAll(out)
		r.check(err)
		if string(got) != frame(1, "onetwo\n") && string(got) != frame(1, "twoone\n") {
			t.Errorf("two clients: %q", got)
		}
		r.wait(p)

		closed := r.launch("cat") // no stdin asked for: /dev/null
		if x, out := r.run(closed, ""); x.Code != 0 || out != "" {
			t.Errorf("no stdin: %+v %q", x, out)
		}
	})
}

// unframe splits stdcopy frames; it fails the test on a frame that is not whole.
func unframe(r *rig, s io.Reader, stdout, stderr io.Writer) {
	var h [8]byte
	for {
		if _, err := io.ReadFull(s, h[:]); err != nil {
			if err != io.EOF {
				r.t.Errorf("torn frame: %v", err)
			}
			return
		}
		w := map[byte]io.Writer{1: stdout, 2: stderr}[h[0]]
		if w == nil {
			r.t.Errorf("frame header %v", h)
			return
		}
		if _, err := io.CopyN(w, s, int64(binary.BigEndian.Uint32(h[4:]))); err != nil {
			r.t.Errorf("torn frame: %v", err)
			return
		}
	}
}

// TestBigStream sends 100 MB through a container and back to several clients and the log, and compares hashes.
func TestBigStream(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		const size = 100 << 20
		r := newRig(t, b)
		l := r.launch("cat")
		l.Stdin, l.StdinOnce = true, true
		l.Log.Driver = "local"
		p := r.spawn(l)
		first := r.attach(p, runtime.AttachOptions{Stdin: true, Stdout: true, Stderr: true})
		second := r.attach(p, runtime.AttachOptions{Stdout: true})
		r.check(p.Start(testContext(t)))
		sent := sha256.New()
		var wg sync.WaitGroup
		sums := make([]string, 2)
		for i, s := range []runtime.Stream{first, second} {
			wg.Go(func() {
				h := sha256.New()
				unframe(r, s, h, io.Discard)
				sums[i] = fmt.Sprintf("%x", h.Sum(nil))
			})
		}
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = "0123456789abcdefghijklmnopqrstuvwxyz\n"[(i*7+i/91)%37]
		}
		for i := 0; i < size; i += len(block) {
			binary.BigEndian.PutUint64(block, uint64(i))
			sent.Write(block)
			if _, err := first.Write(block); err != nil {
				t.Fatal(err)
			}
		}
		r.check(first.CloseWrite())
		wg.Wait()
		r.wait(p)
		h := sha256.New()
		err := logfile.New().Read(testContext(t), logs.Source{Driver: "local", Path: l.Log.Path},
			logs.ReadOptions{Tail: -1, Stdout: true}, func(m *logs.Message) error { h.Write(m.Line); return nil })
		r.check(err)
		want := fmt.Sprintf("%x", sent.Sum(nil))
		if sums[0] != want || sums[1] != want {
			t.Errorf("clients got something else")
		}
		// the last line has no newline at its end when the block does not end with one; the log keeps the bytes
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
			t.Errorf("the log has something else")
		}
	})
}

// TestSlowClient: a client that does not read holds the container up, and loses nothing when it reads on; a client that
// goes away lets the container go on.
func TestSlowClient(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		const size = 8 << 20
		l := r.launch("sh", "-c", "dd if=/dev/zero bs=65536 count=128 2>/dev/null; echo over >&2")
		l.Log.Driver = "none"
		p := r.spawn(l)
		slow := r.attach(p, runtime.AttachOptions{Stdout: true})
		quick := r.attach(p, runtime.AttachOptions{Stderr: true})
		r.check(p.Start(testContext(t)))
		r.expect(slow, "\x00")
		over := make(chan string)
		go func() { over <- r.expect(quick, "over\n") }()
		select {
		case <-over:
			t.Error("the container was not held up")
		case <-timeAfter(200):
		}
		if b.Name == "crun" {
			slow.Close()
			<-over
		} else {
			n, err := io.Copy(io.Discard, slow)
			r.check(err)
			<-over
			if n < size-8192 {
				t.Errorf("%d bytes came", n)
			}
		}
		if x := r.wait(p); x.Code != 0 {
			t.Errorf("exit %+v", x)
		}
	})
}

// TestLateClient: what was written but not yet delivered when the container ends is delivered, also after Cleanup.
func TestLateClient(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sh", "-c", "dd if=/dev/zero bs=65536 count=8 2>/dev/null")
		p := r.spawn(l)
		s := r.attach(p, runtime.AttachOptions{Stdout: true})
		r.check(p.Start(testContext(t)))
		r.wait(p)
		r.check(r.c.Cleanup(testContext(t), l))
		var got bytes.Buffer
		unframe(r, s, &got, io.Discard)
		if got.Len() != 8*65536 {
			t.Errorf("%d bytes came", got.Len())
		}
		if _, err := p.Attach(testContext(t), runtime.AttachOptions{Stdout: true}); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("attach after the end: %v", err)
		}
	})
}

// TestManyClients attaches and detaches many times; the shim must forget clients that have gone.
func TestManyClients(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("cat")
		l.Stdin = true
		p := r.start(l)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 40 {
					s := r.attach(p, runtime.AttachOptions{Stdout: true, Stderr: true})
					s.CloseWrite()
					s.Close()
				}
			})
		}
		wg.Wait()
		shim := readStateWait(r, l).pid("shim")
		r.until("clients forgotten", func() bool { return len(openFiles(shim)) < 20 })
		s := r.attach(p, runtime.AttachOptions{Stdin: true, Stdout: true})
		_, err := io.WriteString(s, "still here\n")
		r.check(err)
		r.expect(s, frame(1, "still here\n"))
		r.check(p.Signal(testContext(t), 9))
		if x := r.wait(p); x.Code != 137 {
			t.Errorf("exit %+v", x)
		}
	})
}

// TestGrandchild: a process that keeps the pipe does not keep the container.
func TestGrandchild(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sh", "-c", "sleep 1000 & echo started")
		l.Spec.Linux.Namespaces = l.Spec.Linux.Namespaces[1:] // the host's pids
		x, out := r.run(l, "")
		if x.Code != 0 || out != frame(1, "started\n") {
			t.Errorf("%+v %q", x, out)
		}
	})
}
