package stdio

import (
	"os"
	"time"
)

// chunkSize is how much output is read at once: a pipe's default capacity.
const chunkSize = 64 << 10

// Pump copies what a process writes until its end: first to log, then to the clients. The read deadline of f bounds it.
// log may change nothing in the chunk.
func Pump(f *os.File, stream byte, log func(p []byte, unixNano int64), out *Outlet) {
	buf := make([]byte, HeadRoom+chunkSize)
	for {
		n, err := f.Read(buf[HeadRoom:])
		if n > 0 {
			if log != nil {
				log(buf[HeadRoom:HeadRoom+n], time.Now().UnixNano())
			}
			out.Write(stream, buf[:HeadRoom+n])
		}
		if err != nil { // io.EOF, EIO of a terminal without users, or the deadline
			return
		}
	}
}
