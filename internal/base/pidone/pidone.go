// Package pidone is the init process of containers that ask for one (`docker run --init`) on hosts without tini: it starts
// the container's command, hands signals on to it, reaps orphans and ends as the command ends.
//
// longshore-shim is bound into the container as /sbin/docker-init and calls Run when it is started by that name:
//
//	if pidone.Named(os.Args[0]) {
//		os.Exit(pidone.Run(os.Args[1:]))
//	}
package pidone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"
)

// Named tells whether a program was started as the init process.
func Named(arg0 string) bool { return filepath.Base(arg0) == "docker-init" }

// The exit codes of shells (and of tini) for a command that cannot be run.
const (
	notExecutable = 126
	notFound      = 127
)

// Run runs "[--] command [args]" to its end and returns the exit code for the calling process: the command's own, 128+n
// when signal n killed it, 126 or 127 when it could not be started. It must be called by the process with number 1 of a
// process namespace (or by one that is a child subreaper), once, early in main.
func Run(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "docker-init: no command")
		return notFound
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	child, err := start(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "docker-init: exec %s failed: %v\n", args[0], err)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC) {
			return notExecutable
		}
		return notFound
	}
	done := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		forward(signals, done, child)
	}()
	code := reap(child)
	signal.Stop(signals)
	close(done)
	<-forwarded
	return code
}

// start runs the command in a process group of its own, which owns the terminal if there is one: signals of the terminal
// must not reach the command twice.
func start(args []string) (int, error) {
	path, err := lookPath(args[0], os.Getenv("PATH"))
	if err != nil {
		return 0, err
	}
	return syscall.ForkExec(path, args, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: isTerminal(0), Ctty: 0},
	})
}

// lookPath finds the command as execvp(3) does. (os/exec would double what a shim carries.)
func lookPath(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // the kernel finds out
	}
	err := fs.ErrNotExist
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join("/", dir, name)
		if !filepath.IsAbs(dir) {
			file = "./" + filepath.Join(dir, name)
		}
		if st, serr := os.Stat(file); serr != nil || st.IsDir() {
			continue
		}
		if syscall.Access(file, 1) == nil {
			return file, nil
		}
		err = fs.ErrPermission
	}
	return "", err
}

func isTerminal(fd uintptr) bool {
	var group int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group)))
	return errno == 0
}

// forward sends on all signals but those that are about this process itself: ended children, and what Go's scheduler
// sends to its own threads.
func forward(signals <-chan os.Signal, done <-chan struct{}, child int) {
	for {
		select {
		case <-done:
			return
		case s := <-signals:
			sig, ok := s.(syscall.Signal)
			if ok && sig != syscall.SIGCHLD && sig != syscall.SIGURG {
				_ = syscall.Kill(child, sig) // gone: reap is about to see it
			}
		}
	}
}

// reap waits for every child, adopted ones too, until the command itself has ended.
func reap(child int) int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return notFound // no children: cannot happen while the command has not been reaped
		case pid == child && status.Signaled():
			return 128 + int(status.Signal())
		case pid == child && status.Exited():
			return status.ExitStatus()
		}
	}
}
