// Package enter starts a process in a running container as an OCI runtime would, for the plain case: no terminal, no user
// namespace, no label. A forked child of the shim becomes the process (child.go); whatever it cannot do is an error,
// and nothing of the command has run then.
//
//	d := enter.New(cgroupDirs)
//	d.Learn(pid)                     // of the first process that the shim has started
//	pid, err := d.Start(plan, place, stdio)
package enter

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"longshore/cmd/longshore-shim/internal/proc"
	"longshore/internal/base/shimproto"
)

// Door is the way into one container. Safe for concurrent use.
type Door struct {
	dirs []string

	mu     sync.Mutex // guards what follows; held over a fork
	split  bool       // groups are known
	groups groups
	noFile syscall.Rlimit
}

// New makes a door to the container of these groups.
func New(cgroupDirs []string) *Door { return &Door{dirs: cgroupDirs} }

// Possible tells whether a process of the container may see this program: it must not be able to write to it by
// /proc/<pid>/exe, as the command, a link or an interpreter (CVE-2019-5736).
func Possible() bool {
	const readOnly = 1 // ST_RDONLY
	var st syscall.Statfs_t
	return supported && syscall.Statfs("/proc/self/exe", &st) == nil && st.Flags&readOnly != 0
}

// Learn remembers the limit of open files that the shim was started with, by a child that has got it back: Go raises its
// own. The child must not have been reaped.
func (d *Door) Learn(pid int) {
	var l syscall.Rlimit
	_, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), rlimitNoFile, 0, uintptr(unsafe.Pointer(&l)), 0, 0)
	if e == 0 {
		d.mu.Lock()
		d.noFile = l
		d.mu.Unlock()
	}
}

// Learnt tells whether the limit is known; without it nothing can be started.
func (d *Door) Learnt() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.noFile != syscall.Rlimit{}
}

// Init is the container's first process: a pidfd, and its root directory.
type Init struct{ FD, Root int }

// OpenInit opens both; the caller makes sure that pid is not reaped meanwhile.
func OpenInit(pid int) (Init, error) {
	fd, _, e := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if e != 0 {
		return Init{}, e
	}
	const pathOnly = 0x200000 // O_PATH
	root, err := syscall.Open("/proc/"+strconv.Itoa(pid)+"/root", pathOnly|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		syscall.Close(int(fd))
		return Init{}, err
	}
	return Init{FD: int(fd), Root: root}, nil
}

// Close gives both back.
func (in Init) Close() {
	syscall.Close(in.FD)
	syscall.Close(in.Root)
}

// Start makes the process; its three streams are descriptors above 2. The caller reaps it, also the child of a start that
// failed: pid is not 0 then. It waits until the command runs.
func (d *Door) Start(p *shimproto.Plan, in Init, stdio [3]uintptr) (pid int, err error) {
	if !supported {
		return 0, syscall.ENOSYS
	}
	o, closeOrder, err := d.order(p, in, stdio)
	if err != nil {
		return 0, err
	}
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		closeOrder()
		return 0, err
	}
	syscall.SetNonblock(pipe[0], true)
	status := os.NewFile(uintptr(pipe[0]), "")
	defer status.Close()
	high, err := moveUp(pipe[1])
	if err == nil {
		o.from.status = uintptr(high)
		pid, err = d.fork(o, in)
		syscall.Close(high)
	}
	syscall.Close(pipe[1])
	closeOrder()
	if err != nil {
		return 0, err
	}
	return pid, read(status)
}

// read waits until the child has become the command, which closes the pipe, or has told why not.
func read(status io.Reader) error {
	var b [3]byte
	n, err := io.ReadFull(status, b[:])
	if n == 0 && err == io.EOF {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.New("step " + strconv.Itoa(int(b[0])) + ": " + syscall.Errno(uint(b[1])|uint(b[2])<<8).Error())
}

// moveUp duplicates a descriptor to a number that the child's own places are below of.
func moveUp(fd int) (int, error) {
	const dupCloseOnExec = 1030 // F_DUPFD_CLOEXEC
	n, _, e := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), dupCloseOnExec, firstFD)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// fork makes the child on a thread that makes children in the container's pid namespace for a moment.
func (d *Door) fork(o *order, in Init) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	own, err := syscall.Open("/proc/thread-self/ns/pid", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(own)
	pid, _, err := forkInto(o, in.FD, own)
	return pid, err
}

