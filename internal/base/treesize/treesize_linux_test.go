package treesize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// plain is the same sum in the simplest way.
func plain(t *testing.T, dir string) (sum Total) {
	t.Helper()
	seen := map[uint64]bool{}
	err := filepath.Walk(dir, func(_ string, fi os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("no stat")
		}
		if !seen[st.Ino] {
			seen[st.Ino] = true
			sum.Inodes++
			sum.Blocks += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestTotal(t *testing.T) {
	dir := t.TempDir()
	check := func(what string) {
		t.Helper()
		got, err := Of(t.Context(), dir)
		if want := plain(t, dir); err != nil || got != want {
			t.Errorf("%s: %+v (%v), want %+v", what, got, err, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("empty")
	for i := range 700 { // more than one read of the directory
		must(os.WriteFile(filepath.Join(dir, fmt.Sprintf("file with a long name %04d", i)), []byte(strings.Repeat("x", i*10)), 0o600))
	}
	check("many files")
	must(os.Link(filepath.Join(dir, "file with a long name 0699"), filepath.Join(dir, "again")))
	must(os.Symlink("/", filepath.Join(dir, "out")))
	must(os.Symlink(".", filepath.Join(dir, "loop")))
	for _, d := range []string{"a/b/c", "a/d", "e/f", "e/g/h/i"} {
		must(os.MkdirAll(filepath.Join(dir, d), 0o700))
		must(os.WriteFile(filepath.Join(dir, d, "f"), make([]byte, 10000), 0o600))
	}
	must(os.Link(filepath.Join(dir, "a/d/f"), filepath.Join(dir, "e/again")))
	must(syscall.Mkfifo(filepath.Join(dir, "a", "fifo"), 0o600))
	check("links, directories and a pipe")
	must(os.MkdirAll(filepath.Join(dir, strings.Repeat("d/", deepest+200)), 0o700))
	check("deep")
}

func TestErrors(t *testing.T) {
	if _, err := Of(t.Context(), filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Of(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
