// Package leanprocess gives memory back that the start of a large program has made resident: the initialisation of all
// packages touches pages all over the file, and the kernel maps their neighbours along with them.
package leanprocess

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
)

// Trim unmaps the program's own read-only pages, and frees the heap's unused ones. Pages that are used again come back
// from the page cache without being read. It is meant to be called once, when a daemon is ready.
func Trim() error {
	debug.FreeOSMemory()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	for _, m := range readOnly(maps, self) {
		if err := unmap(m[0], m[1]); err != nil {
			return err
		}
	}
	return nil
}

// readOnly finds the mappings of a file that are neither writable nor hold pages that differ from the file's.
func readOnly(smaps []byte, file string) (list [][2]uintptr) {
	var from, to uintptr
	ours := false
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		line := lines.Text()
		var a, b uintptr
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &a, &b, &mode); n == 3 {
			from, to = a, b
			ours = strings.HasSuffix(line, " "+file) && !strings.Contains(mode, "w")
			continue
		}
		// The last of the lines that could say so, "Anonymous:", tells of pages that were written to before.
		if name, value, ok := strings.Cut(line, ":"); ok && ours && name == "Anonymous" && strings.TrimSpace(value) == "0 kB" {
			list = append(list, [2]uintptr{from, to})
		}
	}
	return list
}

func unmap(from, to uintptr) error {
	_, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
	if errno != 0 {
		return fmt.Errorf("madvise: %w", errno)
	}
	return nil
}
