package harness

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// StartRemapped starts a daemon with --userns-remap for the user "daemon", whom the test gives 65536 numbers from 300000 on in
// files of its own, and gives it busybox.
func StartRemapped(t testing.TB) *Daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: real containers")
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Skipf("this host has no %s", file)
		}
		own := filepath.Join(t.TempDir(), "sub")
		if err := os.WriteFile(own, []byte(string(text)+"\ndaemon:300000:65536\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(own, file, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(file, unix.MNT_DETACH) })
	}
	d := New(t, "--userns-remap", "daemon")
	if err := os.Chmod(d.Dir, 0o711); err != nil { // the containers' root must come through
		t.Fatal(err)
	}
	d.Up()
	d.Busybox()
	return d
}
