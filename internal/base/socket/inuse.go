package socket

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// RetryInUse calls bind again for 31 ms while the address is in use. One that was given back a moment before may be: a child
// of its last holder has a copy of every descriptor until it has executed its program.
func RetryInUse(bind func() error) error {
	err := bind()
	for pause := time.Millisecond; errors.Is(err, unix.EADDRINUSE) && pause <= 16*time.Millisecond; pause *= 2 {
		time.Sleep(pause)
		err = bind()
	}
	return err
}
