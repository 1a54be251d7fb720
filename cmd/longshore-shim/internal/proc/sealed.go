package proc

import (
	"os"
	"strings"
	"syscall"

	"longshore/internal/base/romount"
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
	fd, err := romount.Of(program)
	if err != nil {
		return program, env, done
	}
	path = romount.Path(fd)
	if !elf(path) { // a script's interpreter would look for the path again
		syscall.Close(fd)
		return program, env, done
	}
	return path, append(env, clonedMark), func() { syscall.Close(fd) }
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
