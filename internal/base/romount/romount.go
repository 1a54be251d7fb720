// Package romount makes read-only mounts that are attached nowhere: a program that is executed from one cannot be written to
// by whoever gets hold of its /proc/<pid>/exe (CVE-2019-5736). With nothing but system calls, for the shim's sake.
package romount

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// Of open_tree(2) and mount_setattr(2); the numbers are the same wherever system calls are numbered from nought.
const (
	sysOpenTree     = 428
	sysMountSetattr = 442

	openTreeClone   = 1
	atCWD           = -100
	atEmptyPath     = 0x1000
	mountAttrRDONLY = 1
)

// Of makes a mount of a file. It lasts until the descriptor is closed and the last program from it has ended; children do
// not inherit the descriptor. Kernels before 5.12 answer ENOSYS.
func Of(path string) (fd int, err error) {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
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

// Path is what to execute for the descriptor. Not /proc/self: a forked child moves descriptors about before it executes.
func Path(fd int) string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(fd)
}
