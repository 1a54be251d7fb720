package enter

const supported = true

// Numbers of system calls that package syscall does not have.
const (
	sysSeccomp = 317
	sysSetns   = 308
)
