package proc

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// Of open_tree(2) and mount_setattr(2); the numbers are the same wherever system calls are numbered from nought.
const (
	sysOpenTree     = 428
	sysMountSetattr = 442

	openTreeClone   = 1
	atEmptyPath     = 0x1000
	mountAttrRDONLY = 1
)

// clonedMark tells crun and runc before 1.2 that they were started from a file that nobody can write to. They believe it of
// a read-only file system alone.
const clonedMark = "_LIBCONTAINER_CLONED_BINARY=1"

// seal lets crun and runc be executed from a read-only mount that is attached nowhere. A container must not be able to
// write to its runtime by /proc/<pid>/exe (CVE-2019-5736), so these make such a mount themselves otherwise, attach it in
// /tmp for an instant, and execute themselves once more: 3 ms, and a mount of the host's where they are killed meanwhile.
// Without that mount it is the plain program.
func seal(program string) (path string, env []string, done func()) {
	env, done = os.Environ(), func() {}
	switch program[strings.LastIndexByte(program, '/')+1:] {
	case "crun", "runc":
	default:
		return program, env, done
	}
	fd, err := detach(program)
	if err != nil {
		return program, env, done
	}
	// Not /proc/self: a forked child moves descriptors about before it executes.
	path = "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(fd)
	if !elf(path) { // a script's interpreter would look for the path again
		syscall.Close(fd)
		return program, env, done
	}
	return path, append(env, clonedMark), func() { syscall.Close(fd) }
}

// detach makes a read-only mount of a file.
func detach(path string) (fd int, err error) {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	const atCWD = -100
	cwd := atCWD
	n, _, e := syscall.Syscall(sysOpenTree, uintptr(cwd), uintptr(unsafe.Pointer(p)), openTreeClone|syscall.O_CLOEXEC)
	if e != 0 {
		return -1, e
	}
	attr := struct{ set, clear, propagation, userns uint64 }{set: mountAttrRDONLY, propagation: syscall.MS_PRIVATE}
	var empty byte
	_, _, e = syscall.Syscall6(sysMountSetattr, n, uintptr(unsafe.Pointer(&empty)), atEmptyPath,
		uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if e != 0 {
		syscall.Close(int(n))
		return -1, e
	}
	return int(n), nil
}

func elf(path string) bool {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	var head [4]byte
	n, err := syscall.Read(fd, head[:])
	return err == nil && string(head[:n]) == "\x7fELF"
}
