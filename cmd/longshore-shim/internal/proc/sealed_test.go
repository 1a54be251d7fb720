package proc

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSealed: a runtime that is known for it is executed from a read-only mount and told so; other programs and scripts
// are executed as they are. No mount is left.
func TestSealed(t *testing.T) {
	r := reaper(t)
	dir := t.TempDir()
	touch, err := exec.LookPath("touch")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(touch)
	if err != nil {
		t.Fatal(err)
	}
	script := []byte("#!/bin/sh\n[ -z \"$_LIBCONTAINER_CLONED_BINARY\" ] && touch \"$0\"\n")
	for name, c := range map[string]struct {
		content []byte
		code    int
	}{"crun": {binary, 1}, "runc": {binary, 1}, "youki": {binary, 0}, "script/crun": {script, 0}} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, c.content, 0o755); err != nil {
			t.Fatal(err)
		}
		release := r.Hold()
		pid, err := Start([]string{path, "--no-create", "/proc/self/exe"}, null(t), nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		over := make(chan Status, 1)
		r.Claim(pid, func(st Status) { over <- st })
		release()
		if st := <-over; st.Code != c.code {
			t.Errorf("%s: its own file: exit status %d instead of %d", name, st.Code, c.code)
		}
	}
	if _, env, done := seal("/bin/sh"); strings.Contains(strings.Join(env, " "), clonedMark) {
		t.Error("another program is told that it is a runtime")
	} else {
		done()
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, filepath.Base(filepath.Dir(dir))) { // of the file or on it
			t.Error("a mount is left:", line)
		}
	}
}
