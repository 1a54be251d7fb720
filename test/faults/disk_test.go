package faults

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"longshore/test/harness"
)

// smallDisk puts the data root on a file system of its own of so many MB.
func smallDisk(t *testing.T, d *harness.Daemon, mb int64) {
	t.Helper()
	image := d.Dir + ".ext4"
	t.Cleanup(func() { _ = os.Remove(image) })
	f, err := os.Create(image)
	must(t, err)
	must(t, f.Truncate(mb<<20))
	must(t, f.Close())
	command(t, "mkfs.ext4", "-q", "-F", "-m", "0", image)
	must(t, os.Mkdir(d.DataRoot(), 0o711))
	command(t, "mount", "-o", "loop,errors=remount-ro", image, d.DataRoot())
}

// fill takes what is free of the data root's disk but for so many KB.
func fill(t *testing.T, d *harness.Daemon, leave int64) (free func()) {
	t.Helper()
	path := filepath.Join(d.DataRoot(), "filler")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) // what is there already stays
	must(t, err)
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for n := len(chunk); n >= 1024; {
		if _, err := f.Write(chunk[:n]); err != nil {
			n /= 2
		}
	}
	if leave > 0 {
		st, err := f.Stat()
		must(t, err)
		must(t, f.Truncate(st.Size()-leave<<10))
	}
	must(t, f.Sync())
	return func() { must(t, os.Remove(path)) }
}

// freeSpace of the data root in bytes.
func freeSpace(t *testing.T, d *harness.Daemon) int64 {
	t.Helper()
	unix.Sync()
	var st unix.Statfs_t
	must(t, unix.Statfs(d.DataRoot(), &st))
	return int64(st.Bfree) * st.Bsize
}

// archiveOf is a tar with one file of so many random bytes.
func archiveOf(t *testing.T, name string, size int) []byte {
	t.Helper()
	body := make([]byte, size)
	_, _ = rand.Read(body)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size), Typeflag: tar.TypeReg}))
	_, err := w.Write(body)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

