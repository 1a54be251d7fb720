package seccomp

import (
	"embed"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

//go:generate go run generate.go
//go:embed numbers/*.txt
var numberFiles embed.FS

// arch is one system call convention that a filter can meet.
type arch struct {
	name specs.Arch
	// audit is the AUDIT_ARCH value that the kernel reports.
	audit uint32
	// narrow: arguments have 32 bits, and only those are compared.
	narrow bool
	// numbers maps names to numbers.
	numbers map[string]uint32
	// multiplexed are calls that older programs make through socketcall or ipc: name -> (multiplexer, its first argument).
	multiplexed map[string]mux
}

type mux struct {
	call string
	arg  uint64
}

// x32Bit marks the numbers of the x32 convention, which shares its AUDIT_ARCH with x86_64.
const x32Bit = 0x40000000

const (
	auditX8664   = 0xC000003E
	auditX86     = 0x40000003
	auditAArch64 = 0xC00000B7
	auditARM     = 0x40000028
)

// archs are the conventions we can compile for, per machine: the native one first.
func archs() []*arch {
	switch runtime.GOARCH {
	case "amd64":
		return []*arch{x8664(), x86(), x32()}
	case "arm64":
		return []*arch{aarch64(), arm()}
	}
	return nil
}

var (
	x8664 = sync.OnceValue(func() *arch {
		return &arch{name: specs.ArchX86_64, audit: auditX8664, numbers: load("amd64")}
	})
	x86 = sync.OnceValue(func() *arch {
		return &arch{name: specs.ArchX86, audit: auditX86, narrow: true, numbers: load("386"), multiplexed: multiplexed()}
	})
	x32 = sync.OnceValue(func() *arch {
		return &arch{name: specs.ArchX32, audit: auditX8664, narrow: true, numbers: x32Numbers()}
	})
	aarch64 = sync.OnceValue(func() *arch {
		return &arch{name: specs.ArchAARCH64, audit: auditAArch64, numbers: load("arm64")}
	})
	arm = sync.OnceValue(func() *arch {
		return &arch{name: specs.ArchARM, audit: auditARM, narrow: true, numbers: load("arm")}
	})
)

func load(goarch string) map[string]uint32 {
	data, err := numberFiles.ReadFile("numbers/" + goarch + ".txt")
	if err != nil {
		panic(err) // compiled in
	}
	m := make(map[string]uint32, 512)
	for line := range strings.Lines(string(data)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			panic("seccomp: number table of " + goarch + ": " + line)
		}
		m[name] = uint32(n)
	}
	return m
}

// x32Numbers are x86_64's with the x32 bit, save for calls whose structures differ: those have numbers from 512 on
// (arch/x86/entry/syscalls/syscall_64.tbl).
func x32Numbers() map[string]uint32 {
	m := maps.Clone(x8664().numbers)
	for name := range m {
		m[name] |= x32Bit
	}
	own := strings.Fields(`rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace rt_sigpending
		rt_sigtimedwait rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load waitid set_robust_list get_robust_list
		vmsplice move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg sendmmsg process_vm_readv process_vm_writev setsockopt
		getsockopt io_setup io_submit execveat preadv2 pwritev2`)
	for i, name := range own {
		m[name] = x32Bit | uint32(512+i)
	}
	return m
}

// multiplexed are the calls behind socketcall and ipc (include/uapi/linux/net.h, ipc.h).
func multiplexed() map[string]mux {
	m := make(map[string]mux)
	for i, name := range strings.Fields("socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg") {
		m[name] = mux{"socketcall", uint64(i + 1)}
	}
	for name, arg := range map[string]uint64{
		"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
		"shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
	} {
		m[name] = mux{"ipc", arg}
	}
	return m
}
