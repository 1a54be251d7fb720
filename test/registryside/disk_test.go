package registryside

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"longshore/test/harness"
)

func execute(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// TestDownloadsOnFullDisk: a layer that does not fit fails with words that say so, at once, and gives back what it took.
func TestDownloadsOnFullDisk(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	disk := d.Dir + ".ext4"
	t.Cleanup(func() { _ = os.Remove(disk) })
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, 64*mib))
	execute(t, "mkfs.ext4", "-q", "-F", "-m", "0", disk)
	must(t, os.Mkdir(d.DataRoot(), 0o711))
	execute(t, "mount", "-o", "loop", disk, d.DataRoot())
	d.Up()
	h := newHub(d)
	l := h.simple("big", "1", 16*mib)[0]
	filler := filepath.Join(d.DataRoot(), "filler")
	execute(t, "fallocate", "-l", "40M", filler)
	d.Fails("no space left on device", "pull", h.host+"/big:1")
	if n := len(ranges(h, l)); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if left := beginnings(d); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	must(t, os.Remove(filler))
	d.OK("pull", h.host+"/big:1")
	d.OK("rmi", h.host+"/big:1")
}
