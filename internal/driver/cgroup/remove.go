package cgroupfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// removeLimit bounds how long Remove waits for killed processes to leave.
const removeLimit = 10 * time.Second

// removeAll removes group directories. The common case, an empty group without nested ones, is one rmdir each; else
// everything inside is killed until nothing is left. released undoes what keeps processes from dying (the freezer).
func removeAll(ctx context.Context, dirs []string, release func()) error {
	left := removeDirs(dirs)
	if len(left) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, removeLimit)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(wait*2, 100*time.Millisecond) {
		pids, err := pidsBelow(left...)
		if err != nil {
			return err
		}
		killAll(pids)
		release()
		for _, dir := range left {
			removeNested(dir)
		}
		if left = removeDirs(left); len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove cgroup %s: %w (processes left: %v)", left[0], ctx.Err(), pids)
		case <-time.After(wait):
		}
	}
}

// removeDirs tries each directory once and returns those that are still there.
func removeDirs(dirs []string) []string {
	var left []string
	for _, dir := range dirs {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			left = append(left, dir)
		}
	}
	return left
}

// removeNested removes the groups below dir, deepest first, as far as they are empty.
func removeNested(dir string) {
	var nested []string
	_ = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && p != dir {
			nested = append(nested, p)
		}
		return nil
	})
	for _, d := range slices.Backward(nested) {
		_ = unix.Rmdir(d)
	}
}

func killAll(pids []int) {
	self := os.Getpid()
	for _, pid := range pids {
		if pid > 1 && pid != self {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// pidsBelow lists the processes of the groups and of all groups nested in them, each once, in order. Groups that vanish
// meanwhile count as empty.
func pidsBelow(dirs ...string) ([]int, error) {
	var pids []int
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return ignoreGone(err)
			}
			found, err := readPIDs(p)
			pids = append(pids, found...)
			return ignoreGone(err)
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// readPIDs lists the processes of one group. In v1 a process is in a group as soon as one of its threads is: a shim, while
// a thread of it enters the group to fork the container's first process there. Those whose main thread is elsewhere are
// left out, or they would be taken for the container's and killed.
func readPIDs(dir string) ([]int, error) {
	pids, err := readIDs(dir, "cgroup.procs")
	if err != nil || len(pids) == 0 {
		return nil, err
	}
	threads, err := readIDs(dir, "tasks")
	if errors.Is(err, unix.ENOENT) {
		return pids, nil // v2 has no tasks, and no such processes
	}
	return slices.DeleteFunc(pids, func(pid int) bool {
		return !slices.Contains(threads, pid) && !mainThreadIn(pid, filepath.Base(dir))
	}), err
}

func readIDs(dir, file string) ([]int, error) {
	data, err := read(dir, file)
	var ids []int
	for line := range bytes.Lines(data) {
		if id, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil && id > 0 {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// mainThreadIn tells whether a process' main thread, which may have ended before the others, is in a group of that name.
func mainThreadIn(pid int, name string) bool {
	data, err := read("/proc/"+strconv.Itoa(pid), "cgroup")
	return err == nil && bytes.Contains(append(data, '\n'), []byte("/"+name+"\n"))
}

// ignoreGone: a removed group answers ENOENT or ENODEV, one in threaded mode EOPNOTSUPP.
func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}
