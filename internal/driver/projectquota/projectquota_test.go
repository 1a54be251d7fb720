package projectquota

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestLayout compares with the kernel's structures.
func TestLayout(t *testing.T) {
	if n := unsafe.Sizeof(attrs{}); n != 28 {
		t.Errorf("struct fsxattr has 28 bytes, not %d", n)
	}
	b := encode(7, 1<<20)
	want := append([]byte{1, 2, 12, 0, 7, 0, 0, 0}, bytes.Repeat([]byte{0, 8, 0, 0, 0, 0, 0, 0}, 2)...)
	if !bytes.Equal(b[:len(want)], want) || len(b) != 112 {
		t.Errorf("% x", b[:len(want)])
	}
	if b := encode(7, 1); b[8] != 1 {
		t.Error("a part of a block counts as one")
	}
}

func TestUnsupported(t *testing.T) {
	dir := t.TempDir()
	if Supported(dir) == nil {
		t.Skip("the file system of temporary files has project quotas")
	}
	if err := Supported(dir); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if err := Limit(7, 1<<20, dir); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if err := Supported(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there")
	}
}

// TestLimit writes beyond a bound on a file system made for it.
func TestLimit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a file system")
	}
	dir := quotaFS(t)
	for i, name := range []string{"a", "b"} {
		sub := filepath.Join(dir, name)
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := Limit(uint32(10+i), 1<<20, sub); err != nil {
			t.Fatal(err)
		}
		if n, err := Bound(sub); err != nil || n != 1<<20 {
			t.Errorf("bound %d %v", n, err)
		}
		err := os.WriteFile(filepath.Join(sub, "f"), make([]byte, 2<<20), 0o600)
		if !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: 2 MiB were written below a bound of one: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "free"), make([]byte, 2<<20), 0o600); err != nil {
		t.Errorf("outside of the projects: %v", err)
	}
}

// quotaFS mounts a small ext4 with project quotas.
func quotaFS(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 32<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-O", "quota,project", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4 with project quotas: %v %s", err, out)
	}
	dir := filepath.Join(filepath.Dir(image), "fs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop,prjquota", image, dir).CombinedOutput(); err != nil {
		t.Skipf("this kernel mounts no ext4 with project quotas: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	return dir
}
