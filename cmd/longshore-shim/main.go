//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command longshore-shim is the process beside each container: it starts the OCI runtime, owns the container's stdio,
// writes its log, serves attached clients and execs, and records the exit status. It outlives the daemon that spawned it
// and ends by itself once the container's end is recorded and told.
//
// It is started by internal/driver/shimclient only: descriptor 3 is the control connection, on which a Setup frame
// waits, descriptor 4 the listening socket. Because one exists per container it imports almost nothing.
//
// It runs with GOMAXPROCS=1: half the memory, and output that goes through one thread is faster than through two. The Go
// runtime must not look at its cgroup for that: reading it takes a kernel lock which every container start takes too.
package main

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"unsafe"

	"longshore/cmd/longshore-shim/internal/checks"
	"longshore/cmd/longshore-shim/internal/logwriter"
	"longshore/internal/base/pidone"
	"longshore/internal/base/shimproto"
)

// Of prctl(2).
const (
	prSetName           = 15
	prSetChildSubreaper = 36
)

func main() {
	if pidone.Named(os.Args[0]) { // bound into a container as its init
		os.Exit(pidone.Run(os.Args[1:]))
	}
	if len(os.Args) == 4 && os.Args[1] == compressCommand {
		compress(os.Args[2], os.Args[3])
		return
	}
	if len(os.Args) > 1 && os.Args[1] == shimproto.ChecksCommand {
		if err := checks.Run(shimproto.ControlFD); err != nil {
			die(err.Error())
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == shimproto.NothingCommand {
		return
	}
	// The main thread must stay ours: a thread that enters a container's cgroup ends afterwards, the main one cannot.
	runtime.LockOSThread()
	os.Unsetenv("GOMAXPROCS") // ours, not that of an OCI runtime written in Go
	debug.SetGCPercent(20)
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); e != 0 {
		die("prctl: " + e.Error())
	}
	name := [16]byte{} // started from a descriptor, we are called by its number
	copy(name[:15], "longshore-shim")
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetName, uintptr(unsafe.Pointer(&name)), 0)
	children := make(chan os.Signal, 1)
	// Caught, not ignored, because children would inherit that: a shim ends with its container and by no polite request.
	signal.Notify(children, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)

	spawner := inherit(shimproto.ControlFD)
	f, err := shimproto.Read(spawner)
	if err != nil || f.Kind != shimproto.Setup {
		die("no set-up on descriptor 3: longshore-shim is started by the daemon, not by hand")
	}
	cfg, err := shimproto.DecodeConfig(f.Payload)
	if err != nil {
		die(err.Error())
	}
	s := newSupervisor(cfg)
	s.run(spawner, inherit(shimproto.ListenFD), children)
}

// inherit wraps a descriptor so that the runtime's poller serves it.
func inherit(fd int) *os.File {
	syscall.CloseOnExec(fd)
	syscall.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "")
}

func die(text string) {
	os.Stderr.WriteString("longshore-shim: " + text + "\n")
	os.Exit(1)
}

const compressCommand = "compress"

func compress(path, lastUnixNano string) {
	last, err := strconv.ParseInt(lastUnixNano, 10, 64)
	if err == nil {
		err = logwriter.CompressFile(path, last)
	}
	if err != nil {
		die(err.Error())
	}
}
