package networks

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"longshore/test/harness"
)

// inside runs f on a thread inside of a network namespace. The thread comes back, since the first one of a process never
// ends and would keep the namespace.
func inside(t *testing.T, path string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		space, err := os.Open(path)
		if err == nil {
			defer space.Close()
			err = unix.Setns(int(space.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// initChunk is an SCTP packet that asks for an association (RFC 9260, section 3.3.2).
func initChunk(from, to uint16) []byte {
	b := make([]byte, 32)
	binary.BigEndian.PutUint16(b[0:], from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12] = 1 // INIT
	binary.BigEndian.PutUint16(b[14:], 20)
	binary.BigEndian.PutUint32(b[16:], 0x11223344)
	binary.BigEndian.PutUint32(b[20:], 65536)
	binary.BigEndian.PutUint16(b[24:], 1)
	binary.BigEndian.PutUint16(b[26:], 1)
	binary.BigEndian.PutUint32(b[28:], 1)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// Published SCTP ports are tested with packets made by hand, since few kernels have the protocol itself.
func TestSCTP(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	h := other(t, d)
	d.OK("run", "-d", "--name", "sc", "-p", "9999:7777/sctp", "busybox", "sleep", "1000")
	if out := d.OK("port", "sc"); out == "" {
		t.Error("no port")
	}
	var in int
	err := inside(t, inspect(d, "sc", "{{.NetworkSettings.SandboxKey}}"), func() (err error) {
		in, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(in)
	if err := unix.SetsockoptTimeval(in, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		t.Fatal(err)
	}
	var out int
	err = inside(t, "/run/netns/"+h.ns, func() (err error) {
		out, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(out)
	buf := make([]byte, 2048)
	harness.Eventually(t, limit, "the packet arrives at the container's port", func() bool {
		if err := unix.Sendto(out, initChunk(5555, 9999), 0, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}}); err != nil {
			t.Fatal(err)
		}
		n, err := unix.Read(in, buf)
		if err != nil || n < 24 {
			return false
		}
		sctp := buf[int(buf[0]&15)*4:]
		return binary.BigEndian.Uint16(sctp[2:]) == 7777 && binary.BigEndian.Uint16(sctp) == 5555
	})
}
