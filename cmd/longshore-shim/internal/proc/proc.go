// Package proc starts and reaps processes for a shim, with nothing but system calls.
package proc

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Status is how a process ended.
type Status struct {
	Code       int // 128+n for signal n
	AtUnixNano int64
}

// Reaper waits for all children and adopted orphans. Claims of processes that are not our own children may come later
// than their death; between Hold and the function it returns such deaths are remembered.
type Reaper struct {
	now func() int64

	mu        sync.Mutex // guards what follows
	waiting   map[int]func(Status)
	unclaimed map[int]Status
	holds     int
	paused    bool
}

// NewReaper makes a reaper; now gives times of death.
func NewReaper(now func() int64) *Reaper {
	return &Reaper{now: now, waiting: map[int]func(Status){}, unclaimed: map[int]Status{}}
}

// Hold remembers the deaths of unknown processes until the returned function is called.
func (r *Reaper) Hold() (release func()) {
	r.mu.Lock()
	r.holds++
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.holds--; r.holds == 0 {
			clear(r.unclaimed)
		}
	}
}

// Pause lets the dead be until the returned function is called: a process that has ended can still be asked about.
func (r *Reaper) Pause() (resume func()) {
	r.mu.Lock()
	r.paused = true
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		r.paused = false
		r.mu.Unlock()
		r.Collect()
	}
}

// Claim has ended called once when pid has died, at once if it has died already. ended must not block.
func (r *Reaper) Claim(pid int, ended func(Status)) {
	r.mu.Lock()
	st, dead := r.unclaimed[pid]
	if dead {
		delete(r.unclaimed, pid)
	} else {
		r.waiting[pid] = ended
	}
	r.mu.Unlock()
	if dead {
		ended(st)
	}
}

// Collect reaps everything that has died; call it on each SIGCHLD.
func (r *Reaper) Collect() {
	for {
		// The lock makes reaping and Signal exclusive: a pid that is not yet reaped cannot belong to another process.
		r.mu.Lock()
		if r.paused {
			r.mu.Unlock()
			return
		}
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			r.mu.Unlock()
			continue
		}
		if err != nil || pid <= 0 {
			r.mu.Unlock()
			return
		}
		st := Status{Code: ws.ExitStatus(), AtUnixNano: r.now()}
		if ws.Signaled() {
			st.Code = 128 + int(ws.Signal())
		}
		ended := r.waiting[pid]
		delete(r.waiting, pid)
		if ended == nil && r.holds > 0 {
			r.unclaimed[pid] = st
		}
		r.mu.Unlock()
		if ended != nil {
			ended(st)
		}
	}
}

// Signal sends a signal to a claimed process that has not been reaped.
func (r *Reaper) Signal(pid int, sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[pid] == nil {
		return syscall.ESRCH
	}
	return syscall.Kill(pid, sig)
}

// Alive calls f while a claimed process that has not been reaped cannot be: its number is not another's meanwhile. The
// process may have died.
func (r *Reaper) Alive(pid int, f func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[pid] == nil {
		return syscall.ESRCH
	}
	return f()
}

// Start runs argv with the given stdio inside the cgroup directories, in a mount namespace without the mounts to hide.
// The caller holds the reaper's Hold and claims the pid.
func Start(argv []string, stdio [3]uintptr, cgroups, hide []string) (pid int, err error) {
	path, env, done := seal(argv[0])
	defer done()
	attr := &syscall.ProcAttr{Env: env, Files: stdio[:], Sys: &syscall.SysProcAttr{}}
	if len(cgroups) == 0 && len(hide) == 0 {
		attr.Sys.Pdeathsig = syscall.SIGKILL // a shim that is killed takes an OCI runtime at work with it
		return syscall.ForkExec(path, argv, attr)
	}
	v1, v2 := Split(cgroups)
	if v2 != "" {
		fd, err := syscall.Open(v2, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return 0, errors.New("enter cgroup " + v2 + ": " + err.Error())
		}
		defer syscall.Close(fd)
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fd
	}
	if len(v1) == 0 && len(hide) == 0 {
		attr.Sys.Pdeathsig = syscall.SIGKILL
		return syscall.ForkExec(path, argv, attr)
	}
	return startApart(func() (int, error) { return syscall.ForkExec(path, argv, attr) }, v1, hide)
}

