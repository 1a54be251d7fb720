package enter

import (
	"syscall"
	"unsafe"
)

// Numbers that are the same everywhere.
const (
	sysPidfdOpen  = 434
	sysClone3     = 435
	sysCloseRange = 436
	sysOpenat2    = 437
)

const (
	prGetDumpable    = 3
	prSetDumpable    = 4
	prSetKeepCaps    = 8
	prCapBoundDrop   = 24
	prSetNoNewPrivs  = 38
	prCapAmbient     = 47
	ambientRaise     = 2
	ambientClearAll  = 4
	seccompSetFilter = 1
	// seccompSpecAllow is what crun loads a filter without flags with.
	seccompSpecAllow = 1 << 2
	cloneIntoCgroup  = 1 << 33
	// namespaces are those of the container that a process can enter by itself; the pid namespace takes a fork.
	namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | cloneNewCgroup
	// cloneNewCgroup is missing in package syscall.
	cloneNewCgroup = 1 << 25
	rlimitNoFile   = 7
	lastSignal     = 64
	signalSetSize  = 8
)

// Where the child's descriptors are once it has let go of all others.
const (
	statusFD = 3
	initFD   = 4
	firstFD  = 10 // what the child gets is given to it from here on, so that moving it down never meets another
)

// step says where a child failed.
type step byte

const (
	stepDescriptors step = iota + 1
	stepGroups
	stepScore
	stepSignals
	stepNamespaces
	stepSession
	stepLimits
	stepDirectory
	stepSeccomp
	stepBounding
	stepUser
	stepCapabilities
	stepPrivileges
	stepExecute
)

type limit struct {
	resource int
	soft     uint64
	hard     uint64
}

type capHeader struct {
	version uint32
	pid     int32
}

type capData struct{ effective, permitted, inheritable uint32 }

type filterProgram struct {
	length uint16
	code   *byte
}

type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// order is all that the child needs, in the kernel's forms: after the fork it can make nothing any more.
type order struct {
	from      descriptors
	clone     *cloneArgs // with a group of v2
	tasks     []*byte    // files of v1 groups
	self      []byte     // "0", what a process is called in them
	who       who
	limits    []limit
	score     []byte // nil: as it is
	scoreFile *byte
	directory *byte
	path      [4096]byte // getcwd's
	filter    *filterProgram
	files     []*byte // candidates of the command
	argv, env []*byte // ended by nil
	apart     apart
}

// apart is what a Host's orders have besides.
type apart struct {
	// report takes step and error number of a failure, in memory that the child shares; nil: it is written to from.status.
	report *uint32
	// pidfd is where clone puts the child's.
	pidfd int32
	// signals: the kernel has given every signal its own handler.
	signals bool
	home    string // what was added to env
}

// descriptors are the child's while they have the shim's numbers.
type descriptors struct {
	stdio        [3]uintptr
	status, init uintptr
}

// who is the user and what it may do.
type who struct {
	uid, gid   uintptr
	groups     []uint32
	umask      uintptr
	bounding   uint64
	ambient    uint64
	header     capHeader
	data       [2]capData
	noNewPrivs bool
}

// fork makes the child. In the child it does not return.
//
//go:norace
//go:nosplit
func fork(o *order) (pid uintptr, e syscall.Errno) {
	if o.clone != nil {
		pid, _, e = syscall.RawSyscall(sysClone3, uintptr(unsafe.Pointer(o.clone)), unsafe.Sizeof(*o.clone), 0)
	} else {
		pid, _, e = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	}
	if e != 0 || pid != 0 {
		return pid, e
	}
	become(o)
	return 0, 0
}

// become turns the forked child into the command: nothing but system calls from here on. All signals are blocked at the
// beginning. The order matters, see docs/decisions/0015.
//
//go:norace
//go:nosplit
func become(o *order) {
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0) // inherited already
	if e := keep(o); e != 0 {
		fail(o, o.from.status, stepDescriptors, e)
	}
	if e := joinGroups(o); e != 0 {
		fail(o, statusFD, stepGroups, e)
	}
	if e := setScore(o); e != 0 {
		fail(o, statusFD, stepScore, e)
	}
	if e := defaultSignals(o.apart.signals); e != 0 {
		fail(o, statusFD, stepSignals, e)
	}
	if _, _, e := syscall.RawSyscall(sysSetns, initFD, namespaces, 0); e != 0 {
		fail(o, statusFD, stepNamespaces, e)
	}
	syscall.RawSyscall(syscall.SYS_CLOSE, initFD, 0, 0)
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0); e != 0 {
		fail(o, statusFD, stepSession, e)
	}
	for i := range o.limits {
		l := &o.limits[i]
		if _, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, uintptr(l.resource), uintptr(unsafe.Pointer(&l.soft)), 0, 0, 0); e != 0 {
			fail(o, statusFD, stepLimits, e)
		}
	}
	if e := changeDirectory(o); e != 0 {
		fail(o, statusFD, stepDirectory, e)
	}
	if step, e := restrict(o); e != 0 {
		fail(o, statusFD, step, e)
	}
	var e syscall.Errno
	for _, file := range o.files {
		_, _, e = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(file)),
			uintptr(unsafe.Pointer(&o.argv[0])), uintptr(unsafe.Pointer(&o.env[0])))
		if e != syscall.ENOENT && e != syscall.EACCES && e != syscall.ENOTDIR {
			break
		}
	}
	fail(o, statusFD, stepExecute, e)
}

