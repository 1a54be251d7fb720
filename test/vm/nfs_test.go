package vm

import (
	"os"
	"path/filepath"
	"testing"

	"longshore/test/harness"
)

// TestNFSVolume: the kernel's own server, both versions of the protocol that it speaks.
func TestNFSVolume(t *testing.T) {
	d := onHost(t)
	const export = "/srv/export"
	must(t, os.MkdirAll(export, 0o777))
	must(t, os.WriteFile("/etc/exports", []byte(export+" 127.0.0.1(rw,no_root_squash,no_subtree_check,insecure)\n"), 0o600))
	sh(t, "systemctl", "start", "nfs-server")
	t.Cleanup(func() { sh(t, "systemctl", "stop", "nfs-server") })
	d.Up()
	d.Busybox()
	for name, options := range map[string]string{
		"four":  "addr=127.0.0.1,rw,nfsvers=4.2",
		"three": "addr=localhost,rw,nfsvers=3,nolock",
		"read":  "addr=127.0.0.1,ro,nfsvers=4",
	} {
		nfsVolume(t, d, export, name, options)
	}
	d.OK("volume", "create", "-o", "type=nfs", "-o", "o=addr=127.0.0.1,nfsvers=4", "-o", "device=:/none", "none")
	d.Fails("no such file or directory", "run", "--rm", "-v", "none:/v", "busybox", "true")
}

func nfsVolume(t *testing.T, d *harness.Daemon, export, name, options string) {
	must(t, os.WriteFile(filepath.Join(export, "there"), []byte("from the server\n"), 0o600))
	d.OK("volume", "create", "-o", "type=nfs", "-o", "o="+options, "-o", "device=:"+export, name)
	if out := d.OK("run", "--rm", "-v", name+":/v", "busybox", "sh", "-c", "cat /v/there; awk '$2 == \"/v\" {print $3}' /proc/mounts"); out != "from the server\nnfs" && out != "from the server\nnfs4" {
		t.Errorf("%s: got %q", name, out)
	}
	if name == "read" {
		d.Fails("Read-only file system", "run", "--rm", "-v", name+":/v", "busybox", "touch", "/v/x")
	} else {
		d.OK("run", "-d", "--name", name, "-v", name+":/v", "busybox", "sh", "-c", "while sleep 0.1; do date +%s%N >> /v/"+name+"; done")
		d.Kill()
		d.Up()
		d.OK("run", "--rm", "-v", name+":/v", "busybox", "test", "-s", "/v/"+name)
		if b, err := os.ReadFile(filepath.Join(export, name)); err != nil || len(b) == 0 {
			t.Errorf("%s: the server has %q %v", name, b, err)
		}
		d.OK("rm", "-f", name)
	}
	d.OK("volume", "rm", name)
	if _, err := os.Stat(filepath.Join(export, "there")); err != nil {
		t.Errorf("%s: the removal of the volume reached the server: %v", name, err)
	}
}
