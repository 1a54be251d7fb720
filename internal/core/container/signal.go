package container

import (
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/signal"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// ParseSignal reads a signal by number or by name, with or without SIG.
func ParseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n <= 0 || n > 64 {
			return 0, fault.Invalid("invalid signal: %s", s)
		}
		return syscall.Signal(n), nil
	}
	n, ok := signal.SignalMap[strings.TrimPrefix(strings.ToUpper(s), "SIG")]
	if !ok {
		return 0, fault.Invalid("invalid signal: %s", s)
	}
	return n, nil
}

// StopSignal is the signal that asks the container to end; SIGTERM unless it was configured.
func (r *Record) StopSignal() unix.Signal {
	if sig, err := ParseSignal(r.Config.StopSignal); err == nil {
		return sig
	}
	return unix.SIGTERM
}

// DefaultStopTimeout is how many seconds a container is given before it is killed.
const DefaultStopTimeout = 10

// StopTimeout is the time between the stop signal and the kill, in seconds; negative waits for ever.
func (r *Record) StopTimeout() int {
	if t := r.Config.StopTimeout; t != nil {
		return *t
	}
	return DefaultStopTimeout
}