// forkInto makes the child in the pid namespace of init; own is ours. Where the way back fails, the thread stays locked
// and ends with its goroutine.
func forkInto(o *order, init, own int) (pid int, back bool, err error) {
	runtime.LockOSThread()
	if _, _, e := syscall.RawSyscall(sysSetns, uintptr(init), syscall.CLONE_NEWPID, 0); e != 0 {
		runtime.UnlockOSThread()
		return 0, true, e
	}
	child, e := forkHidden(o)
	runtime.KeepAlive(o)
	if _, _, e := syscall.RawSyscall(sysSetns, uintptr(own), syscall.CLONE_NEWPID, 0); e == 0 {
		back = true
		runtime.UnlockOSThread()
	}
	if e != 0 {
		return 0, back, e
	}
	return int(child), back, nil
}

// forkHidden forks with all signals blocked, so that no Go code runs in the child, and so that nobody can look into the
// child from its beginning on.
//
//go:norace
//go:nosplit
func forkHidden(o *order) (pid uintptr, e syscall.Errno) {
	const setMask = 2
	all, old := ^uint64(0), uint64(0)
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), signalSetSize, 0, 0)
	dumpable, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, prGetDumpable, 0, 0)
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0)
	pid, e = fork(o)
	if dumpable == 1 {
		syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 1, 0)
	}
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&old)), 0, signalSetSize, 0, 0)
	return pid, e
}

// order puts a plan into the kernel's forms. The returned function closes what the order holds open.
func (d *Door) order(p *shimproto.Plan, in Init, stdio [3]uintptr) (o *order, done func(), err error) {
	noFile, at := d.known() // what follows reads files of the container: it may take as long as they like
	if noFile == (syscall.Rlimit{}) {
		return nil, nil, errors.New("the shim's limit of open files is not known")
	}
	o = &order{from: descriptors{stdio: stdio}, self: []byte{'0'}}
	var held []int
	done = func() {
		for _, fd := range held {
			syscall.Close(fd)
		}
	}
	defer func() {
		if err != nil {
			done()
		}
	}()
	fd, err := moveUp(in.FD)
	if err != nil {
		return nil, nil, err
	}
	held = append(held, fd)
	o.from.init = uintptr(fd)
	if at.dir != "" {
		fd, err := syscall.Open(at.dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, nil, err
		}
		held = append(held, fd)
		o.clone = &cloneArgs{flags: cloneIntoCgroup, exitSignal: uint64(syscall.SIGCHLD), cgroup: uint64(fd)}
	}
	if o.tasks, err = cStrings(at.tasks); err != nil {
		return nil, nil, err
	}
	o.limit(noFile, p)
	if err = o.fill(p, func() (int, func(), error) { return in.Root, func() {}, nil }); err == nil && p.Filter != "" {
		err = o.readFilter(p.Filter)
	}
	return o, done, err
}

// limit notes the limits, the user and the score.
func (o *order) limit(noFile syscall.Rlimit, p *shimproto.Plan) {
	o.limits = append(o.limits, limit{resource: rlimitNoFile, soft: noFile.Cur, hard: noFile.Max})
	for _, l := range p.Rlimits {
		o.limits = append(o.limits, limit{resource: l.Resource, soft: l.Soft, hard: l.Hard})
	}
	if p.SetScore {
		o.score = strconv.AppendInt(nil, int64(p.Score), 10)
	}
	o.who.fill(p)
}

func (d *Door) known() (syscall.Rlimit, groups) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.split {
		d.split = true
		var v1 []string
		if v1, d.groups.dir = proc.Split(d.dirs); len(v1) > 0 {
			for _, dir := range v1 {
				d.groups.tasks = append(d.groups.tasks, dir+"/tasks")
			}
		}
	}
	return d.noFile, d.groups
}

// groups are a container's: files "tasks" of those of v1, and the directory of that of v2, empty without one.
type groups struct {
	tasks []string
	dir   string
}

func (w *who) fill(p *shimproto.Plan) {
	const version3 = 0x20080522 // _LINUX_CAPABILITY_VERSION_3
	c := &p.Caps
	w.uid, w.gid, w.groups, w.umask = uintptr(p.UID), uintptr(p.GID), p.Groups, uintptr(p.Umask)
	w.bounding, w.ambient, w.noNewPrivs = c.Bounding, c.Ambient, p.NoNewPrivileges
	w.header.version = version3
	for i := range w.data {
		shift := 32 * i
		w.data[i] = capData{
			effective: uint32(c.Effective >> shift), permitted: uint32(c.Permitted >> shift), inheritable: uint32(c.Inheritable >> shift),
		}
	}
}

// rootFunc opens the container's root directory. nil: the environment is complete.
type rootFunc func() (fd int, closeRoot func(), err error)

