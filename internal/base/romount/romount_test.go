package romount

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestOf: what is reached by the mount cannot be written, whatever the file itself allows; nothing is attached.
func TestOf(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("text"), 0o666); err != nil {
		t.Fatal(err)
	}
	fd, err := Of(path)
	if errors.Is(err, syscall.ENOSYS) {
		t.Skip("the kernel has no detached mounts")
	}
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(Path(fd)); err != nil || string(b) != "text" {
		t.Errorf("%q %v", b, err)
	}
	if err := os.WriteFile(Path(fd), nil, 0); !errors.Is(err, syscall.EROFS) {
		t.Errorf("written: %v", err)
	}
	if err := os.WriteFile(path, []byte("new"), 0); err != nil {
		t.Errorf("the file itself: %v", err)
	}
	syscall.Close(fd)
	if _, err := os.Stat(Path(fd)); !os.IsNotExist(err) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := Of(path + "x"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := Of("a\x00b"); err == nil {
		t.Error("of a name with a zero byte")
	}
}
