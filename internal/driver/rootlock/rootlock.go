// Package rootlock keeps two daemons from using one data root, and writes the pid file.
package rootlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// Lock is a held root. The kernel drops it when the process dies, however that happens.
type Lock struct{ f *os.File }

// Acquire makes dir (0711) and locks it; a root in use is ErrConflict naming the other process.
func Acquire(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "longshore.lock"), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0)
		_ = f.Close()
		return nil, fault.Conflict("%s is in use by another daemon (pid %s): stop it or choose another root", dir, strings.TrimSpace(string(holder[:n])))
	}
	if err := errors.Join(f.Truncate(0), writePid(f)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f}, nil
}

func writePid(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Release unlocks the root.
func (l *Lock) Release() error { return l.f.Close() }

// WritePidfile writes our pid; a file that names another live process is ErrConflict, as with dockerd.
func WritePidfile(path string) (remove func() error, err error) {
	if old, err := os.ReadFile(path); err == nil {
		pid, err := strconv.Atoi(strings.TrimSpace(string(old)))
		if err == nil && pid != os.Getpid() && running(pid) {
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

// running tells whether pid is a live process that could be a daemon of ours: the same program name.
func running(pid int) bool {
	other, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return false
	}
	own, err := os.ReadFile("/proc/self/comm")
	return err == nil && string(own) == string(other)
}
