package hostcheck

import (
	"os"

	"longshore/internal/core/fault"
)

// Systemd answers nil where systemd manages this host's control groups, else what to do about it.
func Systemd() error { return systemdAt("/run/systemd/system") }

func systemdAt(dir string) error {
	if st, err := os.Lstat(dir); err == nil && st.IsDir() {
		return nil
	}
	return fault.Invalid("exec-opts: native.cgroupdriver=systemd: systemd not running on this host, cannot use systemd as cgroups manager (%s is missing): use native.cgroupdriver=cgroupfs", dir)
}
