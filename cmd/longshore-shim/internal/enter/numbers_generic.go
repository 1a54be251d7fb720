//go:build arm64 || riscv64 || loong64

package enter

const supported = true

// Numbers of system calls that package syscall does not have.
const (
	sysSeccomp = 277
	sysSetns   = 268
)
