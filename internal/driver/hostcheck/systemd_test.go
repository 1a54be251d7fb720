package hostcheck

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestSystemd(t *testing.T) {
	if err := systemdAt(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := systemdAt(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "systemd not running on this host") {
		t.Error(err)
	}
}
