package vm

import (
	"strings"
	"testing"

	"longshore/test/harness"
)

// TestProjectQuotas: sizes of writable layers and volumes are kept by the kernel and told to those inside, on both file
// systems that can.
func TestProjectQuotas(t *testing.T) {
	machine(t)
	for name, fs := range map[string]struct {
		mkfs  []string
		words string // xfs calls a full project a full disk
	}{
		"ext4": {[]string{"mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota"}, "Disk quota exceeded"},
		"xfs":  {[]string{"mkfs.xfs", "-q"}, "No space left on device"},
	} {
		t.Run(name, func(t *testing.T) {
			d := harness.New(t, "--storage-opt", "overlay2.size=8m")
			disk(t, d.DataRoot(), "512M", "prjquota", fs.mkfs...)
			d.Up()
			d.Busybox()
			quotas(t, d, fs.words)
		})
	}
}

func quotas(t *testing.T, d *harness.Daemon, words string) {
	write := []string{"busybox", "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=12"}
	size := func(name, dir string) string { // in KiB, as the container sees it
		return strings.Fields(d.OK("exec", name, "sh", "-c", "df -k "+dir+" | tail -1"))[1]
	}
	d.Fails(words, append([]string{"run", "--rm"}, write...)...)
	d.OK(append([]string{"run", "--rm", "--storage-opt", "size=32m"}, write...)...)
	d.OK("run", "-d", "--name", "usual", "busybox", "sleep", "1000")
	d.OK("run", "-d", "--name", "more", "--storage-opt", "size=16m", "busybox", "sleep", "1000")
	if out := size("usual", "/"); out != "8192" {
		t.Errorf("the usual container sees %s KiB", out)
	}
	if out := size("more", "/"); out != "16384" {
		t.Errorf("the bigger container sees %s KiB", out)
	}
	if out := inspect(d, "more", "json .HostConfig.StorageOpt"); out != `{"size":"16m"}` {
		t.Errorf("inspect: %s", out)
	}
	d.OK("exec", "more", "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=12")

	d.OK("volume", "create", "-o", "size=8m", "small")
	d.Fails(words, "run", "--rm", "-v", "small:/v", "busybox", "dd", "if=/dev/zero", "of=/v/f", "bs=1M", "count=12")
	if out := d.OK("volume", "inspect", "-f", "{{json .Options}}", "small"); out != `{"size":"8m"}` {
		t.Errorf("volume: %s", out)
	}
	d.OK("run", "--rm", "-v", "small:/v", "busybox", "rm", "/v/f")
	d.OK("run", "-d", "--name", "user", "-v", "small:/v", "busybox", "sleep", "1000")
	if out := size("user", "/v"); out != "8192" {
		t.Errorf("the volume's user sees %s KiB", out)
	}

	// The bounds belong to the files: they outlive daemon and container, and are nobody else's.
	d.Kill()
	d.Up()
	d.OK("restart", "-t", "0", "more")
	for range 3 {
		d.Fails(words, append([]string{"run", "--rm"}, write...)...)
	}
	d.Fails(words, "exec", "more", "dd", "if=/dev/zero", "of=/g", "bs=1M", "count=12")
	d.OK("exec", "more", "rm", "/f")
	d.OK("exec", "more", "dd", "if=/dev/zero", "of=/h", "bs=1M", "count=3")
	d.OK("exec", "user", "dd", "if=/dev/zero", "of=/v/f", "bs=1M", "count=6")
	d.OK("exec", "usual", "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=6")
	d.Fails(words, "exec", "usual", "dd", "if=/dev/zero", "of=/g", "bs=1M", "count=6")
	d.OK("rm", "-f", "usual", "more", "user")
	d.OK("volume", "rm", "small")
	d.Fails("invalid size: 'many'", "create", "--storage-opt", "size=many", "busybox")
}
