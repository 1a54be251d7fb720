package cgroupfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// write sets one control file. It never creates a file and tells file, value and the kernel's reason on failure.
func write(dir, file, value string) error {
	fd, err := openRetry(dir+"/"+file, unix.O_WRONLY|unix.O_CLOEXEC)
	if err == nil {
		err = writeFD(fd, value)
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("write %q to %s: %w", value, filepath.Join(dir, file), err)
	}
	return nil
}

func writeFD(fd int, value string) error {
	for {
		_, err := unix.Write(fd, []byte(value))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func openRetry(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// read returns a control file's bytes without the last newline. It avoids os.ReadFile, which would put each of these
// files under epoll.
func read(dir, file string) ([]byte, error) {
	path := dir + "/" + file
	fd, err := openRetry(path, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	data := make([]byte, 0, 512)
	for {
		n, err := unix.Read(fd, data[len(data):cap(data)])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return bytes.TrimSuffix(data, []byte("\n")), nil
		default:
			data = slices.Grow(data[:len(data)+n], 512)
		}
	}
}

// readUint reads a number; "max", -1 and anything unreadable are ok=false.
func readUint(dir, file string) (uint64, bool) {
	data, err := read(dir, file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(data), 10, 64)
	return n, err == nil
}

// keyed calls f for each "key value" line of a control file.
func keyed(data []byte, f func(key string, value uint64)) {
	for line := range bytes.Lines(data) {
		key, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(string(value), 10, 64); err == nil {
			f(string(key), n)
		}
	}
}

func exists(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil
}

func itoa(n int64) string  { return strconv.FormatInt(n, 10) }
func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

// countOOM reads how many processes of a group the kernel killed for want of memory, out of the file that says so.
func countOOM(dir, file string) (kills uint64, err error) {
	data, err := read(dir, file)
	keyed(data, func(key string, v uint64) {
		if key == "oom_kill" {
			kills = v
		}
	})
	return kills, err
}
