// Package rootlock keeps two daemons from using one data root, and writes the pid file.
package rootlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// Lock is a held root. The kernel drops it when the process dies, however that happens.
type Lock struct {
	f        *os.File
	previous int // who held it before
}

// A daemon that was killed keeps its lock until the kernel has taken all of it apart, which can take a moment under load.
const (
	grace    = 200 * time.Millisecond // for one that does not look dying, because that shows a little late
	patience = 5 * time.Second        // for one that does
	retry    = 20 * time.Millisecond
)

// Acquire makes dir (0711) and locks it. A root in use is ErrConflict naming the other process; one whose holder is
// dying is waited for.
func Acquire(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "longshore.lock"), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		holder := holderOf(f)
		_ = f.Close()
		return nil, fault.Conflict("%s is in use by another daemon (pid %s): stop it or choose another root", dir, holder)
	}
	previous, _ := strconv.Atoi(holderOf(f))
	if err := errors.Join(f.Truncate(0), writePid(f)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f: f, previous: previous}, nil
}

// flock takes the lock, and tries again for as long as the process that the file names is on its way out.
func flock(f *os.File) error {
	began := time.Now()
	tick := time.NewTicker(retry)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		limit := grace
		if dying(holderOf(f)) {
			limit = patience
		}
		if time.Since(began) > limit {
			return err
		}
		<-tick.C
	}
}

func holderOf(f *os.File) string {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	return strings.TrimSpace(string(b[:n]))
}

// dying tells whether a process is gone, a zombie, or has a SIGKILL to obey: one that lives keeps its lock, and to wait
// for that is in vain.
func dying(pid string) bool {
	if n, err := strconv.Atoi(pid); err != nil || n <= 0 {
		return true // between locking and writing its pid, or between its end and the kernel's
	}
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			mask, err := strconv.ParseUint(value, 16, 64)
			if err == nil && mask&(1<<(unix.SIGKILL-1)) != 0 {
				return true
			}
		}
	}
	return false
}

func writePid(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Release unlocks the root.
func (l *Lock) Release() error { return l.f.Close() }

// WritePidfile writes our pid; a file that names another live process is ErrConflict, as with dockerd. Our own
// predecessor does not count: whoever held our lock file is no longer a daemon, however long its process takes to die.
func (l *Lock) WritePidfile(path string) (remove func() error, err error) {
	if old, err := os.ReadFile(path); err == nil {
		pid, err := strconv.Atoi(strings.TrimSpace(string(old)))
		if err == nil && pid != os.Getpid() && pid != l.previous && running(pid) {
			return nil, fault.Conflict("failed to start daemon, ensure docker is not running or delete %s: process with PID %d is still running", path, pid)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return nil, fmt.Errorf("write pid file: %w", err)
	}
	return func() error { return os.Remove(path) }, nil
}

// running tells whether pid is a live process that could be a daemon of ours: the same program name, and not dying.
func running(pid int) bool {
	other, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || dying(strconv.Itoa(pid)) {
		return false
	}
	own, err := os.ReadFile("/proc/self/comm")
	return err == nil && string(own) == string(other)
}
