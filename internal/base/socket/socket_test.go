package socket

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// pair is both ends of a unix connection.
func pair(t *testing.T) (server, client *net.UnixConn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = s.Close(), c.Close() })
	return s.(*net.UnixConn), c.(*net.UnixConn)
}

func TestHungUp(t *testing.T) {
	s, c := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result := make(chan bool, 1)
	go func() { result <- HungUp(ctx, s) }()
	_, _ = io.WriteString(c, "typed")
	_ = c.CloseWrite() // it still listens
	select {
	case <-result:
		t.Fatal("half-closing is not hanging up")
	case <-time.After(50 * time.Millisecond):
	}
	_ = c.Close()
	if !<-result {
		t.Error("the end was not seen")
	}
}

func TestHungUpEndsWithItsContext(t *testing.T) {
	s, c := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan bool, 1)
	go func() { result <- HungUp(ctx, s) }()
	_, _ = io.WriteString(c, "typed")
	cancel()
	if <-result {
		t.Error("nobody hung up")
	}
	b := make([]byte, 9) // what was typed meanwhile is still there, and reads wait as before
	if n, err := s.Read(b); err != nil || string(b[:n]) != "typed" {
		t.Errorf("read %q %v", b[:n], err)
	}
}
