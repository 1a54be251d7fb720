package enter

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"longshore/internal/base/shimproto"
)

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		command, path string
		want          []string // nil: the runtime's
	}{
		{"sh", "PATH=/a:/b", []string{"/a/sh", "/b/sh"}},
		{"./sh", "PATH=/a", []string{"./sh"}},
		{"/sh", "PATH=", []string{"/sh"}},
		{"sh", "PATH=", nil},
		{"sh", "PATH=/a:", nil},
		{"sh", "PATH=a:/b", nil},
		{"sh", "XPATH=/a", nil},
		{"", "PATH=/a", nil},
	} {
		got, err := candidates(c.command, []string{"A=b", c.path})
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%q with %s: %q %v", c.command, c.path, got, err)
		}
	}
}

func TestHome(t *testing.T) {
	const passwd = "root:x:0:0::/root:/bin/sh\nbroken\n:x:5\nweb:x:33:33:w:/var/www\nagain:x:33:33::/other:\nlast:x:7:7::/seven:/bin/sh"
	root := t.TempDir()
	dir, err := syscall.Open(root, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(dir)
	home := func(uid uint32, env ...string) string {
		t.Helper()
		got, err := withHome(&shimproto.Plan{UID: uid, Env: env}, func() (int, func(), error) { return dir, func() {}, nil })
		if err != nil {
			return "error"
		}
		return strings.Join(got, " ")
	}
	if got := home(0, "A=b"); got != "A=b HOME=/" {
		t.Errorf("no file: %s", got)
	}
	file := filepath.Join(root, "etc", "passwd")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[uint32]string{0: "HOME=/root", 33: "HOME=/var/www", 7: "HOME=/seven", 5: "", 8: ""} {
		if got := home(uid); got != want {
			t.Errorf("%d: %q, want %q", uid, got, want)
		}
	}
	if got := home(33, "HOME="); got != "HOME=" {
		t.Errorf("a HOME that is set: %s", got)
	}
	// Links lead to places below the root; a pipe is not waited for.
	os.Remove(file)
	if err := os.Symlink("/etc/passwd", file); err != nil {
		t.Fatal(err)
	}
	if got := home(0); got != "error" {
		t.Errorf("a link to itself: %s", got)
	}
	os.Remove(file)
	if err := syscall.Mkfifo(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := home(0); got != "error" {
		t.Errorf("a pipe: %s", got)
	}
}
