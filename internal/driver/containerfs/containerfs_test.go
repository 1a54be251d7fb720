package containerfs

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func disk(t *testing.T) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners and mounts")
	}
	d, err := New(filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "exec"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLifeOfADirectory(t *testing.T) {
	d := disk(t)
	must(t, d.Make("c1"))
	must(t, d.Make("c1"))
	must(t, d.Write("c1", "hosts", []byte("one")))
	before, err := os.Stat(filepath.Join(d.Dir("c1"), "hosts"))
	must(t, err)
	must(t, d.Write("c1", "hosts", []byte("two")))
	after, _ := os.Stat(filepath.Join(d.Dir("c1"), "hosts"))
	if !os.SameFile(before, after) {
		t.Error("the file was replaced: a bind mount of it would not see the change")
	}
	shm, err := d.MountShm("c1", 1<<20)
	must(t, err)
	if again, err := d.MountShm("c1", 1<<20); err != nil || again != shm {
		t.Errorf("mounted twice: %s %v", again, err)
	}
	must(t, os.WriteFile(filepath.Join(shm, "x"), nil, 0o600))
	if ids, err := d.Found(); err != nil || len(ids) != 1 || ids[0] != "c1" {
		t.Errorf("found %v %v", ids, err)
	}
	must(t, d.Delete("c1"))
	must(t, d.Delete("c1"))
	if mounted(shm) || d.Exists(d.Dir("c1")) || d.Exists(d.Rootfs("c1")) {
		t.Error("something is left")
	}
}

func TestCopyUp(t *testing.T) {
	d := disk(t)
	root, dst := t.TempDir(), t.TempDir()
	src := filepath.Join(root, "srv")
	must(t, os.MkdirAll(filepath.Join(src, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(src, "sub", "f"), []byte("text"), 0o640))
	must(t, os.Chown(filepath.Join(src, "sub", "f"), 12, 34))
	must(t, os.Link(filepath.Join(src, "sub", "f"), filepath.Join(src, "hard")))
	must(t, os.Symlink("/etc/passwd", filepath.Join(src, "link")))
	must(t, unix.Mkfifo(filepath.Join(src, "fifo"), 0o600))
	must(t, unix.Chmod(filepath.Join(src, "sub"), 0o3751))
	must(t, unix.Setxattr(filepath.Join(src, "sub"), "user.k", []byte("v"), 0))
	must(t, os.Chown(src, 5, 6))
	must(t, os.Symlink("srv", filepath.Join(root, "alias")))

	must(t, d.CopyUp(context.Background(), root, "/alias", dst, false))
	var st, hard, top, sub unix.Stat_t
	must(t, unix.Stat(filepath.Join(dst, "sub", "f"), &st))
	must(t, unix.Stat(filepath.Join(dst, "hard"), &hard))
	must(t, unix.Stat(dst, &top))
	must(t, unix.Stat(filepath.Join(dst, "sub"), &sub))
	if st.Uid != 12 || st.Gid != 34 || st.Mode&0o7777 != 0o640 || st.Ino != hard.Ino || top.Uid != 5 || sub.Mode&0o7777 != 0o3751 {
		t.Errorf("attributes differ: %+v %+v %+v", st, top, sub)
	}
	if l, _ := os.Readlink(filepath.Join(dst, "link")); l != "/etc/passwd" {
		t.Errorf("link to %q", l)
	}
	value := make([]byte, 8)
	if n, err := unix.Getxattr(filepath.Join(dst, "sub"), "user.k", value); err != nil || string(value[:n]) != "v" {
		t.Errorf("xattr: %v", err)
	}
	if fi, err := os.Lstat(filepath.Join(dst, "fifo")); err != nil || fi.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("fifo: %v %v", fi, err)
	}
}

func TestCopyUpLeavesWhatIsThere(t *testing.T) {
	d := disk(t)
	root, dst := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, "srv"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "srv", "new"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(root, "file"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(dst, "old"), nil, 0o644))
	must(t, d.CopyUp(context.Background(), root, "/srv", dst, false))
	if d.Exists(filepath.Join(dst, "new")) {
		t.Error("a volume with content was changed")
	}
	empty := t.TempDir()
	must(t, d.CopyUp(context.Background(), root, "/none", empty, false))
	must(t, d.CopyUp(context.Background(), root, "/file", empty, false))
}

// TestNothingOutsideTheRoot: links of an image that point to the host's files are resolved inside the root.
func TestNothingOutsideTheRoot(t *testing.T) {
	d := disk(t)
	root, dst := t.TempDir(), t.TempDir()
	must(t, os.Symlink("/../../../etc", filepath.Join(root, "out")))
	must(t, d.CopyUp(context.Background(), root, "/out", dst, false))
	if entries, _ := os.ReadDir(dst); len(entries) != 0 {
		t.Errorf("the host's /etc was copied: %v", entries)
	}
}