// Split tells the directories of v1 hierarchies, which have a file "tasks", from that of v2. A hybrid system has both.
func Split(dirs []string) (v1 []string, v2 string) {
	for _, d := range dirs {
		var st syscall.Stat_t
		if syscall.Stat(d+"/tasks", &st) == nil {
			v1 = append(v1, d)
		} else {
			v2 = d
		}
	}
	return v1, v2
}

// startApart moves one thread into the groups and out of our mount namespace, forks there and lets the thread end. Moving
// a thread by "tasks" is a tenth of a millisecond where moving a process by "cgroup.procs" waits for a grace period of the
// kernel's RCU.
func startApart(fork func() (int, error), dirs, hide []string) (int, error) {
	type result struct {
		pid, tid int
		err      error
	}
	done := make(chan result)
	var run func()
	run = func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		r := result{tid: syscall.Gettid()}
		if r.tid == syscall.Getpid() { // the main thread does not end: take another
			go run()
			return
		}
		if r.err = enter(dirs); r.err == nil {
			r.err = conceal(hide)
		}
		if r.err == nil {
			r.pid, r.err = fork()
		}
		done <- r
	}
	go run()
	r := <-done
	// Nobody may find the shim in the container's groups: whoever empties them would kill it.
	for i := 0; threadLives(r.tid); i++ {
		if i < 3 {
			runtime.Gosched()
		} else {
			<-time.After(50 * time.Microsecond) // it needs the processor more than we do
		}
	}
	return r.pid, r.err
}

func enter(dirs []string) error {
	for _, d := range dirs {
		fd, err := syscall.Open(d+"/tasks", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
		if err == nil {
			_, err = syscall.Write(fd, []byte{'0'})
			syscall.Close(fd)
		}
		if err != nil {
			return errors.New("enter cgroup " + d + ": " + err.Error())
		}
	}
	return nil
}

// conceal gives the thread a mount namespace of its own without the mounts. Each one's parent becomes private first, so
// that the host keeps it; all other mounts go on sharing with the host.
func conceal(mounts []string) error {
	if len(mounts) == 0 {
		return nil
	}
	if err := syscall.Unshare(syscall.CLONE_FS | syscall.CLONE_NEWNS); err != nil {
		return errors.New("unshare mounts: " + err.Error())
	}
	for _, m := range mounts {
		parent := m[:strings.LastIndexByte(m, '/')]
		syscall.Mount("", parent, "", syscall.MS_PRIVATE, "") // no mount point: its mount does not propagate by this path
		err := syscall.Unmount(m, syscall.MNT_DETACH)
		if err != nil && err != syscall.EINVAL && err != syscall.ENOENT {
			return errors.New("hide " + m + ": " + err.Error())
		}
	}
	return nil
}

func threadLives(tid int) bool {
	_, _, e := syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(syscall.Getpid()), uintptr(tid), 0)
	return e == 0
}

// StartTime is field 22 of /proc/<pid>/stat, which tells a process from a later one with the same pid; "" when it is gone.
func StartTime(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return ""
	}
	return f[19]
}

// KillAll kills every process of the groups until they are empty, as far as they can be killed.
func KillAll(dirs []string) {
	for _, d := range dirs {
		for range 100 {
			b, err := os.ReadFile(d + "/cgroup.procs")
			pids := strings.Fields(string(b))
			if err != nil || len(pids) == 0 {
				break
			}
			killed := false
			for _, p := range pids {
				if pid, err := strconv.Atoi(p); err == nil && pid > 1 && pid != syscall.Getpid() && syscall.Kill(pid, syscall.SIGKILL) == nil {
					killed = true
				}
			}
			if !killed {
				break
			}
		}
	}
}

// OOMKills reads the counter "oom_kill" of the first file that has one.
func OOMKills(files []string) int {
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(b), "\n") {
			if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
				n, _ := strconv.Atoi(v)
				return n
			}
		}
	}
	return 0
}
