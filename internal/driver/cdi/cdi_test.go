package cdi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const description = `{"cdiVersion": "0.5.0", "kind": "vendor.com/class", "devices": [
	{"name": "one", "containerEdits": {"env": ["ONE=1"], "deviceNodes": [{"path": "/dev/one", "hostPath": "/dev/null", "permissions": "rw"}],
		"mounts": [{"hostPath": "/etc", "containerPath": "/opt/one", "options": ["ro", "bind"]}]}},
	{"name": "two", "containerEdits": {"env": ["TWO=2"]}}], "containerEdits": {"env": ["ALL=yes"]}}`

func TestInject(t *testing.T) {
	dir := t.TempDir()
	d := New([]string{dir, filepath.Join(dir, "missing")})
	spec := func() *specs.Spec { return &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}} }
	if err := d.Inject(spec(), []string{"vendor.com/class=one"}); err == nil || err.Error() != "CDI device injection failed: unresolvable CDI devices vendor.com/class=one" {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vendor.json"), []byte(description), 0o600); err != nil {
		t.Fatal(err)
	}
	s := spec()
	if err := d.Inject(s, []string{"vendor.com/class=one"}); err != nil { // a file that came since is seen
		t.Fatal(err)
	}
	if !slices.Contains(s.Process.Env, "ONE=1") || !slices.Contains(s.Process.Env, "ALL=yes") || slices.Contains(s.Process.Env, "TWO=2") {
		t.Error(s.Process.Env)
	}
	if len(s.Mounts) != 1 || s.Mounts[0].Destination != "/opt/one" {
		t.Error(s.Mounts)
	}
	if len(s.Linux.Devices) != 1 || s.Linux.Devices[0].Path != "/dev/one" || s.Linux.Devices[0].Major != 1 {
		t.Error(s.Linux.Devices)
	}
	if len(s.Linux.Resources.Devices) != 1 || s.Linux.Resources.Devices[0].Access != "rw" {
		t.Error(s.Linux.Resources)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	names, warnings := d.List()
	if !slices.Equal(names, []string{"vendor.com/class=one", "vendor.com/class=two"}) {
		t.Error(names)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "broken.json") {
		t.Error(warnings)
	}
	if err := d.Inject(spec(), []string{"vendor.com/class=one", "none"}); err == nil {
		t.Error("an unknown name among known ones is an error")
	}
}

func TestDefaultDirs(t *testing.T) {
	if d := New(nil).Dirs(); !slices.Equal(d, []string{"/etc/cdi", "/var/run/cdi"}) {
		t.Error(d)
	}
}
