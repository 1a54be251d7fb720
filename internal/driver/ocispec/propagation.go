package ocispec

import (
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"

	"longshore/internal/core/fault"
)

// checkPropagation refuses a bind whose source lies on a mount with none of the wanted kinds ("shared", "master").
func checkPropagation(source string, wanted ...string) error {
	real, err := filepath.EvalSymlinks(source)
	if err != nil {
		return fault.Invalid("%w", err)
	}
	infos, err := mountinfo.GetMounts(mountinfo.ParentsFilter(real))
	if err != nil {
		return err
	}
	var best *mountinfo.Info
	for _, info := range infos {
		if best == nil || len(info.Mountpoint) >= len(best.Mountpoint) {
			best = info // the later of two on one point covers the earlier
		}
	}
	if best == nil {
		return fault.Invalid("Can't find mount point of %s", source)
	}
	for _, field := range strings.Fields(best.Optional) {
		for _, kind := range wanted {
			if strings.HasPrefix(field, kind+":") {
				return nil
			}
		}
	}
	kinds := "a shared mount"
	if len(wanted) > 1 {
		kinds = "a shared or slave mount"
	}
	return fault.Invalid("path %s is mounted on %s but it is not %s", source, best.Mountpoint, kinds)
}