// fill makes the strings.
func (o *order) fill(p *shimproto.Plan, root rootFunc) (err error) {
	if o.scoreFile, err = syscall.BytePtrFromString("/proc/self/oom_score_adj"); err != nil {
		return err
	}
	if o.directory, err = syscall.BytePtrFromString(p.Cwd); err != nil {
		return err
	}
	if p.Cwd == "" || p.Cwd[0] != '/' {
		return syscall.EINVAL
	}
	files, err := candidates(p.Args[0], p.Env)
	if err == nil {
		o.files, err = cStrings(files)
	}
	if err == nil {
		o.argv, err = cStrings(p.Args)
	}
	var env []string
	if err == nil {
		if env, err = withHome(p, root); len(env) > len(p.Env) {
			o.apart.home = env[len(p.Env)]
		}
	}
	if err == nil {
		o.env, err = cStrings(env)
	}
	if err != nil {
		return err
	}
	o.argv, o.env = append(o.argv, nil), append(o.env, nil)
	return nil
}

// readFilter takes the filter from a file.
func (o *order) readFilter(path string) error {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	code, err := readRegular(fd)
	if err == nil {
		err = o.load(code)
	}
	return err
}

// load notes the filter.
func (o *order) load(code []byte) error {
	const instruction, most = 8, 4096
	n := len(code) / instruction
	if n == 0 || n > most || len(code)%instruction != 0 {
		return errors.New("no seccomp filter")
	}
	o.filter = &filterProgram{length: uint16(n), code: &code[0]}
	return nil
}

func cStrings(list []string) ([]*byte, error) {
	out := make([]*byte, 0, len(list)+1)
	for _, s := range list {
		b, err := syscall.BytePtrFromString(s)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// candidates are the files that a command can mean. A PATH that leads through the working directory is the runtime's.
func candidates(command string, env []string) ([]string, error) {
	switch {
	case command == "":
		return nil, syscall.ENOENT
	case strings.Contains(command, "/"):
		return []string{command}, nil
	}
	path, _ := lookUp(env, "PATH=")
	var files []string
	for _, dir := range strings.Split(path, ":") {
		if dir == "" || dir[0] != '/' {
			return nil, errors.New("PATH has a directory that is not absolute")
		}
		files = append(files, dir+"/"+command)
	}
	return files, nil
}

func lookUp(env []string, prefix string) (value string, ok bool) {
	for _, e := range env {
		if v, found := strings.CutPrefix(e, prefix); found {
			return v, true
		}
	}
	return "", false
}

// withHome is the environment with HOME, from the container's /etc/passwd where nobody has set it. As with crun, it stays
// unset for a user that the file does not name, and is the root directory where there is no file.
func withHome(p *shimproto.Plan, root rootFunc) ([]string, error) {
	if _, ok := lookUp(p.Env, "HOME="); ok || root == nil {
		return p.Env, nil
	}
	dir, closeRoot, err := root()
	if err != nil {
		return nil, err
	}
	passwd, err := readPasswd(dir)
	closeRoot()
	home, ok := homeOf(p.UID, passwd)
	if err == syscall.ENOENT {
		home, ok, err = "/", true, nil
	}
	if err != nil || !ok {
		return p.Env, err
	}
	return append(p.Env[:len(p.Env):len(p.Env)], "HOME="+home), nil
}

// homeOf finds the directory of the first account with that number.
func homeOf(uid uint32, passwd string) (string, bool) {
	id := strconv.FormatUint(uint64(uid), 10)
	for len(passwd) > 0 {
		line, rest, _ := strings.Cut(passwd, "\n")
		passwd = rest
		if f := strings.SplitN(line, ":", 7); len(f) >= 6 && f[2] == id {
			return f[5], true
		}
	}
	return "", false
}

// maxFile bounds a file that an image can fill as it likes.
const maxFile = 1 << 20

// readPasswd reads the container's /etc/passwd; links cannot lead out of root.
func readPasswd(root int) (string, error) {
	name, err := syscall.BytePtrFromString("etc/passwd")
	if err != nil {
		return "", err
	}
	const inRoot, noMagicLinks = 0x10, 0x02 // RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS
	how := struct{ flags, mode, resolve uint64 }{syscall.O_RDONLY | syscall.O_CLOEXEC | syscall.O_NONBLOCK | syscall.O_NOCTTY, 0, inRoot | noMagicLinks}
	fd, _, e := syscall.Syscall6(sysOpenat2, uintptr(root), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	if e != 0 {
		return "", e
	}
	b, err := readRegular(int(fd))
	if err != nil {
		return "", err
	}
	return string(b), nil
}

// readRegular reads a file as a whole and closes it. Package os would try to poll it first.
func readRegular(fd int) ([]byte, error) {
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG || st.Size > maxFile {
		return nil, errors.New("no file to read")
	}
	b := make([]byte, st.Size)
	n, err := syscall.Read(fd, b)
	if err == nil && n != len(b) {
		err = errors.New("a file that changes")
	}
	return b, err
}
