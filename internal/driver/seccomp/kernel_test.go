package seccomp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// helperEnv makes the test binary apply the filter on its standard input and try a few calls.
const helperEnv = "LONGSHORE_SECCOMP_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		helper()
		return
	}
	os.Exit(m.Run())
}

// tries are calls whose outcome tells what the filter decided. Arguments are such that an allowed call fails at once or
// does no harm.
var tries = []struct {
	name   string
	number uintptr
	args   [3]uintptr
}{
	{"getpid", unix.SYS_GETPID, [3]uintptr{}},
	{"mount", unix.SYS_MOUNT, [3]uintptr{}},
	{"unshare user", unix.SYS_UNSHARE, [3]uintptr{unix.CLONE_NEWUSER}},
	{"keyctl", unix.SYS_KEYCTL, [3]uintptr{99}},
	{"clone3", unix.SYS_CLONE3, [3]uintptr{0, 0}},
	{"personality query", unix.SYS_PERSONALITY, [3]uintptr{0xffffffff}},
	{"personality other", unix.SYS_PERSONALITY, [3]uintptr{0x1234}},
	{"socket vsock", unix.SYS_SOCKET, [3]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM, 0}},
	{"socket inet", unix.SYS_SOCKET, [3]uintptr{unix.AF_INET, unix.SOCK_STREAM, 0}},
	{"socket high bits", unix.SYS_SOCKET, [3]uintptr{1<<40 | unix.AF_VSOCK, unix.SOCK_STREAM, 0}},
	{"newer than the profile", 4000, [3]uintptr{}},
}

// helper runs in a process of its own: it cannot take the filter off again.
func helper() {
	raw := make([]byte, 1<<16)
	n, _ := os.Stdin.Read(raw)
	prog := unix.SockFprog{Len: uint16(n / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&raw[0]))}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Println("no_new_privs:", err)
		return
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(raw)
	if errno != 0 {
		fmt.Println("seccomp:", errno)
		return
	}
	for _, c := range tries {
		_, _, errno := unix.RawSyscall(c.number, c.args[0], c.args[1], c.args[2])
		fmt.Printf("%s=%d\n", c.name, int(errno))
	}
}

// inKernel applies a profile in a child and returns the errno of each try, or how the child died.
func inKernel(t *testing.T, p *specs.LinuxSeccomp) (map[string]unix.Errno, error) {
	t.Helper()
	filter, err := Compile(p)
	if errors.Is(err, ErrUnsupported) {
		t.Skip("no tables for this machine")
	}
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	cmd.Stdin = strings.NewReader(string(filter))
	out, err := cmd.Output()
	got := make(map[string]unix.Errno)
	for line := range strings.Lines(string(out)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			t.Fatalf("helper says %q", line)
		}
		var e int
		if _, err := fmt.Sscan(value, &e); err != nil {
			t.Fatal(err)
		}
		got[name] = unix.Errno(e)
	}
	return got, err
}

func TestDefaultProfileInTheKernel(t *testing.T) {
	got, err := inKernel(t, defaultProfile(t, "CAP_CHOWN"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]unix.Errno{
		"getpid": 0, "mount": unix.EPERM, "unshare user": unix.EPERM, "keyctl": unix.EPERM, "clone3": unix.ENOSYS,
		"personality query": 0, "personality other": unix.EPERM, "socket vsock": unix.EPERM, "socket inet": 0,
		// greater than AF_VSOCK as a 64-bit number, so the filter lets it through; the kernel takes the low half
		"newer than the profile": unix.ENOSYS,
	} {
		if got[name] != want {
			t.Errorf("%s: errno %d, want %d", name, got[name], want)
		}
	}
}

func TestActionsInTheKernel(t *testing.T) {
	errno := uint(unix.EXDEV)
	got, err := inKernel(t, &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"getpid"}, Action: specs.ActErrno, ErrnoRet: &errno},
		{Names: []string{"socket"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 0, Value: unix.AF_INET, Op: specs.OpEqualTo}, {Index: 1, Value: 0xf, ValueTwo: unix.SOCK_STREAM, Op: specs.OpMaskedEqual}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got["getpid"] != unix.EXDEV || got["socket inet"] != unix.EPERM || got["mount"] == unix.EPERM && os.Geteuid() == 0 {
		t.Errorf("%v", got)
	}
	_, err = inKernel(t, &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"keyctl"}, Action: specs.ActKillProcess}}})
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(exit.String(), "bad system call") {
		t.Errorf("kill: %v", err)
	}
}