// fail tells the shim and ends.
//
//go:norace
//go:nosplit
func fail(o *order, status uintptr, s step, e syscall.Errno) {
	if o.apart.report != nil {
		*o.apart.report = uint32(s)<<16 | uint32(e)&0xffff
		for {
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
		}
	}
	b := [3]byte{byte(s), byte(e), byte(e >> 8)}
	syscall.RawSyscall(syscall.SYS_WRITE, status, uintptr(unsafe.Pointer(&b)), 3)
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// keep moves the child's descriptors to their places and lets go of everything else that the shim has.
//
//go:norace
//go:nosplit
func keep(o *order) syscall.Errno {
	for i := range o.from.stdio {
		if _, _, e := syscall.RawSyscall(syscall.SYS_DUP3, o.from.stdio[i], uintptr(i), 0); e != 0 {
			return e
		}
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_DUP3, o.from.init, initFD, syscall.O_CLOEXEC); e != 0 {
		return e
	}
	if o.apart.report == nil {
		if _, _, e := syscall.RawSyscall(syscall.SYS_DUP3, o.from.status, statusFD, syscall.O_CLOEXEC); e != 0 {
			return e
		}
	} else { // whatever it is
		syscall.RawSyscall(syscall.SYS_CLOSE, statusFD, 0, 0)
	}
	_, _, e := syscall.RawSyscall(sysCloseRange, initFD+1, uintptr(^uint32(0)), 0)
	return e
}

// joinGroups moves the child into the container's groups of v1; clone has put it into that of v2.
//
//go:norace
//go:nosplit
func joinGroups(o *order) syscall.Errno {
	for _, file := range o.tasks {
		if e := writeFile(file, o.self); e != 0 {
			return e
		}
	}
	return 0
}

//go:norace
//go:nosplit
func setScore(o *order) syscall.Errno {
	if len(o.score) == 0 {
		return 0
	}
	return writeFile(o.scoreFile, o.score)
}

//go:norace
//go:nosplit
func writeFile(file *byte, text []byte) syscall.Errno {
	const atCWD = ^uintptr(99) // AT_FDCWD, -100
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, atCWD, uintptr(unsafe.Pointer(file)), syscall.O_WRONLY|syscall.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return e
	}
	_, _, e = syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
	syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	return e
}

// defaultSignals gives every signal the kernel's handler, then lets signals come: none can run Go code any more.
//
//go:norace
//go:nosplit
func defaultSignals(done bool) syscall.Errno {
	var byDefault [4]uint64 // struct sigaction of the kernel
	for i := uintptr(1); i <= lastSignal && !done; i++ {
		if i == uintptr(syscall.SIGKILL) || i == uintptr(syscall.SIGSTOP) {
			continue
		}
		if _, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, i, uintptr(unsafe.Pointer(&byDefault)), 0, signalSetSize, 0, 0); e != 0 {
			return e
		}
	}
	var none uint64
	const setMask = 2
	_, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&none)), 0, signalSetSize, 0, 0)
	return e
}

// changeDirectory refuses a place that is not below the container's root.
//
//go:norace
//go:nosplit
func changeDirectory(o *order) syscall.Errno {
	if _, _, e := syscall.RawSyscall(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(o.directory)), 0, 0); e != 0 {
		return e
	}
	_, _, e := syscall.RawSyscall(syscall.SYS_GETCWD, uintptr(unsafe.Pointer(&o.path)), unsafe.Sizeof(o.path), 0)
	if e == 0 && o.path[0] != '/' { // "(unreachable)"
		e = syscall.ENOENT
	}
	return e
}

// restrict gives up what the process is not to have. A filter needs CAP_SYS_ADMIN or no_new_privs, so it comes first or
// last.
//
//go:norace
//go:nosplit
func restrict(o *order) (step, syscall.Errno) {
	w := &o.who
	syscall.RawSyscall(syscall.SYS_UMASK, w.umask, 0, 0)
	if o.filter != nil && !w.noNewPrivs {
		if e := loadFilter(o.filter); e != 0 {
			return stepSeccomp, e
		}
	}
	for c := uintptr(0); c < 64; c++ {
		if w.bounding>>c&1 != 0 {
			continue
		}
		_, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapBoundDrop, c, 0, 0, 0, 0)
		if e == syscall.EINVAL && c > 0 { // the kernel knows no more
			break
		}
		if e != 0 {
			return stepBounding, e
		}
	}
	if e := changeUser(w); e != 0 {
		return stepUser, e
	}
	if e := setCapabilities(w); e != 0 {
		return stepCapabilities, e
	}
	if !w.noNewPrivs {
		return 0, 0
	}
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); e != 0 {
		return stepPrivileges, e
	}
	if o.filter != nil {
		if e := loadFilter(o.filter); e != 0 {
			return stepSeccomp, e
		}
	}
	return 0, 0
}

//go:norace
//go:nosplit
func loadFilter(f *filterProgram) syscall.Errno {
	_, _, e := syscall.RawSyscall(sysSeccomp, seccompSetFilter, seccompSpecAllow, uintptr(unsafe.Pointer(f)))
	return e
}

//go:norace
//go:nosplit
func changeUser(w *who) syscall.Errno {
	var groups uintptr
	if len(w.groups) > 0 {
		groups = uintptr(unsafe.Pointer(&w.groups[0]))
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(w.groups)), groups, 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetKeepCaps, 1, 0, 0, 0, 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESGID, w.gid, w.gid, w.gid); e != 0 {
		return e
	}
	_, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, w.uid, w.uid, w.uid)
	return e
}

//go:norace
//go:nosplit
func setCapabilities(w *who) syscall.Errno {
	if _, _, e := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&w.header)), uintptr(unsafe.Pointer(&w.data)), 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapAmbient, ambientClearAll, 0, 0, 0, 0); e != 0 {
		return e
	}
	for c := uintptr(0); c < 64; c++ {
		if w.ambient>>c&1 == 0 {
			continue
		}
		if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapAmbient, ambientRaise, c, 0, 0, 0); e != 0 {
			return e
		}
	}
	return 0
}
