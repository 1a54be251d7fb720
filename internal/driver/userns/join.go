package userns

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Join is Enter for a user namespace that is there already, at path. A process with more than one thread cannot enter one:
// the host's nsenter and unshare do it.
func Join(path string, flags uintptr, f func(pid int) error) error {
	args := []string{"--user=" + path, "unshare"}
	if flags&unix.CLONE_NEWNET != 0 {
		args = append(args, "--net")
	}
	c := exec.Command("nsenter", append(args, "sh", "-c", "echo here; read end")...)
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	var words strings.Builder
	c.Stderr = &words
	if err := c.Start(); err != nil {
		return fmt.Errorf("join user namespace %s: %w", path, err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil && line == "here\n" {
		err = f(c.Process.Pid)
	} else {
		err = fmt.Errorf("join user namespace %s: %w", path, err)
	}
	_ = in.Close()
	if werr := c.Wait(); werr != nil && err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(words.String()))
	}
	return err
}