// TestFullDisk: what needs room fails with words that say so and leaves nothing; what runs goes on; with room everything works again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	smallDisk(t, d, 96)
	d.Up()
	d.Busybox()
	d.OK("run", "-d", "--name", "box", "busybox", "sh", "-c", "i=0; while :; do echo line $i; i=$((i+1)); usleep 20000; done")
	d.OK("volume", "create", "before")
	d.OK("create", "--name", "made", "busybox", "true")
	if r := d.DockerIn(strings.NewReader("FROM busybox\nRUN true\n"), "build", "-t", "built", "-"); r.Code != 0 { // the builder is open
		t.Fatal(r.Out, r.Err)
	}
	empty := freeSpace(t, d)
	if r := d.DockerIn(bytes.NewReader(archiveOf(t, "other", 4<<20)), "import", "-", "other"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	d.OK("save", "-o", filepath.Join(d.Dir, "saved.tar"), "other")
	remote := serveImage(t, d, "other")
	d.OK("rmi", remote)
	d.OK("rmi", "other")
	harness.Eventually(t, patience, "the image is collected", func() bool { return freeSpace(t, d) > empty-2<<20 })
	big := archiveOf(t, "big", 8<<20)
	before := freeSpace(t, d)
	room := fill(t, d, 2048)
	full := func(what string, r harness.Result) {
		t.Helper()
		if r.Code == 0 || !strings.Contains(strings.ToLower(r.Out+r.Err), "no space left on device") {
			t.Errorf("%s on a full disk: exit %d\n%s%s", what, r.Code, r.Out, r.Err)
		}
	}
	full("import", d.DockerIn(bytes.NewReader(big), "import", "-", "imported"))
	full("pull", d.Docker("pull", remote))
	full("cp", d.DockerIn(bytes.NewReader(big), "cp", "-", "made:/"))
	full("build", d.DockerIn(strings.NewReader("FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=8\n"), "build", "--no-cache", "-t", "toobig", "-"))
	full("exec", d.Docker("exec", "box", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=8"))
	full("commit", d.Docker("commit", "box", "committed"))
	d.OK("exec", "box", "rm", "-f", "/big")
	room()
	room = fill(t, d, 0) // to the last block
	full("create", d.Docker("create", "--name", "never", "busybox", "true"))
	full("run", d.Docker("run", "--name", "never2", "busybox", "true"))
	volume := d.Docker("volume", "create", "never")
	for range 5 { // what the engine gives back meanwhile makes room
		if volume.Code != 0 {
			break
		}
		d.OK("volume", "rm", "never")
		fill(t, d, 0)
		volume = d.Docker("volume", "create", "never")
	}
	full("volume create", volume)
	full("load", d.Docker("load", "-i", filepath.Join(d.Dir, "saved.tar")))
	prompt(t, d, "ps", "-a")
	prompt(t, d, "images")
	prompt(t, d, "system", "df", "-v")
	prompt(t, d, "logs", "--tail", "1", "box")
	if out := prompt(t, d, "exec", "box", "echo", "fine"); out != "fine" {
		t.Errorf("exec on a full disk: %q", out)
	}
	prompt(t, d, "stop", "-t", "0", "box")
	if s := d.OK("inspect", "-f", "{{.State.Status}}", "box"); s != "exited" {
		t.Errorf("a container that was stopped on a full disk is %s", s)
	}
	room()
	for _, name := range []string{"never", "never2"} {
		d.Fails("No such container", "container", "inspect", name)
	}
	d.Fails("no such volume", "volume", "inspect", "never")
	d.OK("rm", "-f", "box")
	for _, image := range []string{"imported", "committed", "toobig", "other", remote} {
		d.Fails("No such image", "image", "inspect", image)
	}
	d.OK("builder", "prune", "-af")
	// What was half made goes with the next collections; what is allowed to stay is small: records, events, logs.
	harness.Eventually(t, patience, "nothing half made is left", func() bool { return freeSpace(t, d) > before-6<<20 })
	if out := d.OK("run", "--rm", "-v", "never:/data", "busybox", "echo", "fine"); out != "fine" {
		t.Errorf("run after the disk has room again: %q", out)
	}
	d.OK("start", "made")
	if r := d.DockerIn(bytes.NewReader(big), "import", "-", "imported"); r.Code != 0 {
		t.Errorf("import after the disk has room again: %s", r.Err)
	}
	d.OK("rmi", "imported")
	d.OK("pull", remote)
	d.OK("rmi", remote)
	// Full again: the daemon is killed, and starts.
	d.OK("run", "-d", "--name", "box", "busybox", "sleep", "100000")
	room = fill(t, d, 0)
	d.Kill()
	d.Up()
	if s := prompt(t, d, "inspect", "-f", "{{.State.Status}}", "box"); s != "running" {
		t.Errorf("after a start on a full disk the container is %s", s)
	}
	prompt(t, d, "stop", "-t", "0", "box")
	d.Stop()
	d.Up()
	if s := prompt(t, d, "inspect", "-f", "{{.State.Status}}", "box"); s != "exited" {
		t.Errorf("after a stop and a start on a full disk the container is %s", s)
	}
	// Removing makes room, so it must work without.
	prompt(t, d, "rm", "-f", "-v", "box")
	prompt(t, d, "volume", "rm", "before")
	prompt(t, d, "rmi", "built")
	room()
}

// TestReadOnlyDisk: the kernel has made the data root read-only, as it does after an error of the disk.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	smallDisk(t, d, 64)
	d.Up()
	d.Busybox()
	d.OK("run", "-d", "--name", "box", "--tmpfs", "/tmp", "busybox", "sh", "-c", "while :; do echo line; usleep 100000; done")
	unix.Sync()
	command(t, "mount", "-o", "remount,abort", d.DataRoot())
	readOnly := func(r harness.Result) {
		t.Helper()
		if r.Code == 0 || !strings.Contains(strings.ToLower(r.Out+r.Err), "read-only file system") {
			t.Errorf("exit %d\n%s%s", r.Code, r.Out, r.Err)
		}
	}
	readOnly(d.Docker("create", "--name", "never", "busybox", "true"))
	readOnly(d.Docker("volume", "create", "never"))
	readOnly(d.Docker("network", "create", "never"))
	readOnly(d.DockerIn(bytes.NewReader(archiveOf(t, "x", 1000)), "import", "-", "imported"))
	for _, args := range [][]string{{"ps", "-a"}, {"images"}, {"info"}, {"network", "ls"}, {"volume", "ls"}, {"logs", "--tail", "1", "box"}} {
		prompt(t, d, args...)
	}
	if out := prompt(t, d, "exec", "box", "echo", "fine"); out != "fine" {
		t.Errorf("exec on a read-only disk: %q", out)
	}
	prompt(t, d, "stop", "-t", "0", "box")
	if s := prompt(t, d, "inspect", "-f", "{{.State.Status}}", "box"); s != "exited" {
		t.Errorf("a container that was stopped on a read-only disk is %s", s)
	}
	// The disk is repaired while the daemon is down.
	d.Kill()
	for range 3 {
		_ = unix.Unmount(d.DataRoot(), 0)
	}
	unmountAll(t, d)
	// A copy, for whoever made a mount namespace meanwhile still has the read-only one, which a mount of the same file would find.
	repaired := d.Dir + ".repaired.ext4"
	t.Cleanup(func() { _ = os.Remove(repaired) })
	command(t, "cp", "--sparse=always", d.Dir+".ext4", repaired)
	command(t, "mount", "-o", "loop", repaired, d.DataRoot())
	d.Up()
	if s := prompt(t, d, "inspect", "-f", "{{.State.Status}}", "box"); s != "exited" {
		t.Errorf("after the repair the container is %s", s)
	}
	d.Fails("No such container", "container", "inspect", "never")
	d.OK("start", "box")
	d.OK("run", "--rm", "busybox", "true")
	d.OK("rm", "-f", "box")
}

// unmountAll takes what is mounted on and below the data root away.
func unmountAll(t *testing.T, d *harness.Daemon) {
	t.Helper()
	if !harness.Within(patience, func() bool {
		b, err := os.ReadFile("/proc/self/mountinfo")
		must(t, err)
		found := ""
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 4 && (f[4] == d.DataRoot() || strings.HasPrefix(f[4], d.DataRoot()+"/")) {
				found = f[4] // the last one is on top
			}
		}
		if found != "" {
			_ = unix.Unmount(found, unix.MNT_DETACH)
		}
		return found == ""
	}) {
		t.Fatal("the disk stays mounted")
	}
}
