//go:build linux && amd64

// Command clockshift runs a program whose wall clock differs from the host's by the seconds that a file tells at each moment:
//
//	clockshift FILE PROGRAM ARGS...
//
// The program keeps its process ID. It gets no vDSO, so that it asks the kernel for the time, and a seccomp filter that has
// another process of this program answer. What it starts itself has the host's clock.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of linux/seccomp.h, linux/auxvec.h.
const (
	modeFilter, newListener   = 1, 8
	retAllow, retNotify       = 0x7fff0000, 0x7fc00000
	notifReceive, notifSend   = 0xc0502100, 0xc0182101
	auxIgnore, auxVDSO        = 1, 33
	offNumber, offFirstArg    = 0, 16 // in struct seccomp_data
	sizeNotif, sizeNotifReply = 80, 24
)

func main() {
	runtime.LockOSThread()
	var err error
	if os.Args[1] == "-answer" {
		err = answer(os.Args[2], os.Args[3])
	} else {
		err = start(os.Args[1], os.Args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "clockshift:", err)
		os.Exit(1)
	}
}

func start(file string, argv []string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(pair[1]), "pair") // closed by itself alone: the collector would close who has its number then
	other := exec.Command(self, "-answer", file, strconv.Itoa(unix.Gettid()))
	other.ExtraFiles = []*os.File{theirs}
	other.Stderr, other.Env = os.Stderr, []string{}
	other.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // outlives the program: what it has started has the filter, too
	if err := other.Start(); err != nil {
		return err
	}
	_ = theirs.Close()
	if _, err := unix.Read(pair[0], make([]byte, 1)); err != nil { // it watches
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLOCK_GETTIME, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offFirstArg},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.CLOCK_REALTIME, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: retNotify},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, modeFilter, newListener, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if err := unix.Sendmsg(pair[0], []byte{1}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, argv, os.Environ())
}

// answer takes the vDSO from the traced thread's next program and tells it the time from then on.
func answer(file, thread string) error {
	tid, err := strconv.Atoi(thread)
	if err != nil {
		return err
	}
	if err := ptrace(unix.PTRACE_SEIZE, tid, 0, unix.PTRACE_O_TRACEEXEC); err != nil {
		return fmt.Errorf("seize: %w", err)
	}
	const pair = 3
	if _, err := unix.Write(pair, []byte{1}); err != nil {
		return err
	}
	// The other one stands still at every signal that it gets: somebody must wait for that beside.
	type result struct {
		fd  int
		err error
	}
	listener := make(chan result, 1)
	go func() {
		fd, err := receive(pair)
		listener <- result{fd, err}
	}()
	if err := hideVDSO(); err != nil {
		return err
	}
	l := <-listener
	if l.err != nil {
		return l.err
	}
	return serve(l.fd, file)
}

// receive takes a descriptor out of a socket.
func receive(from int) (int, error) {
	rights := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(from, make([]byte, 1), rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return 0, fmt.Errorf("no listener: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, err
	}
	return fds[0], nil
}

func ptrace(request, tid int, addr, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// hideVDSO waits for the exec and has the entry of its auxiliary vector ignored.
func hideVDSO() error {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		if !status.Stopped() {
			continue
		}
		if status.TrapCause() != unix.PTRACE_EVENT_EXEC {
			signal := uintptr(status.StopSignal())
			if int(status)>>16 != 0 { // an event
				signal = 0
			}
			_ = ptrace(unix.PTRACE_CONT, pid, 0, signal)
			continue
		}
		var regs unix.PtraceRegs
		if err := unix.PtraceGetRegs(pid, &regs); err != nil {
			return err
		}
		at := uintptr(regs.Rsp)
		word := func() (v uint64) {
			var b [8]byte
			if _, err = unix.PtracePeekData(pid, at, b[:]); err == nil {
				v = binary.LittleEndian.Uint64(b[:])
			}
			at += 8
			return v
		}
		at += 8 * uintptr(word()+1) // argc, its arguments and their end
		for err == nil && word() != 0 {
		}
		for err == nil {
			switch word() {
			case 0:
				return errors.New("no vDSO")
			case auxVDSO:
				var b [8]byte
				binary.LittleEndian.PutUint64(b[:], auxIgnore)
				if _, err := unix.PtracePokeData(pid, at-8, b[:]); err != nil {
					return err
				}
				return ptrace(unix.PTRACE_DETACH, pid, 0, 0)
			}
			at += 8
		}
		return err
	}
}

// serve answers until nobody has the filter any more.
func serve(listener int, file string) error {
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if poll[0].Revents&unix.POLLHUP != 0 {
			return nil
		}
		var q [sizeNotif]byte
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifReceive, uintptr(unsafe.Pointer(&q[0]))); errno != 0 {
			continue // who asked has gone
		}
		pid, to := int(binary.LittleEndian.Uint32(q[8:])), uintptr(binary.LittleEndian.Uint64(q[16+24:]))
		text, _ := os.ReadFile(file)
		shift, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		now := time.Now().Add(time.Duration(shift) * time.Second)
		var b bytes.Buffer
		_ = binary.Write(&b, binary.LittleEndian, [2]int64{now.Unix(), int64(now.Nanosecond())})
		v := b.Bytes()
		_, _ = unix.ProcessVMWritev(pid, []unix.Iovec{{Base: &v[0], Len: 16}}, []unix.RemoteIovec{{Base: to, Len: 16}}, 0)
		var a [sizeNotifReply]byte
		copy(a[:8], q[:8]) // the ID; value and error are 0
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifSend, uintptr(unsafe.Pointer(&a[0])))
	}
}
