package hostcheck

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// trivial is the smallest static program, and a seccomp filter for it: it calls getppid, which in a new process namespace
// answers 0, negates the answer and exits with it. The filter lets that one call fail with errno 42, so the exit status
// tells whether the runtime has applied it.
func trivial() (elf []byte, filter string, err error) {
	var code []byte
	var getppid uint32
	var machine uint16
	switch runtime.GOARCH {
	case "amd64":
		machine, getppid = 62, 110
		code = []byte{
			0xb8, 110, 0, 0, 0, // mov eax, getppid
			0x0f, 0x05, // syscall
			0xf7, 0xd8, // neg eax
			0x89, 0xc7, // mov edi, eax
			0xb8, 60, 0, 0, 0, // mov eax, exit
			0x0f, 0x05, // syscall
		}
	case "arm64":
		machine, getppid = 183, 173
		for _, w := range []uint32{
			0xd28015a8, // mov x8, #173
			0xd4000001, // svc #0
			0xcb0003e0, // neg x0, x0
			0xd2800ba8, // mov x8, #93
			0xd4000001, // svc #0
		} {
			code = binary.LittleEndian.AppendUint32(code, w)
		}
	default:
		return nil, "", fmt.Errorf("no probe program for %s", runtime.GOARCH)
	}
	return elfFile(machine, code), filterFor(getppid), nil
}

// elfFile wraps code into an ELF64 executable of one segment.
func elfFile(machine uint16, code []byte) []byte {
	const base, header, segment = 0x400000, 64, 56
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2) // executable
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+header+segment) // entry
	b = le.AppendUint64(b, header)              // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{header, segment, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	size := uint64(header + segment + len(code))
	b = le.AppendUint32(b, 1) // load
	b = le.AppendUint32(b, 5) // r-x
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, code...)
}

// filterFor makes one call fail with errno 42 and allows all others.
func filterFor(call uint32) string {
	var b []byte
	for _, i := range []struct {
		code   uint16
		jt, jf uint8
		k      uint32
	}{
		{unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, 0, 0, 0},
		{unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, 0, 1, call},
		{unix.BPF_RET | unix.BPF_K, 0, 0, unix.SECCOMP_RET_ERRNO | filtered},
		{unix.BPF_RET | unix.BPF_K, 0, 0, unix.SECCOMP_RET_ALLOW},
	} {
		b = binary.LittleEndian.AppendUint16(b, i.code)
		b = append(b, i.jt, i.jf)
		b = binary.LittleEndian.AppendUint32(b, i.k)
	}
	return base64.StdEncoding.EncodeToString(b)
}
