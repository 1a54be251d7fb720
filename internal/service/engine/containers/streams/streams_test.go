package streams

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/internal/core/logs"
	"longshore/internal/core/runtime"
)

// pair is a connected pair of unix sockets.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		done <- c
	}()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := <-done
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return c.(*net.UnixConn), s.(*net.UnixConn)
}

// join runs a Proxy between a client and a container's end and answers both and the outcome.
func join(t *testing.T, o Options) (client, container *net.UnixConn, detached chan bool) {
	t.Helper()
	client, server := pair(t)
	stream, container := pair(t)
	detached = make(chan bool, 1)
	go func() { detached <- Proxy(context.Background(), server, stream, o) }()
	return client, container, detached
}

func outcome(t *testing.T, c chan bool) bool {
	t.Helper()
	select {
	case d := <-c:
		return d
	case <-time.After(5 * time.Second):
		t.Fatal("the proxy did not end")
		return false
	}
}

func TestHalfClose(t *testing.T) {
	client, container, done := join(t, Options{Stdin: true, Output: true, CloseStdin: true})
	_, _ = client.Write([]byte("question"))
	_ = client.CloseWrite()
	got, err := io.ReadAll(container)
	if err != nil || string(got) != "question" {
		t.Fatalf("container read %q, %v", got, err)
	}
	_, _ = container.Write([]byte("answer"))
	_ = container.Close()
	got, err = io.ReadAll(client)
	if err != nil || string(got) != "answer" {
		t.Fatalf("client read %q, %v", got, err)
	}
	_ = client.Close()
	if outcome(t, done) {
		t.Error("detached")
	}
}

func TestEndOfInputEndsAttachWithoutStdinOnce(t *testing.T) {
	client, container, done := join(t, Options{Stdin: true, Output: true})
	_ = client.CloseWrite()
	if _, err := io.ReadAll(client); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(container)
	_ = client.Close()
	outcome(t, done)
}

func TestDetachKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		keys string
		send string
		pass string
	}{
		{"default", "", "ls\x10\x11", "ls"},
		{"custom", "ctrl-a,d", "x\x01d", "x"},
		{"not quite", "", "\x10a\x10\x11", "\x10a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys, err := ParseKeys(c.keys, "detach")
			if err != nil {
				t.Fatal(err)
			}
			client, container, done := join(t, Options{Stdin: true, Output: true, TTY: true, Keys: keys})
			_, _ = client.Write([]byte(c.send))
			got, _ := io.ReadAll(container)
			if string(got) != c.pass {
				t.Errorf("container read %q, want %q", got, c.pass)
			}
			_ = client.Close()
			if !outcome(t, done) {
				t.Error("not detached")
			}
		})
	}
}

func TestKeysWithoutTerminalAreData(t *testing.T) {
	client, container, done := join(t, Options{Stdin: true, Output: true, CloseStdin: true})
	_, _ = client.Write([]byte("\x10\x11"))
	_ = client.CloseWrite()
	got, _ := io.ReadAll(container)
	if string(got) != "\x10\x11" {
		t.Errorf("container read %q", got)
	}
	_ = container.Close()
	_ = client.Close()
	outcome(t, done)
}

func TestBadKeys(t *testing.T) {
	if _, err := ParseKeys("ctrl-%", "escape"); err == nil || err.Error() != "Invalid escape keys (ctrl-%) provided" {
		t.Errorf("got %v", err)
	}
}

func TestUnframe(t *testing.T) {
	client, container, done := join(t, Options{Output: true, Unframe: true})
	_, _ = container.Write(Frame([]byte("one ")))
	_, _ = container.Write(Frame([]byte("two")))
	_ = container.Close()
	got, _ := io.ReadAll(client)
	if string(got) != "one two" {
		t.Errorf("got %q", got)
	}
	_ = client.Close()
	outcome(t, done)
}

func TestText(t *testing.T) {
	in := bytes.NewReader(append(Frame([]byte(strings.Repeat("a", 5000))), Frame([]byte("b"))...))
	if got := Text(in, 4096); got != strings.Repeat("a", 4096)+"\n[output truncated]" {
		t.Errorf("%d bytes", len(got))
	}
	if got := Text(bytes.NewReader(append(Frame([]byte("a")), Frame([]byte("b\n"))...)), 4096); got != "ab\n" {
		t.Errorf("got %q", got)
	}
}

