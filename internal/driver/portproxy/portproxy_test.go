package portproxy

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/core/network"
)

// free is an address of the family with a port that nobody has.
func free(t *testing.T, host string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skip("no address of the family: ", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestTCP(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { // echoes until end of file, then says goodbye
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
				_, _ = c.Write([]byte("bye"))
			}()
		}
	}()
	p := New()
	want := network.Proxied{Proto: unix.IPPROTO_TCP, Host: free(t, "::1"), Target: server.Addr().(*net.TCPAddr).AddrPort()}
	for range 2 {
		if err := p.Open([]network.Proxied{want}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", want.Host.String())
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("x"), 1<<20)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, append(sent, "bye"...)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	taken := want
	taken.Target = netip.MustParseAddrPort("127.0.0.1:1")
	if err := p.Open([]network.Proxied{taken}); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Error(err)
	}
	open, err := net.Dial("tcp", want.Host.String())
	if err != nil {
		t.Fatal(err)
	}
	p.Close([]network.Proxied{want, taken})
	_ = open.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := open.Read(make([]byte, 1)); err == nil || n != 0 {
		t.Error("the connection goes on")
	}
	if _, err := net.Dial("tcp", want.Host.String()); err == nil {
		t.Error("the port is open still")
	}
	p.Shutdown()
}

func TestUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(append([]byte("re:"), buf[:n]...), from)
		}
	}()
	p := New()
	defer p.Shutdown()
	want := network.Proxied{Proto: unix.IPPROTO_UDP, Host: free(t, "::1"), Target: server.LocalAddr().(*net.UDPAddr).AddrPort()}
	p.Keep([]network.Proxied{want})
	for _, say := range []string{"one", "two"} {
		c, err := net.Dial("udp", want.Host.String())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := c.Write([]byte(say)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 64)
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			if n, err := c.Read(buf); err != nil || string(buf[:n]) != "re:"+say {
				t.Errorf("%q %v", buf[:n], err)
			}
		}
		_ = c.Close()
	}
}
