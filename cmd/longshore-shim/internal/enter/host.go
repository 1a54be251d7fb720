package enter

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"longshore/internal/base/shimproto"
)

// More flags of clone3(2).
const (
	clonePidfd        = 1 << 12
	cloneClearSignals = 1 << 32
)

// slots is how many children can be on their way at once.
const slots = 512

// Host starts processes in any container, for a process that serves many (package checks) and does nothing else: it
// changes what signals do. Not for concurrent use, except for Prepare.
type Host struct {
	own    int // our pid namespace
	noFile syscall.Rlimit
	shared *[slots]uint32 // memory that children share: where they tell why they failed
	free   []int
}

// NewHost makes the process ready. noFile is the limit of open files that processes begin with.
func NewHost(noFile syscall.Rlimit) (*Host, error) {
	h := &Host{noFile: noFile}
	for i := range slots {
		h.free = append(h.free, i)
	}
	page, err := syscall.Mmap(-1, 0, int(unsafe.Sizeof(*h.shared)), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|syscall.MAP_ANON)
	if err != nil {
		return nil, err
	}
	h.shared = (*[slots]uint32)(unsafe.Pointer(&page[0]))
	for { // what a child gets is above the places that it is moved to
		fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		if fd >= firstFD {
			syscall.Close(fd)
			break
		}
	}
	if h.own, err = syscall.Open("/proc/self/ns/pid", syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0)
	return h, settleSignals()
}

// settleSignals has nothing ignored, which children would inherit, and the ends of children left to those who wait.
func settleSignals() error {
	for i := uintptr(1); i <= lastSignal; i++ {
		const ignore = 1 // SIG_IGN
		var action [4]uint64
		if _, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, i, 0, uintptr(unsafe.Pointer(&action)), signalSetSize, 0, 0); e != 0 {
			return e
		}
		if action[0] != ignore && i != uintptr(syscall.SIGCHLD) {
			continue
		}
		action = [4]uint64{}
		if _, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, i, uintptr(unsafe.Pointer(&action)), 0, signalSetSize, 0, 0); e != 0 {
			return e
		}
	}
	return nil
}

// Order is a process that can be started once.
type Order struct {
	o     *order
	slot  int
	init  int // pidfd of the container's first process
	group int
	// Home is "HOME=" and what was found for it where it was looked for.
	Home string
}

// Prepare makes an order; the streams are descriptors above 2. init is a pidfd, which stays the caller's. It may take long
// unless at is Homed: a file of the container is read.
func (h *Host) Prepare(p *shimproto.Plan, at *shimproto.Place, init int, stdio [3]uintptr) (_ *Order, err error) {
	o := &order{from: descriptors{stdio: stdio, init: uintptr(init)}, self: []byte{'0'}, apart: apart{signals: true}}
	if o.tasks, err = cStrings(at.Tasks); err != nil {
		return nil, err
	}
	o.clone = &cloneArgs{flags: clonePidfd | cloneClearSignals, exitSignal: uint64(syscall.SIGCHLD)}
	o.limit(h.noFile, p)
	root := rootFunc(nil)
	if !at.Homed {
		root = func() (int, func(), error) { return openRoot(at.Init, init) }
	}
	if err = o.fill(p, root); err != nil {
		return nil, err
	}
	switch {
	case at.Filter != "":
		err = o.load([]byte(at.Filter))
	case p.Filter != "":
		err = o.readFilter(p.Filter)
	}
	if err != nil {
		return nil, err
	}
	x := &Order{o: o, slot: -1, init: init, group: -1, Home: o.apart.home}
	if at.Group != "" {
		if x.group, err = syscall.Open(at.Group, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0); err != nil {
			return nil, err
		}
		o.clone.flags |= cloneIntoCgroup
		o.clone.cgroup = uint64(x.group)
	}
	return x, nil
}

// openRoot opens the root directory of the process that has that pidfd.
func openRoot(pid, pidfd int) (int, func(), error) {
	const pathOnly = 0x200000 // O_PATH
	root, err := syscall.Open("/proc/"+strconv.Itoa(pid)+"/root", pathOnly|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	// It lives, so the number was its own.
	if e := SignalFD(pidfd, 0); e != 0 {
		syscall.Close(root)
		return -1, nil, e
	}
	return root, func() { syscall.Close(root) }, nil
}

// Begin starts the process. It answers before the command runs; pidfd is readable when the process has ended, and the
// caller's to close, as the process is to reap. ESRCH means that the container has ended. A start is settled with Failed.
func (h *Host) Begin(x *Order) (pid, pidfd int, err error) {
	if len(h.free) == 0 {
		err = errors.New("too many at once")
	} else {
		x.slot = h.free[len(h.free)-1]
		h.free = h.free[:len(h.free)-1]
		x.o.apart.report = &h.shared[x.slot]
		*x.o.apart.report = 0
		x.o.clone.pidfd = uint64(uintptr(unsafe.Pointer(&x.o.apart.pidfd)))
		back := true
		if pid, back, err = forkInto(x.o, x.init, h.own); !back {
			os.Exit(1) // what came next would be in that container
		}
		pidfd = int(x.o.apart.pidfd)
	}
	if x.group >= 0 {
		syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(x.group), 0, 0)
	}
	x.o = nil // its strings are not needed while the process runs
	if err != nil {
		h.Failed(x)
		return 0, -1, err
	}
	return pid, pidfd, nil
}

// Failed tells, once the process has ended, whether the command has not run at all. It ends the order.
func (h *Host) Failed(x *Order) bool {
	if x.slot < 0 {
		return true
	}
	failed := h.shared[x.slot] != 0
	h.free = append(h.free, x.slot)
	x.slot = -1
	return failed
}

// SignalFD sends a signal to the process of a pidfd.
func SignalFD(pidfd int, sig syscall.Signal) syscall.Errno {
	const sysPidfdSendSignal = 424
	_, _, e := syscall.RawSyscall6(sysPidfdSendSignal, uintptr(pidfd), uintptr(sig), 0, 0, 0, 0)
	return e
}

// FirstLimit is the limit of open files that this program was started with, by a child that has got it back: Go raises its
// own.
func FirstLimit() (l syscall.Rlimit, err error) {
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"longshore-shim", shimproto.NothingCommand}, &syscall.ProcAttr{})
	if err != nil {
		return l, err
	}
	_, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), rlimitNoFile, 0, uintptr(unsafe.Pointer(&l)), 0, 0)
	for {
		if _, err = syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if e != 0 {
		return l, e
	}
	return l, err
}