func TestLogWriter(t *testing.T) {
	m := &logs.Message{Stream: logs.Stderr, Time: time.Unix(1, 5).UTC(), Line: []byte("text\n"), Attrs: map[string]string{"b": "2 3", "a": "1"}}
	var out bytes.Buffer
	for _, c := range []struct {
		f    LogFormat
		want string
	}{
		{LogFormat{}, "\x02\x00\x00\x00\x00\x00\x00\x05text\n"},
		{LogFormat{Raw: true}, "text\n"},
		{LogFormat{Raw: true, Timestamps: true}, "1970-01-01T00:00:01.000000005Z text\n"},
		{LogFormat{Raw: true, Details: true}, "a=1,b=2+3 text\n"},
		{LogFormat{Timestamps: true, Details: true}, "\x02\x00\x00\x00\x00\x00\x00\x2e1970-01-01T00:00:01.000000005Z a=1,b=2+3 text\n"},
	} {
		out.Reset()
		w := NewLogWriter(&out, c.f)
		if err := errors.Join(w.Write(m), w.Close()); err != nil || out.String() != c.want {
			t.Errorf("got %q, want %q (%v)", out.String(), c.want, err)
		}
	}
}

// TestLogWriterGathers: all lines arrive in order, in frames of one stream each, however they were gathered.
func TestLogWriterGathers(t *testing.T) {
	r, w := io.Pipe()
	lw := NewLogWriter(w, LogFormat{})
	want := map[logs.Stream]string{}
	go func() {
		for i := range 20000 {
			s := logs.Stdout
			if i%7 == 0 {
				s = logs.Stderr
			}
			_ = lw.Write(&logs.Message{Stream: s, Line: fmt.Appendf(nil, "line %d\n", i)})
		}
		_ = lw.Close()
		_ = w.Close()
	}()
	for i := range 20000 {
		s := logs.Stdout
		if i%7 == 0 {
			s = logs.Stderr
		}
		want[s] += fmt.Sprintf("line %d\n", i)
	}
	got := map[logs.Stream]*strings.Builder{logs.Stdout: {}, logs.Stderr: {}}
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			break
		}
		if _, err := io.CopyN(got[logs.Stream(head[0])], r, int64(binary.BigEndian.Uint32(head[4:]))); err != nil {
			t.Fatal(err)
		}
	}
	for s, text := range want {
		if got[s].String() != text {
			t.Errorf("stream %d differs: %d bytes of %d", s, got[s].Len(), len(text))
		}
	}
}

func TestLogWriterTellsTheClientsError(t *testing.T) {
	r, w := io.Pipe()
	_ = r.CloseWithError(errors.New("client is gone"))
	lw := NewLogWriter(w, LogFormat{Raw: true})
	var err error
	for range 1000000 {
		if err = lw.Write(&logs.Message{Line: []byte("x")}); err != nil {
			break
		}
	}
	if err == nil || lw.Close() == nil {
		t.Error("no error")
	}
}

// process is a double that hands out the container's end of each attach.
type process struct {
	runtime.Process
	ends chan *net.UnixConn
	t    *testing.T
	fail bool
}

func (p *process) Attach(context.Context, runtime.AttachOptions) (runtime.Stream, error) {
	if p.fail {
		return nil, errors.New("no")
	}
	a, b := pair(p.t)
	p.ends <- b
	return a, nil
}

func TestRoom(t *testing.T) {
	ctx := context.Background()
	var r Room
	p := &process{ends: make(chan *net.UnixConn, 8), t: t}
	early, err := r.Sit(ctx, runtime.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	gone, _ := r.Sit(ctx, runtime.AttachOptions{})
	gone.Leave()
	r.Begin(ctx, p)
	<-early.Ready()
	if s, err := early.Stream(); s == nil || err != nil {
		t.Fatalf("early seat: %v %v", s, err)
	}
	late, err := r.Sit(ctx, runtime.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := late.Stream(); s == nil {
		t.Error("a late seat has no stream")
	}
	if len(p.ends) != 2 {
		t.Errorf("%d attaches, want 2: who left is not attached", len(p.ends))
	}
	r.End()
	next, _ := r.Sit(ctx, runtime.AttachOptions{})
	r.Dismiss()
	<-next.Ready()
	if s, _ := next.Stream(); s != nil {
		t.Error("a dismissed seat has a stream")
	}
	p.fail = true
	r.Begin(ctx, p)
	if _, err := r.Sit(ctx, runtime.AttachOptions{}); err == nil {
		t.Error("a failed attach is no error")
	}
}

func FuzzUnframe(f *testing.F) {
	f.Add(Frame([]byte("x")))
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = Unframe(io.Discard, bytes.NewReader(b))
		_ = Text(bytes.NewReader(b), 16)
	})
}
