package listener

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "s.sock")
	ls, err := Listen("unix://"+path, "0", nil)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o660 {
		t.Fatalf("mode %v %v", fi.Mode(), err)
	}
	if _, err := Listen("unix://"+path, "0", nil); err == nil {
		t.Fatal("a served socket must be refused")
	}
	// A socket left by a killed daemon is replaced.
	ls[0].(*net.UnixListener).SetUnlinkOnClose(false)
	if err := ls[0].Close(); err != nil {
		t.Fatal(err)
	}
	ls, err = Listen("unix://"+path, "0", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ls[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix://"+path, "0", nil); err == nil {
		t.Fatal("an ordinary file must not be removed")
	}
}

func TestRefused(t *testing.T) {
	for _, h := range []string{"ftp://x", "unix://", "tcp://127.0.0.1:0/path", "fd://", "tcp://%zz"} {
		if ls, err := Listen(h, "", nil); err == nil {
			t.Errorf("%s must be refused, got %v", h, ls[0].Addr())
		}
	}
}

func TestTCP(t *testing.T) {
	ls, err := Listen("127.0.0.1:0", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ls[0].Close()
	if ls[0].Addr().Network() != "tcp" {
		t.Error(ls[0].Addr())
	}
}
