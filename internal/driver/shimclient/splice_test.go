package shimclient

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"testing"
)

// connect gives both ends of a connection of the network.
func connect(t *testing.T, network, address string) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestWriteTo: output reaches clients of every kind unchanged, little and much of it, and ends where it ends.
func TestWriteTo(t *testing.T) {
	for _, client := range []string{"unix", "tcp", "memory"} {
		for _, size := range []int{0, 5, spliceAfter, 9 << 20} {
			text := make([]byte, size)
			for i := range text {
				text[i] = byte(rand.Int())
			}
			shim, ours := connect(t, "unix", filepath.Join(t.TempDir(), "s"))
			go func() {
				_, _ = shim.Write(text)
				_ = shim.Close()
			}()
			s := stream{ours.(*net.UnixConn)}
			var got []byte
			if client == "memory" {
				var b bytes.Buffer
				if _, err := io.Copy(&b, s); err != nil {
					t.Fatal(err)
				}
				got = b.Bytes()
			} else {
				address := map[string]string{"unix": filepath.Join(t.TempDir(), "c"), "tcp": "127.0.0.1:0"}[client]
				to, end := connect(t, client, address)
				done := make(chan error, 1)
				go func() {
					n, err := io.Copy(to, s)
					if err == nil && n != int64(size) {
						err = io.ErrShortWrite
					}
					to.Close()
					done <- err
				}()
				var err error
				if got, err = io.ReadAll(end); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, text) {
				t.Errorf("%s, %d bytes: %d came, or others", client, size, len(got))
			}
		}
	}
}

// TestWriteToGone: a client that hangs up in the middle ends the copying.
func TestWriteToGone(t *testing.T) {
	shim, ours := connect(t, "unix", filepath.Join(t.TempDir(), "s"))
	to, end := connect(t, "unix", filepath.Join(t.TempDir(), "c"))
	go func() {
		for {
			if _, err := shim.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(to, stream{ours.(*net.UnixConn)})
		done <- err
	}()
	if _, err := io.CopyN(io.Discard, end, 4<<20); err != nil {
		t.Fatal(err)
	}
	end.Close()
	if err := <-done; err == nil {
		t.Error("no error")
	}
}
