package socket

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestAwaitRead(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		AwaitRead(server, time.Hour) // nothing is on its way
		if _, err := server.Write([]byte("head")); err != nil {
			t.Fatal(err)
		}
		if network == "tcp" {
			AwaitRead(server, time.Hour)
			continue
		}
		AwaitRead(server, time.Millisecond) // nobody reads
		over := make(chan struct{})
		go func() {
			AwaitRead(server, time.Hour)
			close(over)
		}()
		if _, err := io.ReadFull(client, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		<-over
		client.Close()
		AwaitRead(server, time.Hour) // nobody will read
	}
}
